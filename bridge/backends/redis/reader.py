"""The reading side: every topic of a process through one connection (one a node of a cluster)."""

import selectors
import socket
import time
from collections.abc import Hashable, Sequence
from typing import Any

import hiredis

from bridge.backends.redis.keys import Keys, position_of, states_of
from bridge.backends.redis.link import Awaited, Link, RefusedReply
from bridge.backends.redis.scripts import READ_HISTORY, READ_STATES
from bridge.backends.redis.servers import Servers
from bridge.channel import Message
from bridge.errors import ConnectionLost
from bridge.ports import Attached, Event, History, Refused, Seen, States
from bridge.position import ORIGIN, Position

COMPARE_EVERY = 10.0
"""Seconds between two looks at where each topic is on the server."""

PAGE = 200
"""Messages of history in one answer."""


class RedisReader:
    """Reads through one link to each node that has a topic."""

    def __init__(self, servers: Servers, keys: Keys, *, sharded: bool, logged: bool) -> None:
        self._servers = servers
        self._links: dict[Hashable, Link] = {}
        self._keys = keys
        self._letter = "S" if sharded else ""
        self._logged = logged
        self._topics: dict[bytes, str] = {}
        self._attaching: dict[str, Awaited] = {}
        self._compare_at = time.monotonic() + COMPARE_EVERY
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._woken, selectors.EVENT_READ)
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

    def request_state(self, topic: str) -> None:
        self._ask_state(topic, topic, None)

    def _ask_state(self, topic: str, member: str, gathered: "_Gathered | None") -> None:
        """Ask for the state of `topic`, or of a member of that group for which the state is gathered."""
        if gathered is not None:
            gathered.missing += 1
        args = (self._keys.prefix, member.encode(), int(not self._servers.one_slot))
        link = self._link_for(member)
        link.send(gathered or "STATE", topic, "EVAL", READ_STATES, 1, self._keys.meta(member), *args)

    def request_history(self, topic: str, start: Position) -> None:
        first = b"-" if start.number < 0 else b"%d-%d" % (start.mark, start.number)
        keys = (self._keys.meta(topic), self._keys.log(topic))
        self._link_for(topic).send("HISTORY", topic, "EVAL", READ_HISTORY, 2, *keys, first, PAGE)

    def _look_up(self, purpose: str, topic: str) -> Awaited:
        """Ask where the topic is now."""
        command = ("HMGET", self._keys.meta(topic), "epoch", "number", "mark")
        return self._link_for(topic).send(purpose, topic, *command)

    def poll(self) -> Sequence[Event]:
        for link in self._links.values():
            link.write()
            mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.waits_to_write else 0)
            if self._selector.get_key(link.socket).events != mask:
                self._selector.modify(link.socket, mask, link)
        events: list[Event] = []
        for key, _ in self._selector.select(self._patience()):
            if key.data is None:
                self._drain_wakes()
            else:
                self._read(key.data, events)
        self._look_after()
        return events

    def _patience(self) -> float:
        """Return the seconds until something is due."""
        due = min((link.until_probe() for link in self._links.values()), default=COMPARE_EVERY)
        return min(due, max(0.0, self._compare_at - time.monotonic())) if self._logged else due

    def _look_after(self) -> None:
        """Probe what has been silent, and compare now and then where the topics are."""
        for link in self._links.values():
            if link.until_probe() == 0:
                link.probe()
        if self._logged and time.monotonic() >= self._compare_at:
            self._compare_at = time.monotonic() + COMPARE_EVERY
            for topic in self._topics.values():
                self._look_up("COMPARE", topic)
                # What is read does not expire: the epoch of a quiet topic would be lost with it.
                expiry = ("EXPIRE", self._keys.meta(topic), self._keys.seconds)
                self._link_for(topic).send("EXPIRE", topic, *expiry)

    def _drain_wakes(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _read(self, link: Link, events: list[Event]) -> None:
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
        topic = awaited.topic
        if isinstance(answer, RefusedReply):
            # A cluster has changed, or the server will not answer at all: begin anew.
            if awaited.purpose != "SUBSCRIBE" or str(answer).startswith(("MOVED", "CLUSTERDOWN")):
                raise ConnectionLost(f"the server refused to answer: {answer}")
            self._attaching.pop(topic, None)
            events.append(Refused(topic, str(answer)))
        elif awaited.purpose == "ATTACH" and self._attaching.get(topic) is awaited:
            events.append(Attached(topic, position_of(answer)))
        elif awaited.purpose == "COMPARE" and topic in self._attaching:
            events.append(Seen(topic, position_of(answer)))
        elif awaited.purpose == "HISTORY":
            events.append(_history(topic, *answer))
        elif awaited.purpose == "STATE":
            head, rows, members = answer
            gathered = _Gathered(position_of(head) if self._logged else None, rows)
            # In a cluster the members of a group are on other nodes.
            for member in members if self._servers.one_slot else ():
                self._ask_state(topic, member.decode(), gathered)
            self._complete(topic, gathered, events)
        elif isinstance(awaited.purpose, _Gathered):
            awaited.purpose.missing -= 1
            awaited.purpose.rows += answer[1]
            self._complete(topic, awaited.purpose, events)

    def _complete(self, topic: str, gathered: "_Gathered", events: list[Event]) -> None:
        """Hand on a state if all of it has come."""
        if gathered.missing == 0:
            events.append(States(topic, states_of(gathered.rows), gathered.position))

    def wake(self) -> None:
        try:
            self._wake.send(b"w")
        except BlockingIOError:
            pass  # so many wakes are waiting already that this one is not missed
        except OSError:
            pass  # closed meanwhile: nobody is left to wake

    def close(self) -> None:
        self._selector.close()
        for link in self._links.values():
            link.close()
        self._woken.close()
        self._wake.close()


class _Gathered:
    """The states of a group, as far as they have come."""

    def __init__(self, position: Position | None, rows: list[Any]) -> None:
        self.position = position
        self.rows = rows
        self.missing = 0


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
    topic: str, head: Sequence[bytes | None], entries: Sequence[Any], first: Sequence[Any]
) -> History:
    end = position_of(head)
    oldest = int(first[0][0].split(b"-")[1]) if first else end.number + 1
    return History(topic, messages_of(topic, head[0], entries), end, len(entries) < PAGE, oldest)
