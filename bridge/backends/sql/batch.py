"""Plans what a transaction writes: numbers its messages and collects their rows, without a statement.

The topics are locked, so nobody else changes them meanwhile. Each row is then written once, whatever the
number of messages: one INSERT of all messages, and one UPDATE of each topic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.backends.sql.held import Held
from bridge.backends.sql.retention import is_to_be_measured, milliseconds
from bridge.model.counts import Counts
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import MAX_ENTRY_BYTES, Retention


class Written(NamedTuple):
    """A message and where it was written."""

    key: str
    position: Position
    payload: bytes
    type: str | None
    counts: Counts | None


class Copy(NamedTuple):
    """A message for a group: it is numbered when the group is locked."""

    topic: int
    """The id of the topic of the message."""
    listed: bool
    token: str
    payload: bytes
    type: str | None
    counts: Counts | None


class MessageRow(NamedTuple):
    """A row of the log."""

    topic: int
    number: int
    mark: int
    token: str
    payload: bytes
    kind: str | None
    counts: str | None


@dataclass(slots=True)
class Batch:
    """The rows of one transaction."""

    retention: Retention
    topics: dict[str, Held]
    """By name: the topics that are locked."""
    messages: list[MessageRow] = field(default_factory=list)
    fields: dict[tuple[int, str], bytes] = field(default_factory=dict)
    """By topic and name."""
    entries: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Topic, number and payload."""
    copies: dict[str, list[Copy]] = field(default_factory=dict)
    """By the name of the group."""
    members: dict[tuple[int, int], None] = field(default_factory=dict)
    """The ids of a group and of a topic that it lists, in the order in which they came."""
    written: list[Written] = field(default_factory=list)
    by_token: dict[tuple[int, str], Written] = field(default_factory=dict)
    """What is written, by topic and token."""
    now: int = field(default_factory=milliseconds)

    def add(self, publication: Publication, counts: Counts | None = None) -> None:
        """Add a message with its change, unless the state of its topic refuses the change."""
        topic, change = self.topics[publication.topic], publication.change
        if change is not None and change.refused_by(topic.rank):
            return
        token = publication.token.decode()
        self._append(topic, token, publication.payload, publication.type, counts)
        if change is None:
            return
        topic.rank = change.rank
        for name, value in change.fields.items():
            self.fields[topic.id, name] = value
        if change.entry:
            topic.entries += 1
            topic.entries_measured |= is_to_be_measured(len(publication.payload), MAX_ENTRY_BYTES)
            self.entries.append((topic.id, topic.entries, publication.payload))
        for group in change.groups:
            copy = Copy(topic.id, bool(group.lists), token, publication.payload, publication.type, counts)
            self.copies.setdefault(group.topic, []).append(copy)

    def add_unlocked(self, publication: Publication) -> None:
        """Add a message without a change to a topic that is not locked, as if the topic were a group."""
        token = publication.token.decode()
        copy = Copy(0, False, token, publication.payload, publication.type, None)
        self.copies.setdefault(publication.topic, []).append(copy)

    def add_copies(self, group: Held, copies: Sequence[Copy]) -> None:
        """Add messages to a group, which is locked."""
        for copy in copies:
            self._append(group, copy.token, copy.payload, copy.type, copy.counts)
            if copy.listed:
                self.members[group.id, copy.topic] = None

    def _append(
        self, topic: Held, token: str, payload: bytes, event_type: str | None, counts: Counts | None
    ) -> None:
        """Give a message the next number of its topic."""
        if topic.number == 0 or topic.has_forgotten:
            # The database may be an older copy without some messages. A new epoch shows this to readers.
            topic.epoch, topic.has_forgotten = token[:8], False
        topic.number += 1
        topic.mark = max(topic.mark, self.now)
        topic.oldest = max(topic.oldest, topic.number + 1 - self.retention.messages)
        topic.measured |= is_to_be_measured(len(payload), self.retention.bytes)
        text = None if counts is None else str(counts)
        self.messages.append(MessageRow(topic.id, topic.number, topic.mark, token, payload, event_type, text))
        position = Position(topic.epoch, topic.number, topic.mark)
        written = Written(topic.key, position, payload, event_type, counts)
        self.written.append(written)
        self.by_token[topic.id, token] = written

    @property
    def changed(self) -> list[Held]:
        """The topics that have new messages, each once."""
        return [topic for topic in self.topics.values() if topic.number > topic.number_before]
