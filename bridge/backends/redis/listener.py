"""The reading side: every topic of a process through one connection (one to each node of a cluster).

History and states are read through a connection of their own, opened when it is needed: a server closes a
subscribed connection on which too much waits. Their positions say where they belong among the messages. Where
no positions are kept, states are read through the subscribed connection, in its order.
"""

import selectors
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import hiredis

from bridge.backends.base import PAGE_BYTES, Attached, ListenerEvent, Refused, Seen
from bridge.backends.redis.frames import parse_frame, parse_live_frame
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.link import Argument, Link, RefusedReply, Request
from bridge.backends.redis.links import Links, RetryingLinks
from bridge.backends.redis.replies import parse_head, parse_history
from bridge.backends.redis.scripts import Scripts
from bridge.backends.redis.servers import Servers
from bridge.backends.redis.states import StatesPage, states_call
from bridge.errors import ConnectionLost
from bridge.model.position import Position
from bridge.support.waker import Waker

COMPARE_EVERY = 10.0
"""Seconds between two requests for the position of each topic on the server."""

_SERVER_FAULTS = (
    "MOVED", "ASK", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "MASTERDOWN", "READONLY", "NOREPLICAS", "BUSY",
    "NOAUTH", "UNKILLABLE",
)  # fmt: skip
"""How errors begin that are not about a topic: another connection, later, may get the answer."""


class RedisListener:
    """Reads through one connection to each node that has a topic."""

    def __init__(
        self, servers: Servers, keys: Keys, scripts: Scripts, *, sharded: bool, logged: bool
    ) -> None:
        self._one_slot = servers.one_slot
        self._keys = keys
        self._scripts = scripts
        self._prefix = "S" if sharded else ""
        self._logged = logged
        self._parse = parse_frame if logged else parse_live_frame
        self._topics: dict[bytes, str] = {}
        self._attaching: dict[str, Request] = {}
        self._compare_at = time.monotonic() + COMPARE_EVERY
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._links = Links(servers, self._selector)
        self._bulk_links = RetryingLinks(servers, self._selector)
        if not servers.one_slot:
            self._links.to(b"")

    def attach(self, topic: str) -> None:
        channel, meta = self._keys.channel(topic), self._keys.meta(topic)
        self._topics[channel] = topic
        request = Request("SUBSCRIBE", topic, meta, f"{self._prefix}SUBSCRIBE", channel)
        self._links.to(meta).send(request)
        if self._logged:
            request = self._request_position("ATTACH", topic)
        self._attaching[topic] = request

    def detach(self, topic: str) -> None:
        channel, meta = self._keys.channel(topic), self._keys.meta(topic)
        self._topics.pop(channel, None)
        self._attaching.pop(topic, None)
        request = Request("UNSUBSCRIBE", topic, meta, f"{self._prefix}UNSUBSCRIBE", channel)
        self._links.to(meta).send(request)

    def request_state(self, topic: str, after: str | None) -> None:
        self._request_states(topic, topic, after, StatesPage(after))

    def _request_states(self, topic: str, member: str, after: str | None, page: StatesPage) -> None:
        """Request the state of `topic`, or of a member of that group."""
        page.requested += 1
        self._request_bulk(page, topic, *states_call(self._keys, member, after, self._one_slot))

    def request_history(self, topic: str, start: Position) -> None:
        first = "-" if start.number < 0 else f"{start.mark}-{start.number}"
        keys = self._keys.of_message(topic)
        self._request_bulk("HISTORY", topic, "read_history", keys, [first, PAGE_BYTES])

    def _request_bulk(
        self, purpose: object, topic: str, script: str, keys: Sequence[bytes], args: Sequence[Argument]
    ) -> None:
        """Run a script whose answer may be large."""
        text = self._scripts.text(script)
        request = Request(purpose, topic, keys[0], "EVAL", text, len(keys), *keys, *args)
        links = self._bulk_links if self._logged else self._links
        links.to(keys[0]).send(request)

    def _request_position(self, purpose: str, topic: str) -> Request:
        meta = self._keys.meta(topic)
        request = Request(purpose, topic, meta, "HMGET", meta, "epoch", "number", "mark")
        return self._links.to(meta).send(request)

    def poll(self) -> Sequence[ListenerEvent]:
        events: list[ListenerEvent] = []
        refuse = partial(self._refuse, events)
        for link in self._links:
            self._links.write(link)
        for link in self._bulk_links:
            with self._bulk_links.one_more_try(link, refuse):
                self._bulk_links.write(link)
        for key, _ in self._selector.select(0 if events else self._seconds_until_due()):
            if key.data is None:
                self._waker.drain()
            elif key.data in self._links:
                self._read(key.data, events)
            elif key.data in self._bulk_links:  # else it was lost a moment ago
                with self._bulk_links.one_more_try(key.data, refuse):
                    self._read(key.data, events)
        self._probe(events)
        if self._logged and time.monotonic() >= self._compare_at:
            self._compare()
        return events

    def _seconds_until_due(self) -> float:
        """Return the seconds until a connection must be probed or positions compared."""
        links = (*self._links, *self._bulk_links)
        due = min((link.until_probe() for link in links), default=COMPARE_EVERY)
        return min(due, max(0.0, self._compare_at - time.monotonic())) if self._logged else due

    def _probe(self, events: list[ListenerEvent]) -> None:
        """Probe the connections that have been silent; close those for large answers if they are unused."""
        for link in self._links:
            if link.until_probe() == 0:
                link.probe()
        for link in self._bulk_links:
            if link.until_probe() == 0:
                with self._bulk_links.one_more_try(link, partial(self._refuse, events)):
                    if not link.requests:
                        raise ConnectionLost("the connection is not needed any more")
                    link.probe()

    def _compare(self) -> None:
        """Request where all topics are, and keep them."""
        self._compare_at = time.monotonic() + COMPARE_EVERY
        text = self._scripts.text("keep")
        for topic in self._topics.values():
            self._request_position("COMPARE", topic)
            meta = self._keys.meta(topic)
            self._links.to(meta).send(Request("KEEP", topic, meta, "EVAL", text, 1, meta))

    def _read(self, link: Link, events: list[ListenerEvent]) -> None:
        for answer in link.read():
            if isinstance(answer, hiredis.PushNotification):
                self._take_push(link, answer, events)
            else:
                self._take_answer(link.requests.popleft(), answer, events)

    # Any: the elements of a push and of an answer depend on the command.
    def _take_push(self, link: Link, push: list[Any], events: list[ListenerEvent]) -> None:
        kind = push[0]
        if kind in (b"message", b"smessage"):
            topic = self._topics.get(push[1])
            if topic is not None:
                events += self._parse(topic, push[2])
        elif kind in (b"subscribe", b"ssubscribe"):
            request = link.requests.popleft()
            if self._attaching.get(request.topic) is request:
                events.append(Attached(request.topic))
        elif link.requests and link.requests[0].purpose == "UNSUBSCRIBE":
            link.requests.popleft()
        elif kind == b"sunsubscribe":
            raise ConnectionLost("the server moved a topic to another node")

    def _take_answer(self, request: Request, answer: Any, events: list[ListenerEvent]) -> None:
        topic, purpose = request.topic, request.purpose
        if isinstance(answer, RefusedReply):
            self._take_error(request, str(answer), events)
        elif purpose == "ATTACH" and self._attaching.get(topic) is request:
            events.append(Attached(topic, parse_head(answer)))
        elif purpose == "COMPARE" and topic in self._attaching:
            events.append(Seen(topic, parse_head(answer)))
        elif purpose == "HISTORY":
            events.append(parse_history(topic, answer))
        elif isinstance(purpose, StatesPage):
            for member in purpose.add(answer):
                self._request_states(topic, member, None, purpose)
            states = purpose.states(topic, with_position=self._logged)
            if states is not None:
                events.append(states)

    def _take_error(self, request: Request, error: str, events: list[ListenerEvent]) -> None:
        """Handle an error: a fault of the server ends the connection, another one the topic."""
        if request.purpose == "PING" or error.startswith(_SERVER_FAULTS):
            raise ConnectionLost(f"the server refused to answer: {error}")
        if request.purpose != "KEEP":  # a user who may only read cannot, and publishers do it too
            self._refuse(events, request.topic, error)

    def _refuse(self, events: list[ListenerEvent], topic: str, error: str) -> None:
        """Stop reading a topic."""
        if self._keys.channel(topic) in self._topics:
            self.detach(topic)
            events.append(Refused(topic, error))

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        self._selector.close()
        self._links.close()
        self._bulk_links.close()
        self._waker.close()
