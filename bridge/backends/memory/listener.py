"""The reading side of the memory backend."""

import threading
from collections import deque
from collections.abc import Sequence

from bridge.backends.base import ListenerEvent
from bridge.backends.memory.store import Store
from bridge.model.position import Position


class MemoryListener:
    """Reads a store. Its queue is bounded by the speed of the hub, which only moves messages on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._topics: set[str] = set()
        self._events: deque[ListenerEvent] = deque()
        self._ready = threading.Event()

    def put(self, event: ListenerEvent) -> None:
        """Queue an event. The store calls it with its lock held, from any thread."""
        self._events.append(event)
        self._ready.set()

    def attach(self, topic: str) -> None:
        self._topics.add(topic)
        self._store.attach(self.put, topic)

    def detach(self, topic: str) -> None:
        self._topics.discard(topic)
        self._store.detach(self.put, topic)

    def request_state(self, topic: str, after: str | None) -> None:
        with self._store.lock:
            self.put(self._store.states(topic, after))

    def request_history(self, topic: str, start: Position) -> None:
        with self._store.lock:
            self.put(self._store.log(topic).read(start))

    def poll(self) -> Sequence[ListenerEvent]:
        self._ready.wait()
        self._ready.clear()
        return [self._events.popleft() for _ in range(len(self._events))]

    def wake(self) -> None:
        self._ready.set()

    def close(self) -> None:
        for topic in list(self._topics):
            self.detach(topic)
