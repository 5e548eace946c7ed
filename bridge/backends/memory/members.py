"""The members of a group in memory: the newest for readers of the group, and older ones for paging."""

from bisect import bisect_left
from collections.abc import Callable, Iterator

from bridge.model.publication import MAX_MEMBERS

MAX_OLDER_BYTES = 128 * 1024 * 1024
"""About how many bytes those members of a group may take that are not among the newest."""

TOPIC_BYTES = 5120
"""About how many bytes a topic takes beside what was published."""


class Members:
    """The topics that a group lists. Not thread-safe: the store calls it with its lock held."""

    def __init__(self) -> None:
        self._newest: dict[str, int] = {}  # the number of each; the newest is at the end
        self._older: dict[str, tuple[int, int]] = {}  # the number and the bytes of each
        self._older_bytes = 0
        self._order: list[tuple[int, str]] = []  # by number; also some that were removed
        self._last = 0

    def __len__(self) -> int:
        return len(self._newest) + len(self._older)

    def __contains__(self, name: str) -> bool:
        return name in self._newest or name in self._older

    def __iter__(self) -> Iterator[str]:
        yield from self._older
        yield from self._newest

    def add(self, name: str, most: int, bytes_of: Callable[[str], int]) -> list[str]:
        """Add a topic. Return those that are no members any more, so that there are `most` at most."""
        self._last += 1
        self._newest[name] = self._last
        self._order.append((self._last, name))
        if len(self._newest) > MAX_MEMBERS:
            oldest = next(iter(self._newest))
            size = TOPIC_BYTES + bytes_of(oldest)
            self._older[oldest] = (self._newest.pop(oldest), size)
            self._older_bytes += size
        removed = []
        while len(self) > most or self._older_bytes > MAX_OLDER_BYTES:
            removed.append(next(iter(self._older)))
            self.discard(removed[-1])
        if len(self._order) > 2 * len(self) + MAX_MEMBERS:
            self._order = [(number, name) for number, name in self._order if name in self]
        return removed

    def discard(self, name: str) -> None:
        """Remove a topic, if it is a member."""
        if name in self._older:
            self._older_bytes -= self._older.pop(name)[1]
        else:
            self._newest.pop(name, None)

    def newest(self, after: str | None = None) -> list[str]:
        """Return the newest members that are older than `after`, the newest first."""
        names = list(reversed(self._newest))
        if after is None:
            return names
        return names[names.index(after) + 1 :] if after in self._newest else []

    def before(self, number: int | None, limit: int) -> list[tuple[int, str]]:
        """Return up to `limit` members that are older than the one with `number`, the newest first."""
        place = len(self._order) if number is None else bisect_left(self._order, (number, ""))
        found: list[tuple[int, str]] = []
        while place > 0 and len(found) < limit:
            place -= 1
            number_of, name = self._order[place]
            if self._number(name) == number_of:
                found.append(self._order[place])
        return found

    def _number(self, name: str) -> int | None:
        older = self._older.get(name)
        return self._newest.get(name) if older is None else older[0]
