"""`memory://`: carries messages between the threads of one process.

`memory://name` names a store of its own; channels with the same name and namespace share it.
"""

import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Sequence
from urllib.parse import urlsplit

from bridge.channel import Message
from bridge.fork import reset_in_child
from bridge.ports import Attached, Event, States
from bridge.state import MAX_ENTRIES, MAX_MEMBERS, Change, TopicState


class _Kept:
    """The state of one topic, as it is kept."""

    def __init__(self, topic: str) -> None:
        self.rank = -1
        self.fields: dict[str, bytes] = {}
        self.entries: deque[bytes] = deque(maxlen=MAX_ENTRIES)
        self.entries_seen = 0
        self.topic = topic

    def take(self, change: Change, payload: bytes) -> None:
        self.rank = change.rank
        self.fields.update(change.fields)
        if change.entry:
            self.entries.append(payload)
            self.entries_seen += 1

    def read(self) -> TopicState:
        omitted = self.entries_seen - len(self.entries)
        return TopicState(self.topic, dict(self.fields), list(self.entries), omitted)


class _Store:
    """Every topic of one name; the server, as it were."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        # Guards everything below, and the queues of the readers.
        self.lock = threading.Lock()
        self._epoch = os.urandom(4).hex()
        self._ids = itertools.count(1)
        self._readers: dict[str, list[MemoryReader]] = {}
        self._kept: dict[str, _Kept] = {}
        self._members: dict[str, dict[str, None]] = {}

    def publish(self, topic: str, payload: bytes, change: Change | None) -> str | None:
        with self.lock:
            if change is not None:
                kept = self._kept.setdefault(topic, _Kept(topic))
                if change.refused_by(kept.rank):
                    return None
                kept.take(change, payload)
                self._list(topic, change.group)
                self._send(change.group, payload)
            return self._send(topic, payload)

    def _list(self, topic: str, group: str) -> None:
        members = self._members.setdefault(group, {})
        members[topic] = None
        if len(members) > MAX_MEMBERS:
            oldest = next(iter(members))
            del members[oldest], self._kept[oldest]

    def _send(self, topic: str, payload: bytes) -> str:
        message = Message(payload, topic=topic, id=f"{self._epoch}-{next(self._ids)}")
        for reader in self._readers.get(topic, ()):
            reader.put(message)
        return message.id or ""

    def states(self, topic: str) -> list[TopicState]:
        """Requires holding `lock`."""
        names = [topic, *reversed(self._members.get(topic, {}))]
        return [self._kept[name].read() for name in names if name in self._kept]

    def attach(self, reader: "MemoryReader", topic: str) -> None:
        with self.lock:
            self._readers.setdefault(topic, []).append(reader)
            reader.put(Attached(topic))

    def request_state(self, reader: "MemoryReader", topic: str) -> None:
        with self.lock:
            reader.put(States(topic, self.states(topic)))

    def detach(self, reader: "MemoryReader", topic: str) -> None:
        with self.lock:
            readers = self._readers.get(topic, [])
            if reader in readers:
                readers.remove(reader)
            if not readers:
                self._readers.pop(topic, None)


class MemoryReader:
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

    def request_state(self, topic: str) -> None:
        self._store.request_state(self, topic)

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
    def __init__(self, store: _Store) -> None:
        self._store = store

    def publish(self, topic: str, payload: bytes, change: Change | None = None) -> str | None:
        return self._store.publish(topic, payload, change)

    def states(self, topic: str) -> list[TopicState]:
        with self._store.lock:
            return self._store.states(topic)

    def ping(self) -> None:
        """This process is always within reach."""

    def open_reader(self) -> MemoryReader:
        return MemoryReader(self._store)

    def close(self) -> None:
        """There is no connection to close."""


_stores: "weakref.WeakValueDictionary[tuple[str, str], _Store]" = weakref.WeakValueDictionary()
_stores_lock = threading.Lock()  # Guards _stores.


def open_backend(url: str, *, namespace: str, timeout: float) -> MemoryBackend:
    with _stores_lock:
        key = (urlsplit(url).netloc, namespace)
        store = _stores.get(key)
        if store is None:
            store = _stores[key] = _Store()
        return MemoryBackend(store)
