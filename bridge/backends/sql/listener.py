"""The reading side: every topic of a process through one connection."""

import os
import selectors
import time
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress

from sqlalchemy.exc import SQLAlchemyError

from bridge.backends.base import Attached, History, ListenerEvent, Seen
from bridge.backends.sql import reading, reading_states
from bridge.backends.sql.batch import Written
from bridge.backends.sql.database import Database, close_unless_inherited
from bridge.backends.sql.reading import NOWHERE, Head
from bridge.backends.sql.retention import milliseconds, renew
from bridge.backends.sql.tables import key_of
from bridge.errors import ConnectionLost
from bridge.model.message import make_message
from bridge.model.position import ORIGIN, Position
from bridge.model.state import END, Retention
from bridge.support.waker import Waker

ANSWERED_AT_ONCE = 50
"""Requests that are answered in one call of `poll`. Each answer may be a page."""

COMPARE_EVERY = 10.0
"""Seconds between two comparisons of the positions of all topics, even without a notification."""


class SqlListener:
    """Reads the new messages of each topic whenever the topic may have changed."""

    def __init__(self, database: Database, namespace: str, retention: Retention) -> None:
        self._database = database
        self._namespace = namespace
        self._retention = retention
        self._process = os.getpid()
        self._topics: dict[str, str] = {}  # by key: the name
        self._at: dict[str, Position] = {}  # by key: all messages up to there were returned
        self._changed: set[str] = set()
        self._written: deque[Written] = deque()  # Filled by other threads.
        self._requests: deque[tuple[str, str, Position, str | None]] = deque()
        self._compare_at = time.monotonic() + COMPARE_EVERY
        self._look_at = 0.0
        self._waker = Waker()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._waker, selectors.EVENT_READ)
        self._connection = database.open_reading()
        self._watch = database.watch(self._connection, self._on_written)
        self._watch.listen(self._selector)

    def attach(self, topic: str) -> None:
        self._topics[key_of(self._namespace, topic)] = topic
        self._request("attach", topic)

    def detach(self, topic: str) -> None:
        key = key_of(self._namespace, topic)
        self._topics.pop(key, None)
        self._at.pop(key, None)
        self._changed.discard(key)

    def request_state(self, topic: str, after: str | None) -> None:
        self._request("state", topic, after=after)

    def request_history(self, topic: str, start: Position) -> None:
        self._request("history", topic, start)

    def _request(self, what: str, topic: str, start: Position = ORIGIN, after: str | None = None) -> None:
        self._requests.append((what, key_of(self._namespace, topic), start, after))

    def _on_written(self, written: Sequence[Written]) -> None:
        """Note messages that were written in this process. Any thread may call it."""
        known = [message for message in written if message.key in self._topics]
        if known:
            self._written.extend(known)
            self.wake()

    def poll(self) -> Sequence[ListenerEvent]:
        if not (self._requests or self._changed or self._written or self._watch.has_news()):
            self._wait()
        events: list[ListenerEvent] = []
        self._take_written(events)
        if events and not self._requests and time.monotonic() < self._look_at:
            return events
        with self._database.errors(ConnectionLost, "did not answer"):
            self._look(events)
            self._answer(events)
        return events

    def _take_written(self, events: list[ListenerEvent]) -> None:
        """Add messages that were written in this process to `events`, if they are the next ones."""
        while self._written:
            message = self._written.popleft()
            key, position = message.key, message.position
            at = self._at.get(key)
            if at is None or (position.number <= at.number and position.epoch == at.epoch):
                continue
            if position.number == at.number + 1 and at.epoch in ("", position.epoch):
                self._at[key] = position
                topic, event_type, counts = self._topics[key], message.type, message.counts
                events.append(
                    make_message(
                        message.payload, topic=topic, id=str(position), type=event_type, counts=counts
                    )
                )
            else:
                self._changed.add(key)

    def _look(self, events: list[ListenerEvent]) -> None:
        changed = self._watch.look()
        self._look_at = time.monotonic() + self._watch.interval
        comparing = time.monotonic() >= self._compare_at
        waiting = self._at if comparing else self._watch.waiting() & self._at.keys()
        self._publish_pending(waiting)
        if changed is None or comparing:
            self._changed.update(self._at)
        else:
            self._changed.update(key for key in changed if key in self._at)
        if self._changed:
            self._read_changed(events, comparing)

    def _publish_pending(self, groups: Collection[str]) -> None:
        """Append to groups, by key, what waits for them."""
        if groups and self._database.defers:
            names = [self._topics[key] for key in groups]
            self._database.publish_pending(self._connection, self._namespace, self._retention, names)

    def _wait(self) -> None:
        patience = min(self._watch.interval, max(0.0, self._compare_at - time.monotonic()))
        if self._selector.select(patience):
            self._waker.drain()

    def _read_changed(self, events: list[ListenerEvent], comparing: bool) -> None:
        """Read the new messages of the topics that may have changed."""
        keys = list(self._changed)
        self._changed.clear()
        heads = reading.heads(self._connection, keys)
        for key in keys:
            self._catch_up(key, heads.get(key, NOWHERE), events)
        if comparing:
            self._compare_at = time.monotonic() + COMPARE_EVERY
            self._touch(heads)

    def _catch_up(self, key: str, head: Head, events: list[ListenerEvent]) -> None:
        topic, at, to = self._topics[key], self._at[key], head.position
        if to == at:
            return
        if to.number <= at.number or at.epoch not in ("", to.epoch):
            self._at[key] = to
            events.append(Seen(topic, to))
            return
        messages = reading.page(self._connection, topic, head, at.number + 1)
        last = messages[-1].position if messages else None
        if last is None:
            # The messages, or the topic, were removed after the head was read.
            events.append(Seen(topic, to))
        events.extend(messages)
        self._at[key] = last or to
        if self._at[key] != to:
            self._changed.add(key)

    def _touch(self, heads: dict[str, Head]) -> None:
        """Renew quiet topics that are read. If they expired, their epoch would be lost."""
        due = milliseconds() - round(self._retention.seconds * 1000 / 2)
        quiet = [key for key, head in heads.items() if head.upkeep < due]
        if not quiet:
            return
        with suppress(SQLAlchemyError):  # A user who may only read cannot. Publishers do it too.
            for start in range(0, len(quiet), reading.MANY):
                with self._database.writing() as connection:
                    renew(connection, quiet[start : start + reading.MANY], END)

    def _answer(self, events: list[ListenerEvent]) -> None:
        """Answer some requests in order. One query finds the positions of all their topics."""
        some = [self._requests.popleft() for _ in range(min(len(self._requests), ANSWERED_AT_ONCE))]
        asked = [ask for ask in some if ask[1] in self._topics]
        self._publish_pending([key for what, key, _, _ in asked if what == "attach"])
        heads = self._heads({key for what, key, _, _ in asked if what != "state"})
        for what, key, start, after in asked:
            topic = self._topics[key]
            if what == "state":
                page = reading_states.states(self._connection, topic, key, after)
                position = page.position or ORIGIN
                events.append(page)
            else:
                head = heads.get(key, NOWHERE)
                position = head.position
                if what == "attach":
                    self._at[key] = position
                    events.append(Attached(topic, position))
                else:
                    events.append(self._history(topic, head, start))
            if position != self._at.get(key):
                self._changed.add(key)

    def _heads(self, keys: Collection[str]) -> dict[str, Head]:
        return reading.heads(self._connection, list(keys)) if keys else {}

    def _history(self, topic: str, head: Head, start: Position) -> History:
        messages = reading.page(self._connection, topic, head, start.number)
        last = messages[-1].position if messages else head.position
        return History(topic, messages, head.position, last == head.position, head.oldest)

    def wake(self) -> None:
        self._waker.wake()

    def close(self) -> None:
        if os.getpid() == self._process:
            self._watch.close()
        self._selector.close()
        close_unless_inherited(self._connection, self._process)
        self._waker.close()
