"""The publishing side of the memory backend."""

from collections.abc import Sequence

from bridge.backends.base import Listed, States, TopicNames
from bridge.backends.memory.listener import MemoryListener
from bridge.backends.memory.store import Store
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention


class MemoryBackend:
    """Publishes to a store of this process, and reads it. Safe to share by threads."""

    replays = True

    def __init__(self, store: Store, retention: Retention) -> None:
        self._store = store
        self._retention = retention

    def publish(self, publication: Publication) -> Position | None:
        return self._store.publish(publication, self._retention)

    def publish_many(self, publications: Sequence[Publication]) -> int:
        for publication in publications:
            self._store.publish(publication, self._retention)
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

    def listed(self, group: str, before: str | None, limit: int) -> Listed:
        number = None if before is None else int(before)
        with self._store.lock:
            return self._store.listed(group, number, limit)

    def count_listed(self, group: str) -> int:
        with self._store.lock:
            return self._store.count_listed(group)

    def field(self, topic: str, name: str) -> bytes | None:
        with self._store.lock:
            return self._store.field(topic, name)

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        with self._store.lock:
            self._store.remove_fields(topic, names)

    def topics(self, limit: int) -> TopicNames:
        with self._store.lock:
            names = sorted(self._store.names())
        return TopicNames(names[:limit], len(names) <= limit)

    def namespaces(self, topic: str) -> list[str]:
        return []  # a store belongs to one namespace

    def ping(self) -> None:
        """Do nothing: this process is always within reach."""

    def open_listener(self) -> MemoryListener:
        return MemoryListener(self._store)

    def close(self) -> None:
        """Do nothing: there is no connection to close."""
