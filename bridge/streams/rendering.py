"""Renders items as the text that is sent, once for all the viewers of a topic. No I/O."""

from collections.abc import Iterable, Sequence
from weakref import WeakValueDictionary

from bridge.backends.base import Item, States
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder, plain_text
from bridge.streams.takeover.connection import LAST_CHUNK, chunk

LARGE = 128 * 1024
"""A text with more bytes waits in pieces."""

PIECE = 256 * 1024
"""Bytes of a large text that wait as one entry."""


ENDED = "ended"
"""Why a stream ends whose tasks have all ended."""


class Text:
    """The text of some items. All its viewers share it."""

    __slots__ = ("__weakref__", "chunked", "counted", "final", "progress", "raw", "reason")

    def __init__(
        self, raw: bytes, final: bool = False, progress: str | None = None, *, reason: str = ENDED
    ) -> None:
        self.raw = raw
        self.chunked = chunk(raw) + (LAST_CHUNK if final else b"") if raw else b""
        """The same, framed as HTTP chunks."""
        self.final = final
        """Whether the stream ends with it."""
        self.reason = reason
        """Why it ends, in one word for metrics."""
        self.progress = progress
        """The topic, if the text is only progress, which newer progress of the topic can replace."""
        self.counted = False
        """Whether it was counted among the texts that wait."""

    def piece(self, _place: int, *, chunked: bool) -> bytes:
        """Return the text, framed as HTTP chunks if it is to be. It has one piece."""
        return self.chunked if chunked else self.raw

    @property
    def length(self) -> int:
        """The bytes of the text, without framing."""
        return len(self.raw)

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return len(self.raw) + len(self.chunked)


class LargeText:
    """A text in pieces that wait for a viewer one by one. All its viewers share the pieces."""

    __slots__ = ("__weakref__", "_chunked", "_raw", "counted", "final")

    progress = None
    """It is never only progress."""
    reason = ENDED
    """Why a stream ends with it."""

    def __init__(self, raw: bytes, final: bool) -> None:
        self.final = final
        """Whether the stream ends with it."""
        self.counted = False
        """Whether it was counted among the texts that wait."""
        self._raw = [raw[at : at + PIECE] for at in range(0, len(raw), PIECE)]
        self._chunked: list[bytes] = []

    def pieces(self, *, chunked: bool) -> Sequence[bytes]:
        """Return the pieces, framed as HTTP chunks if they are to be."""
        if not chunked:
            return self._raw
        if not self._chunked:
            self._chunked = [chunk(piece) for piece in self._raw]
            if self.final:
                self._chunked[-1] += LAST_CHUNK
        return self._chunked

    def piece(self, place: int, *, chunked: bool) -> bytes:
        """Return one of the pieces."""
        return self.pieces(chunked=chunked)[place]

    @property
    def length(self) -> int:
        """The bytes of the text, without framing."""
        return sum(map(len, self._raw))

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return self.length + sum(map(len, self._chunked))


class Renderer:
    """Makes texts, and remembers those that are still needed. For one thread only."""

    def __init__(self, *, with_ids: bool) -> None:
        self._with_ids = with_ids
        self._last: tuple[Sequence[Item], Text] | None = None
        # The large texts that wait for some viewer, by the items that they contain.
        self._large: WeakValueDictionary[object, LargeText] = WeakValueDictionary()

    def for_one(self, encoder: Encoder, items: Sequence[Item]) -> Text | LargeText:
        """Make the text of a viewer that has an encoder of its own."""
        frames = [text for item in items for text in encoder.frames(item)]
        return self._text(frames, encoder.finished, encoder.mere_progress(items))

    def for_all(self, items: Sequence[Item], has_state: bool) -> Text | LargeText:
        """Return the text of items of one topic. It is cached for the same items."""
        if self._last is not None:
            before, text = self._last
            if len(before) == len(items) and before[0] is items[0] and before[-1] is items[-1]:
                return text
        key = (items[0].topic, len(items), _identity(items[0]), _identity(items[-1]))
        known = self._large.get(key)
        if known is not None:
            return known
        new = self._make(items, has_state)
        if isinstance(new, Text):
            self._last = items, new
        elif None not in key:
            self._large[key] = new
        return new

    def _make(self, items: Sequence[Item], has_state: bool) -> Text | LargeText:
        raw = None if has_state else plain_text(items)
        if raw is not None:
            return self._text([raw], False, None)
        topic = items[0].topic
        # A topic without a task has a state only for viewers that asked for its position.
        cursor = Cursor(told=frozenset({topic} if has_state else ()))
        return self.for_one(Encoder((topic,), cursor, with_ids=self._with_ids), items)

    def _text(self, frames: Iterable[bytes], final: bool, progress: str | None) -> Text | LargeText:
        raw = b"".join(frames)
        if len(raw) <= LARGE:
            return Text(raw, final, progress)
        return LargeText(raw, final)


def _identity(item: Item) -> object:
    """Return what identifies an item among all of its topic, `None` if nothing does."""
    if isinstance(item, States):
        return item.position and (item.position, item.after)
    return item.id
