"""Backlog: what waits to be sent to one viewer, in order. No I/O, no locks."""

from collections import deque
from collections.abc import Iterator

from bridge.streams.rendering import LargeText

SEND_SIZE = 256 * 1024
"""Bytes that are sent to one viewer before the next viewer is served."""


class Entry:
    """Some bytes that wait."""

    __slots__ = ("data", "live", "place", "progress", "text")

    def __init__(
        self, data: bytes, progress: str | None, live: bool, text: LargeText | None = None, place: int = 0
    ) -> None:
        self.data = data
        self.progress = progress
        """The topic, if `data` is only progress, which newer progress of the topic replaces."""
        self.live = live
        """Whether it counts against the viewer's limit. History and state that the loop granted do not."""
        self.text = text
        """The large text that `data` is a piece of, if any."""
        self.place = place
        """The number of the piece in `text`."""


class Backlog:
    """What waits to be sent to one viewer."""

    __slots__ = ("_entries", "_latest", "live", "size")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self._latest: dict[str, Entry] | None = None  # the newest progress, by topic
        self.size = 0
        """Bytes that wait."""
        self.live = 0
        """Those of them that count against the viewer's limit."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def put(self, entry: Entry) -> None:
        """Add an entry. Progress that waits already, and is not partly sent, gives way to newer progress."""
        if entry.progress is not None:
            if self._latest is None:
                self._latest = {}
            older = self._latest.get(entry.progress)
            if older is not None and older is not self._entries[0]:
                self._count(-len(older.data), older.live)
                older.data = b""
            self._latest[entry.progress] = entry
        self._entries.append(entry)
        self._count(len(entry.data), entry.live)

    def next_bytes(self) -> bytes:
        """Return the first part of what waits, or everything if that is not much."""
        parts: list[bytes] = []
        size = 0
        for entry in self._entries:
            if parts and size + len(entry.data) > SEND_SIZE:
                break
            parts.append(entry.data)
            size += len(entry.data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def remove(self, count: int) -> bool:
        """Remove the first `count` bytes, which are sent; return whether nothing more waits."""
        entries = self._entries
        while entries and count >= len(entries[0].data):
            entry = entries.popleft()
            count -= len(entry.data)
            self._count(-len(entry.data), entry.live)
            latest, progress = self._latest, entry.progress
            if latest is not None and progress is not None and latest.get(progress) is entry:
                del latest[progress]
        if not entries:
            return True
        first = entries[0]
        first.data = first.data[count:]
        self._count(-count, first.live)
        return False

    def has_piece_of(self, text: LargeText) -> bool:
        """Whether a piece of `text` waits. Another thread may remove entries at the same time."""
        # The copy is one step, which no other thread can interrupt.
        return any(entry.text is text for entry in list(self._entries))

    def _count(self, count: int, live: bool) -> None:
        self.size += count
        if live:
            self.live += count
