"""Backlog: what waits to be sent to one viewer, in order. No I/O, no locks."""

from collections import deque
from collections.abc import Iterator

from bridge.streams.rendering import LargeText, Text

SEND_SIZE = 256 * 1024
"""Bytes that are sent to one viewer before the next viewer is served."""

ENTRY_BYTES = 100
"""What one entry takes in the backlog of a viewer, beside the text that all viewers share."""


class Entry:
    """Some bytes that wait."""

    __slots__ = ("data", "live", "place", "progress", "text")

    def __init__(
        self,
        data: bytes,
        progress: str | None,
        live: bool,
        text: Text | LargeText | None = None,
        place: int = 0,
    ) -> None:
        self.data = data
        self.progress = progress
        """The topic, if `data` is only progress, which newer progress of the topic replaces."""
        self.live = live
        """Whether it counts against the viewer's limit. History and state that the loop granted do not."""
        self.text = text
        """The text that `data` is, or is a piece of; `None` for what only this viewer gets."""
        self.place = place
        """The number of the piece in a large text."""


class Backlog:
    """What waits to be sent to one viewer."""

    __slots__ = ("_entries", "_latest", "_sent", "live", "since", "size")

    def __init__(self, since: float) -> None:
        """`since` is the time when something began to wait."""
        self.since = since
        self._entries: deque[Entry] = deque()
        self._latest: dict[str, Entry] | None = None  # the newest progress, by topic
        self._sent = 0  # bytes of the first entry that are sent; its data stays whole, for all share it
        self.size = 0
        """Bytes that wait."""
        self.live = 0
        """Those of them that count against the viewer's limit."""

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry) -> None:
        """Add an entry. Progress that waits already, and is not partly sent, gives way to newer progress."""
        if entry.progress is not None:
            if self._latest is None:
                self._latest = {}
            older = self._latest.get(entry.progress)
            if older is not None and older is not self._entries[0]:
                self._count(-len(older.data), older.live)
                older.data, older.text = b"", None
            self._latest[entry.progress] = entry
        self._entries.append(entry)
        self._count(len(entry.data), entry.live)

    def next_bytes(self) -> bytes | memoryview:
        """Return the first part of what waits, or everything if that is not much."""
        parts: list[bytes | memoryview] = []
        size = 0
        for entry in self._entries:
            if parts and size + len(entry.data) > SEND_SIZE:
                break
            data: bytes | memoryview = entry.data
            if not parts and self._sent:
                data = memoryview(data)[self._sent :]  # no copy: most of it may be sent later
            parts.append(data)
            size += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def remove(self, count: int) -> bool:
        """Remove the first `count` bytes, which are sent; return whether nothing more waits."""
        entries = self._entries
        while entries and count >= len(entries[0].data) - self._sent:
            entry = entries.popleft()
            rest = len(entry.data) - self._sent
            self._sent = 0
            count -= rest
            self._count(-rest, entry.live)
            latest, progress = self._latest, entry.progress
            if latest is not None and progress is not None and latest.get(progress) is entry:
                del latest[progress]
        if not entries:
            return True
        self._sent += count
        self._count(-count, entries[0].live)
        return False

    def _count(self, count: int, live: bool) -> None:
        self.size += count
        if live:
            self.live += count
