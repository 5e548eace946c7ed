"""The messages that wait to be published. Their number is limited, and entries are left out first.

An entry is a message that joins the list of entries in the state of its topic: steps, logs and custom events.
"""

from collections import deque
from typing import NamedTuple

from bridge.model.publication import Publication
from bridge.tasks.changes import left_out

LIMIT = 10_000
"""Messages that may wait."""


class _Waiting(NamedTuple):
    publication: Publication
    stands_for: int = 0
    """How many entries this message replaces."""

    @property
    def is_entry(self) -> bool:
        return self.publication.change is not None and self.publication.change.entry


class PublishQueue:
    """A queue of at most `LIMIT` messages. Not thread-safe: its user has a lock."""

    def __init__(self) -> None:
        self.dropped = 0
        """Messages that were left out since the process began."""
        self.clear()

    def clear(self) -> None:
        """Forget all messages. They do not count as left out."""
        self._waiting: deque[_Waiting] = deque()
        self._entries = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, publication: Publication) -> None:
        """Add a message, and leave out others if there are too many."""
        if len(self._waiting) >= LIMIT:
            self._make_room()
        waiting = _Waiting(publication)
        self._waiting.append(waiting)
        self._entries += waiting.is_entry

    def take(self, most: int) -> list[Publication]:
        """Remove and return the oldest messages, `most` of them at most."""
        taken = [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]
        self._entries -= sum(waiting.is_entry for waiting in taken)
        return [waiting.publication for waiting in taken]

    def _make_room(self) -> None:
        """Leave out the older half of the entries, or the oldest message if few are entries."""
        surplus = self._entries // 2
        if surplus < LIMIT // 4:
            self._entries -= self._waiting.popleft().is_entry
            self.dropped += 1
            return
        kept: list[_Waiting] = []
        removed: dict[str, list[_Waiting]] = {}
        places: dict[str, int] = {}  # by topic: where in `kept` the first removed entry was
        while surplus:
            waiting = self._waiting.popleft()
            if not waiting.is_entry:
                kept.append(waiting)
                continue
            topic = waiting.publication.topic
            surplus -= 1
            self.dropped += not waiting.stands_for
            removed.setdefault(topic, []).append(waiting)
            if places.setdefault(topic, len(kept)) == len(kept):
                kept.append(waiting)
        for topic, entries in removed.items():
            kept[places[topic]] = _left_out(topic, entries)
        self._waiting.extendleft(reversed(kept))
        self._entries = sum(waiting.is_entry for waiting in self._waiting)


def _left_out(topic: str, entries: list[_Waiting]) -> _Waiting:
    """Return the message that replaces entries of `topic`."""
    count = sum(waiting.stands_for or 1 for waiting in entries)
    changes = [waiting.publication.change for waiting in entries if waiting.publication.change is not None]
    return _Waiting(left_out(topic, count, changes), count)
