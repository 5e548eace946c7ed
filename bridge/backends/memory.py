"""`memory://`: carries messages between the threads of one process.

`memory://name` names a store of its own; channels with the same name and namespace share it.
"""

import itertools
import os
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence

from bridge.backends.base import PAGE_BYTES, Attached, Event, History, States
from bridge.model.counts import Tally
from bridge.model.message import Message
from bridge.model.position import ORIGIN, Position
from bridge.model.publication import Publication
from bridge.model.state import END, MAX_ENTRIES, MAX_MEMBERS, Change, Retention, TopicState
from bridge.support.fork import reset_in_child

_UNLISTED = "\0"
"""Stands for the group of topics that their group does not list: of those that ended as many are kept."""


class _Kept:
    """The state of one topic, as it is kept."""

    def __init__(self, topic: str) -> None:
        self.rank = -1
        self.fields: dict[str, bytes] = {}
        self.entries: deque[bytes] = deque(maxlen=MAX_ENTRIES)
        self.entries_seen = 0
        self.topic = topic
        self.tally = Tally()

    def admit(self, payload: bytes, change: Change) -> list[tuple[bytes, Change]]:
        """Return what is to be published: nothing if the change is refused."""
        if change.refused_by(self.rank):
            return []
        if change.part is None:
            return [(payload, change)]
        return self.tally.admit(payload, change, change.part)

    def take(self, change: Change, payload: bytes) -> None:
        self.rank = change.rank
        self.fields.update(change.fields)
        if change.entry:
            self.entries.append(payload)
            self.entries_seen += 1

    def read(self) -> TopicState:
        omitted = self.entries_seen - len(self.entries)
        return TopicState(self.topic, dict(self.fields), list(self.entries), omitted, self.tally.lines)


class _Log:
    """The messages of one topic that are kept, the places of its durable readers, and who reads it now."""

    def __init__(self) -> None:
        self.end = ORIGIN
        self.messages: deque[tuple[float, Message]] = deque()
        self.durable: dict[str, Position] = {}
        self.readers: list[MemoryListener] = []
        self.renewed_at = 0.0

    def append(self, topic: str, payload: bytes, retention: Retention) -> Position:
        epoch = self.end.epoch or os.urandom(4).hex()
        self.end = Position(epoch, self.end.number + 1, 0)
        message = Message(payload, topic=topic, id=str(self.end))
        now = time.monotonic()
        self.messages.append((now, message))
        self.renewed_at = now
        while len(self.messages) > retention.messages or self.messages[0][0] < now - retention.seconds:
            self.messages.popleft()
        for reader in self.readers:
            reader.put(message)
        return self.end

    def read(self, topic: str, start: Position) -> History:
        place = max(0, start.number - self.end.number + len(self.messages) - 1)
        page: list[Message] = []
        size = 0
        for _, message in itertools.islice(self.messages, place, None):
            if size >= PAGE_BYTES and len(page) > 1:
                break
            page.append(message)
            size += len(message)
        oldest = self.end.number - len(self.messages) + 1
        complete = place + len(page) >= len(self.messages)
        return History(topic, page, self.end, complete=complete, oldest=oldest)


class _Store:
    """Every topic of one name; the server, as it were."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        # Guards everything below, and the queues of the readers.
        self.lock = threading.Lock()
        self._logs: dict[str, _Log] = {}
        self._kept: dict[str, _Kept] = {}
        self._members: dict[str, dict[str, None]] = {}

    def log(self, topic: str) -> _Log:
        """Requires holding `lock`."""
        return self._logs.get(topic) or self._logs.setdefault(topic, _Log())

    def publish(
        self, topic: str, payload: bytes, change: Change | None, retention: Retention
    ) -> Position | None:
        with self.lock:
            position = None
            if change is None:
                position = self.log(topic).append(topic, payload, retention)
            else:
                for told, accepted in self._kept.setdefault(topic, _Kept(topic)).admit(payload, change):
                    position = self._publish_change(topic, told, accepted, retention)
            self._sweep(retention)
            return position

    def _publish_change(self, topic: str, payload: bytes, change: Change, retention: Retention) -> Position:
        """Requires holding `lock`."""
        self._kept[topic].take(change, payload)
        self._list(topic, change.group if change.listed else _UNLISTED)
        self.log(change.group).append(change.group, payload, retention)
        return self.log(topic).append(topic, payload, retention)

    def _sweep(self, retention: Retention) -> None:
        """Forget the topic that was made first, if all it held has expired. Requires holding `lock`."""
        name, log = next(iter(self._logs.items()), ("", None))
        if log is None:
            return
        del self._logs[name]
        seconds = retention.unended if self._is_unended(name) else retention.seconds
        if log.readers or log.durable or log.renewed_at >= time.monotonic() - seconds:
            self._logs[name] = log
        else:
            self._kept.pop(name, None)

    def _is_unended(self, topic: str) -> bool:
        """Whether the topic has a state that is no end. Requires holding `lock`."""
        kept = self._kept.get(topic)
        return kept is not None and 0 <= kept.rank < END

    def renew(self, topics: Sequence[str]) -> None:
        with self.lock:
            for topic in topics:
                if self._is_unended(topic):
                    self.log(topic).renewed_at = time.monotonic()

    def _list(self, topic: str, group: str) -> None:
        members = self._members.setdefault(group, {})
        members[topic] = None
        if len(members) > MAX_MEMBERS:
            oldest = next(iter(members))
            del members[oldest]
            if self._is_unended(oldest):
                return
            self._kept.pop(oldest, None)
            if not self.log(oldest).readers:
                del self._logs[oldest]

    def states(self, topic: str, after: str | None) -> States:
        """Requires holding `lock`."""
        names = [topic, *reversed(self._members.get(topic, {}))]
        if after is not None:
            # Without its name, it was the oldest member and has been let go of, with all that were older.
            names = names[names.index(after) + 1 :] if after in names else []
        page: list[TopicState] = []
        size, more = 0, None
        for place, name in enumerate(names, 1):
            if name in self._kept:
                page.append(self._kept[name].read())
                size += page[-1].size
            if size >= PAGE_BYTES and place < len(names):
                more = name
                break
        return States(topic, page, self.log(topic).end, after, more)

    def field(self, topic: str, name: str) -> bytes | None:
        """Requires holding `lock`."""
        kept = self._kept.get(topic)
        return None if kept is None else kept.fields.get(name)

    def attach(self, reader: "MemoryListener", topic: str) -> None:
        with self.lock:
            log = self.log(topic)
            log.readers.append(reader)
            reader.put(Attached(topic, log.end))

    def request_state(self, reader: "MemoryListener", topic: str, after: str | None) -> None:
        with self.lock:
            reader.put(self.states(topic, after))

    def request_history(self, reader: "MemoryListener", topic: str, start: Position) -> None:
        with self.lock:
            reader.put(self.log(topic).read(topic, start))

    def detach(self, reader: "MemoryListener", topic: str) -> None:
        with self.lock:
            log = self.log(topic)
            if reader in log.readers:
                log.readers.remove(reader)
            if not log.readers and log.end == ORIGIN:
                del self._logs[topic]


class MemoryListener:
    """Reads a store. Its queue is bounded by the speed of the hub, which only moves messages on."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._topics: set[str] = set()
        self._events: deque[Event] = deque()
        self._ready = threading.Event()

    def put(self, event: Event) -> None:
        """Called by the store, which holds its lock."""
        self._events.append(event)
        self._ready.set()

    def attach(self, topic: str) -> None:
        self._topics.add(topic)
        self._store.attach(self, topic)

    def detach(self, topic: str) -> None:
        self._topics.discard(topic)
        self._store.detach(self, topic)

    def request_state(self, topic: str, after: str | None) -> None:
        self._store.request_state(self, topic, after)

    def request_history(self, topic: str, start: Position) -> None:
        self._store.request_history(self, topic, start)

    def poll(self) -> Sequence[Event]:
        self._ready.wait()
        self._ready.clear()
        return [self._events.popleft() for _ in range(len(self._events))]

    def wake(self) -> None:
        self._ready.set()

    def close(self) -> None:
        for topic in list(self._topics):
            self.detach(topic)


class MemoryBackend:
    replays = True

    def __init__(self, store: _Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention

    def publish(self, publication: Publication) -> Position | None:
        return self._store.publish(
            publication.topic, publication.payload, publication.change, self._retention
        )

    def publish_many(self, publications: Sequence[Publication]) -> int:
        for publication in publications:
            self.publish(publication)
        return len(publications)

    def history(self, topic: str, limit: int) -> list[Message]:
        with self._store.lock:
            return [message for _, message in self._store.log(topic).messages][-limit:]

    def acknowledged(self, topic: str, name: str) -> Position:
        with self._store.lock:
            log = self._store.log(topic)
            return log.durable.setdefault(name, log.end)

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        with self._store.lock:
            durable = self._store.log(topic).durable
            if back or name not in durable or position.number > durable[name].number:
                durable[name] = position

    def renew(self, topics: Sequence[str]) -> None:
        self._store.renew(topics)

    def states(self, topic: str, after: str | None = None) -> States:
        with self._store.lock:
            return self._store.states(topic, after)

    def field(self, topic: str, name: str) -> bytes | None:
        with self._store.lock:
            return self._store.field(topic, name)

    def ping(self) -> None:
        """This process is always within reach."""

    def open_listener(self) -> MemoryListener:
        return MemoryListener(self._store)

    def close(self) -> None:
        """There is no connection to close."""


_stores: "weakref.WeakValueDictionary[tuple[str, str], _Store]" = weakref.WeakValueDictionary()
_stores_lock = threading.Lock()  # Guards _stores.


def open_backend(url: str, *, namespace: str, timeout: float, retention: Retention) -> MemoryBackend:
    with _stores_lock:
        key = (re.split("[/?#]", url.partition("://")[2])[0], namespace)
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = _Store()
        return MemoryBackend(store, retention)
