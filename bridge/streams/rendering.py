"""Renders items as the text that is sent, once for all the viewers of a topic. No I/O."""

import itertools
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import NamedTuple
from weakref import WeakSet, WeakValueDictionary

from bridge.backends.base import Item, States
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder, plain_text
from bridge.streams.takeover.connection import LAST_CHUNK, chunk

PIECE = 64 * 1024
"""Bytes of a large text that wait as one entry."""

LARGE_TEXTS = 64 * 1024 * 1024
"""Bytes of large texts, mostly states, that may wait for viewers. The newest alone may be larger."""


class Text(NamedTuple):
    """The text of some items."""

    raw: bytes
    chunked: bytes
    """The same, framed as HTTP chunks."""
    final: bool
    """Whether the stream ends with it."""
    progress: str | None
    """The topic, if the text is only progress, which newer progress of the topic can replace."""


class LargeText:
    """A text in pieces that wait for a viewer one by one. All its viewers share the pieces."""

    def __init__(self, number: int, raw: bytes, final: bool) -> None:
        self.number = number
        """Counts large texts: the smallest is the oldest."""
        self.size = len(raw)
        self.final = final
        """Whether the stream ends with it."""
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


def make_text(raw: bytes, final: bool = False, progress: str | None = None) -> Text:
    """Return `raw` as a text with both framings."""
    return Text(raw, chunk(raw) + (LAST_CHUNK if final else b"") if raw else b"", final, progress)


class Renderer:
    """Makes texts, and remembers those that are still needed. For one thread only."""

    def __init__(self, *, with_ids: bool) -> None:
        self._with_ids = with_ids
        self._last: tuple[Sequence[Item], Text] | None = None
        self._numbers = itertools.count()
        # By the items that they contain.
        self._large: WeakValueDictionary[object, LargeText] = WeakValueDictionary()
        self.large: WeakSet[LargeText] = WeakSet()
        """The large texts that wait for some viewer."""

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

    def surplus(self) -> list[LargeText]:
        """Return the oldest large texts, without which the others take at most `LARGE_TEXTS` bytes."""
        large = sorted(self.large, key=attrgetter("number"))
        excess = sum(text.size for text in large) - LARGE_TEXTS
        surplus = []
        for text in large[:-1]:
            if excess <= 0:
                break
            excess -= text.size
            surplus.append(text)
        return surplus

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
        if len(raw) <= 2 * PIECE:
            return make_text(raw, final, progress)
        text = LargeText(next(self._numbers), raw, final)
        self.large.add(text)
        return text


def _identity(item: Item) -> object:
    """Return what identifies an item among all of its topic, `None` if nothing does."""
    if isinstance(item, States):
        return item.position and (item.position, item.after)
    return item.id
