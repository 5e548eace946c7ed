"""From items to the text that is sent: made once for all the viewers of a topic. No I/O."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from weakref import WeakSet, WeakValueDictionary

from bridge.backends.base import Item, States
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder, plain_text
from bridge.streams.takeover.connection import LAST_CHUNK, chunk

PIECE = 64 * 1024
"""Bytes of a large text that wait as one."""


class Text(NamedTuple):
    """What some items amount to."""

    raw: bytes
    chunked: bytes
    over: bool
    """The stream ends with it."""
    progress: str | None
    """The topic, if it is nothing but progress, for which newer progress can stand."""


class LargeText:
    """A text in pieces that can wait for a viewer one by one. All its viewers share them."""

    def __init__(self, number: int, raw: bytes, over: bool) -> None:
        self.number = number
        """Counts large texts: the smallest is the oldest."""
        self.size = len(raw)
        self.over = over
        """The stream ends with it."""
        self._raw = [raw[at : at + PIECE] for at in range(0, len(raw), PIECE)]
        self._chunked: list[bytes] = []

    def pieces(self, *, chunked: bool) -> Sequence[bytes]:
        """Return the pieces, framed if they go out as chunks."""
        if not chunked:
            return self._raw
        if not self._chunked:
            self._chunked = [chunk(piece) for piece in self._raw]
            if self.over:
                self._chunked[-1] += LAST_CHUNK
        return self._chunked


def _name(item: Item) -> object:
    """Return what tells an item from all others of its topic, `None` where nothing does."""
    if isinstance(item, States):
        return item.position and (item.position, item.after)
    return item.id


def make_text(raw: bytes, over: bool = False, progress: str | None = None) -> Text:
    return Text(raw, chunk(raw) + (LAST_CHUNK if over else b"") if raw else b"", over, progress)


class Renderer:
    """Makes texts, and remembers those that are still needed. Not for several threads."""

    def __init__(self, *, with_ids: bool) -> None:
        self._with_ids = with_ids
        self._last: tuple[Sequence[Item], Text] | None = None
        self._numbers = itertools.count()
        # By what they were made of.
        self._large: WeakValueDictionary[object, LargeText] = WeakValueDictionary()
        self.large: WeakSet[LargeText] = WeakSet()
        """The large texts that some viewer still waits for."""

    def for_one(self, encoder: Encoder, items: Sequence[Item]) -> Text | LargeText:
        """Make the text of a viewer who has a script of its own."""
        frames = [text for item in items for text in encoder.frames(item)]
        return self._made(frames, encoder.finished, encoder.mere_progress(items))

    def for_all(self, items: Sequence[Item], has_state: bool) -> Text | LargeText:
        """Make the text of one topic, or take what was made of the same items before."""
        if self._last is not None:
            before, text = self._last
            if len(before) == len(items) and before[0] is items[0] and before[-1] is items[-1]:
                return text
        key = (items[0].topic, len(items), _name(items[0]), _name(items[-1]))
        known = self._large.get(key)
        if known is not None:
            return known
        made = self._make(items, has_state)
        if isinstance(made, Text):
            self._last = items, made
        elif None not in key:
            self._large[key] = made
        return made

    def _make(self, items: Sequence[Item], has_state: bool) -> Text | LargeText:
        raw = None if has_state else plain_text(items)
        if raw is not None:
            return self._made([raw], False, None)
        return self.for_one(Encoder((items[0].topic,), Cursor(), with_ids=self._with_ids), items)

    def _made(self, frames: Iterable[bytes], over: bool, progress: str | None) -> Text | LargeText:
        raw = b"".join(frames)
        if len(raw) <= 2 * PIECE:
            return make_text(raw, over, progress)
        text = LargeText(next(self._numbers), raw, over)
        self.large.add(text)
        return text
