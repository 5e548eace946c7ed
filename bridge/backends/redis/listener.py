"""The reading side: every topic of a process through one connection (one a node of a cluster).

History and states are read through a connection of their own, which is opened when it is needed: a server
closes a subscribed connection on which too much waits. Their positions say where they belong among the
messages. Where no positions are kept, states are read through the subscribed connection, in its order.
"""

import selectors
import time
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hiredis

from bridge.backends.base import PAGE_BYTES, Attached, Event, History, Refused, Seen, States
from bridge.backends.redis.keys import Keys, position_of, states_of
from bridge.backends.redis.link import Awaited, Link, RefusedReply
from bridge.backends.redis.scripts import KEEP, READ_HISTORY, READ_STATES
from bridge.backends.redis.servers import Servers
from bridge.errors import ConnectionLost
from bridge.model.message import Message
from bridge.model.position import ORIGIN, Position
from bridge.model.state import END
from bridge.support.waker import Waker

COMPARE_EVERY = 10.0
"""Seconds between two looks at where each topic is on the server."""

MEMBERS_AT_ONCE = 20
"""Members of a group whose states are asked for together where they are on different nodes."""

_SERVER_FAULTS = (
    "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "BUSY",
    "NOAUTH", "UNKILLABLE",
)  # fmt: skip
"""How errors begin that say nothing of a topic: another connection, later, may have the answer."""


class RedisListener:
    """Reads through one link to each node that has a topic."""

    def __init__(self, servers: Servers, keys: Keys, *, sharded: bool, logged: bool) -> None:
        self._servers = servers
        self._links: dict[Hashable, Link] = {}
        self._bulk: dict[Hashable, Link] = {}
        self._keys = keys
        self._letter = "S" if sharded else ""
        self._logged = logged
        self._topics: dict[bytes, str] = {}
        self._attaching: dict[str, Awaited] = {}
        self._compare_at = time.monotonic() + COMPARE_EVERY
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ)
        if not servers.one_slot:
            self._open(servers.locate(b""))

    def _open(self, node: Hashable) -> Link:
        link = self._links[node] = self._servers.open_link(node)
        self._selector.register(link.socket, selectors.EVENT_READ, link)
        return link

    def _link_for(self, topic: str) -> Link:
        node = self._servers.locate(self._keys.meta(topic))
        return self._links.get(node) or self._open(node)

    def attach(self, topic: str) -> None:
        channel = self._keys.channel(topic)
        self._topics[channel] = topic
        link = self._link_for(topic)
        attaching = link.send("SUBSCRIBE", topic, f"{self._letter}SUBSCRIBE", channel)
        if self._logged:
            attaching = self._look_up("ATTACH", topic)
        self._attaching[topic] = attaching

    def detach(self, topic: str) -> None:
        channel = self._keys.channel(topic)
        self._topics.pop(channel, None)
        self._attaching.pop(topic, None)
        self._link_for(topic).send("UNSUBSCRIBE", topic, f"{self._letter}UNSUBSCRIBE", channel)

    def _bulk_for(self, topic: str) -> Link:
        """Return the connection for what may be large."""
        if not self._logged:
            return self._link_for(topic)
        node = self._servers.locate(self._keys.meta(topic))
        link = self._bulk.get(node)
        if link is None:
            link = self._bulk[node] = self._servers.open_link(node)
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        return link

    def request_state(self, topic: str, after: str | None) -> None:
        self._ask_state(topic, topic, after, _StateOf(after))

    def _ask_state(self, topic: str, member: str, after: str | None, purpose: "_StateOf") -> None:
        """Ask for the state of `topic`, or of a member of that group."""
        purpose.missing += 1
        key, *args = states_call(self._keys, member, after, self._servers.one_slot)
        self._bulk_for(member).send(purpose, topic, "EVAL", READ_STATES, 1, key, *args)

    def request_history(self, topic: str, start: Position) -> None:
        first = b"-" if start.number < 0 else b"%d-%d" % (start.mark, start.number)
        keys = (self._keys.meta(topic), self._keys.log(topic))
        self._bulk_for(topic).send("HISTORY", topic, "EVAL", READ_HISTORY, 2, *keys, first, PAGE_BYTES)

    def _look_up(self, purpose: str, topic: str) -> Awaited:
        """Ask where the topic is now."""
        command = ("HMGET", self._keys.meta(topic), "epoch", "number", "mark")
        return self._link_for(topic).send(purpose, topic, *command)

    def poll(self) -> Sequence[Event]:
        events: list[Event] = []
        for link in self._links.values():
            self._write(link)
        for node, link in list(self._bulk.items()):
            with self._one_more_try(node, link, events):
                self._write(link)
        for key, _ in self._selector.select(0 if events else self._patience()):
            if key.data is None:
                self._waker.drain()
            else:
                self._read(key.data, events)
        self._look_after(events)
        return events

    def _write(self, link: Link) -> None:
        link.write()
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.waits_to_write else 0)
        if self._selector.get_key(link.socket).events != mask:
            self._selector.modify(link.socket, mask, link)

    def _patience(self) -> float:
        """Return the seconds until something is due."""
        links = (*self._links.values(), *self._bulk.values())
        due = min((link.until_probe() for link in links), default=COMPARE_EVERY)
        return min(due, max(0.0, self._compare_at - time.monotonic())) if self._logged else due

    def _look_after(self, events: list[Event]) -> None:
        """Probe what has been silent, and compare now and then where the topics are."""
        for link in self._links.values():
            if link.until_probe() == 0:
                link.probe()
        for node, link in list(self._bulk.items()):
            if link.until_probe() == 0:
                with self._one_more_try(node, link, events):
                    if not link.awaited:
                        raise ConnectionLost("it is not needed any more")
                    link.probe()
        if self._logged and time.monotonic() >= self._compare_at:
            self._compare_at = time.monotonic() + COMPARE_EVERY
            for topic in self._topics.values():
                self._look_up("COMPARE", topic)
                # What is read does not expire: the epoch of a quiet topic would be lost with it.
                seconds = (self._keys.seconds, self._keys.unended, END)
                self._link_for(topic).send("EXPIRE", topic, "EVAL", KEEP, 1, self._keys.meta(topic), *seconds)

    @contextmanager
    def _one_more_try(self, node: Hashable, link: Link, events: list[Event]) -> Iterator[None]:
        """Ask once more, through another connection, for what the one for large answers did not bring.

        A connection is lost for the answer that was to come next. If that happens twice for the same one,
        its topic cannot be read, and the others go on.
        """
        try:
            yield
        except ConnectionLost as error:
            self._selector.unregister(link.socket)
            link.close()
            del self._bulk[node]
            unanswered = [awaited for awaited in link.awaited if awaited.purpose != "PING"]
            for awaited in unanswered[:1]:
                awaited.losses += 1
                if awaited.losses > 1:
                    unanswered.remove(awaited)
                    self._refuse(awaited.topic, f"reading it lost the connection twice: {error}", events)
            for awaited in unanswered:
                self._bulk_for(awaited.topic).send_again(awaited)

    def _read(self, link: Link, events: list[Event]) -> None:
        node = next((node for node, bulk in self._bulk.items() if bulk is link), None)
        if node is not None:
            with self._one_more_try(node, link, events):
                self._read_all(link, events)
        elif link in self._links.values():  # else it was lost a moment ago
            self._read_all(link, events)

    def _read_all(self, link: Link, events: list[Event]) -> None:
        for answer in link.read():
            if isinstance(answer, hiredis.PushNotification):
                self._pushed(link, answer, events)
            else:
                self._answered(link.awaited.popleft(), answer, events)

    def _pushed(self, link: Link, push: list[Any], events: list[Event]) -> None:
        kind = push[0]
        if kind in (b"message", b"smessage"):
            topic = self._topics.get(push[1])
            if topic is not None:
                events.append(self._message(topic, push[2]))
        elif kind in (b"subscribe", b"ssubscribe"):
            awaited = link.awaited.popleft()
            if self._attaching.get(awaited.topic) is awaited:
                events.append(Attached(awaited.topic))
        elif link.awaited and link.awaited[0].purpose == "UNSUBSCRIBE":
            link.awaited.popleft()
        elif kind == b"sunsubscribe":
            raise ConnectionLost("the server moved a topic to another node")

    def _message(self, topic: str, data: bytes) -> Message:
        if not self._logged:
            return Message(data, topic=topic)
        epoch, number, mark, payload = data.split(b" ", 3)
        return Message(payload, topic=topic, id=b"-".join((epoch, number, mark)).decode())

    def _answered(self, awaited: Awaited, answer: Any, events: list[Event]) -> None:
        topic, purpose = awaited.topic, awaited.purpose
        if isinstance(answer, RefusedReply):
            self._refused(awaited, str(answer), events)
        elif purpose == "ATTACH" and self._attaching.get(topic) is awaited:
            events.append(Attached(topic, position_of(answer)))
        elif purpose == "COMPARE" and topic in self._attaching:
            events.append(Seen(topic, position_of(answer)))
        elif purpose == "HISTORY":
            events.append(_history(topic, *answer))
        elif isinstance(purpose, _StateOf):
            self._take_state(topic, purpose, answer, events)

    def _refused(self, awaited: Awaited, error: str, events: list[Event]) -> None:
        """Tell a fault of the server from one of a topic."""
        if awaited.purpose == "PING" or error.startswith(_SERVER_FAULTS):
            raise ConnectionLost(f"the server refused to answer: {error}")
        if awaited.purpose != "EXPIRE":  # who may only read leaves it to those who publish
            self._refuse(awaited.topic, error, events)

    def _refuse(self, topic: str, error: str, events: list[Event]) -> None:
        """Read a topic no longer."""
        if self._keys.channel(topic) in self._topics:
            self.detach(topic)
            events.append(Refused(topic, error))

    def _take_state(self, topic: str, page: "_StateOf", answer: Any, events: list[Event]) -> None:
        """Gather a page of the state, and hand it on if all of it has come."""
        head, rows, names, more = answer
        if not page.rows_of:
            page.position = position_of(head) if self._logged else None
            page.more = more.decode() if more else None
            for name in names:  # in a cluster the members of a group are on other nodes
                self._ask_state(topic, name.decode(), None, page)
        page.rows_of.append(rows)
        page.missing -= 1
        if page.missing == 0:
            found = states_of([row for rows in page.rows_of for row in rows])
            events.append(States(topic, found, page.position, page.after, page.more))

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._selector.close()
        for link in (*self._links.values(), *self._bulk.values()):
            link.close()
        self._waker.close()


class _StateOf:
    """A page of the state of a topic, as far as it has come."""

    def __init__(self, after: str | None) -> None:
        self.after = after
        self.more: str | None = None
        self.position: Position | None = None
        self.rows_of: list[list[Any]] = []
        self.missing = 0


def states_call(keys: Keys, topic: str, after: str | None, one_slot: bool) -> list[bytes]:
    """Return the key and the arguments that READ_STATES takes."""
    named = MEMBERS_AT_ONCE if one_slot else 0
    words = (after or "").encode(), b"%d" % PAGE_BYTES, b"%d" % named
    return [keys.meta(topic), keys.prefix, topic.encode(), *words]


def messages_of(topic: str, epoch: bytes | None, entries: Sequence[Any]) -> list[Message]:
    """Return the entries of a log as messages, from the last hole on: whoever reads across it is told."""
    messages: list[Message] = []
    for entry_id, fields in entries:
        mark, number = map(int, entry_id.split(b"-"))
        if messages and messages[-1].position != (messages[-1].position or ORIGIN)._replace(
            number=number - 1
        ):
            messages.clear()
        messages.append(
            Message(fields[1], topic=topic, id=str(Position((epoch or b"").decode(), number, mark)))
        )
    return messages


def _history(
    topic: str, head: Sequence[bytes | None], entries: Sequence[Any], first: Sequence[Any], last: int
) -> History:
    end = position_of(head)
    oldest = int(first[0][0].split(b"-")[1]) if first else end.number + 1
    return History(topic, messages_of(topic, head[0], entries), end, bool(last), oldest)
