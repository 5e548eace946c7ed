"""The data of one topic: the log of its messages, and its state."""

import itertools
import os
import time
from collections import deque
from collections.abc import Callable

from bridge.backends.base import PAGE_BYTES, History, ListenerEvent
from bridge.backends.memory.parts import Parts
from bridge.model.counts import Counts
from bridge.model.message import Message, make_message
from bridge.model.position import ORIGIN, Position
from bridge.model.publication import Publication
from bridge.model.state import MAX_ENTRIES, MAX_ENTRY_BYTES, Retention, TopicState

Put = Callable[[ListenerEvent], None]
"""Puts an event into the queue of a listener."""


class TopicLog:
    """The messages of one topic, the positions of its durable readers, and its current listeners."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.end = ORIGIN
        self.messages: deque[tuple[float, Message]] = deque()
        self.bytes = 0  # of the messages
        self.durable: dict[str, Position] = {}
        self.readers: list[Put] = []
        self.renewed_at = 0.0

    def append(self, publication: Publication, counts: Counts | None, retention: Retention) -> Position:
        """Append a message, deliver it to the listeners, and remove expired messages."""
        epoch = self.end.epoch or os.urandom(4).hex()
        self.end = Position(epoch, self.end.number + 1, 0)
        message = make_message(
            publication.payload, topic=self.topic, id=str(self.end), type=publication.type, counts=counts
        )
        now = time.monotonic()
        self.messages.append((now, message))
        self.bytes += len(message)
        self.renewed_at = now
        self.forget(retention, now)
        for put in self.readers:
            put(message)
        return self.end

    def forget(self, retention: Retention, now: float) -> None:
        """Remove expired messages. `now` is the time of `time.monotonic`."""
        since = now - retention.seconds
        while self.messages and (
            len(self.messages) > retention.messages
            or self.messages[0][0] < since
            or (self.bytes > retention.bytes and len(self.messages) > 1)
        ):
            self.bytes -= len(self.messages.popleft()[1])

    def read(self, start: Position) -> History:
        """Return a page of the messages from `start` on."""
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
        return History(self.topic, page, self.end, complete=complete, oldest=oldest)


class StoredState:
    """The state of one topic."""

    def __init__(self, topic: str) -> None:
        self.rank = -1
        self.fields: dict[str, bytes] = {}
        self._topic = topic
        self._entries: deque[bytes] = deque()
        self._entries_seen = self._entry_bytes = 0
        self._parts: Parts | None = None

    @property
    def counts(self) -> Counts | None:
        """The counts of the parts, if the topic is that of a canvas."""
        return None if self._parts is None else self._parts.counts

    def admit(self, publication: Publication) -> list[Publication]:
        """Return the messages to publish: none if the change is refused or its part has not changed."""
        assert publication.change is not None, "only a change has to be admitted"
        if publication.change.refused_by(self.rank):
            return []
        if publication.part is None:
            return [publication]
        self._parts = self._parts or Parts()
        return self._parts.count(publication, publication.part)

    def apply(self, publication: Publication) -> None:
        """Apply the change of an admitted publication."""
        change = publication.change
        assert change is not None, "only what has a change is applied"
        self.rank = change.rank
        self.fields.update(change.fields)
        if change.entry:
            self._add_entry(publication.payload)

    def _add_entry(self, payload: bytes) -> None:
        entries = self._entries
        entries.append(payload)
        self._entries_seen += 1
        self._entry_bytes += len(payload)
        while len(entries) > MAX_ENTRIES or (self._entry_bytes > MAX_ENTRY_BYTES and len(entries) > 1):
            self._entry_bytes -= len(entries.popleft())

    @property
    def bytes(self) -> int:
        """How many bytes were published of what it keeps."""
        return self._entry_bytes + sum(map(len, self.fields.values()))

    def read(self, *, with_entries: bool = True) -> TopicState:
        """Return a copy of the state, without its entries and rows if so wanted."""
        entries = list(self._entries) if with_entries else []
        rows = self._parts.rows if self._parts is not None and with_entries else []
        omitted = self._entries_seen - len(entries)
        return TopicState(self._topic, dict(self.fields), entries, omitted, rows, self.counts)
