"""The last messages of a topic, kept for a short time for readers that catch up. No I/O."""

import time
from collections.abc import Sequence

from bridge.channel.history import known_position, messages_after
from bridge.model.message import Message
from bridge.model.position import Position

CACHE_BYTES = 8 * 1024 * 1024
CACHE_MESSAGES = 10_000
CACHE_SECONDS = 30.0

UNKNOWN_MARK = -1
"""The mark of a message that is not known. No message has it."""


class HistoryCache:
    """Messages without a hole between them, bounded in bytes, number and time. Not thread-safe."""

    def __init__(self, seconds: float = CACHE_SECONDS, most: int = CACHE_BYTES) -> None:
        """`seconds` and `most` bytes are what the backend keeps: no more is kept here."""
        self._seconds = min(seconds, CACHE_SECONDS)
        self._most = min(most, CACHE_BYTES)
        self.is_brief = False
        """Whether to drop the messages as soon as no reader waits, without waiting for the time to pass."""
        self.clear()

    def clear(self, base: Position | None = None) -> None:
        """Begin again right after the position `base`; with `None` keep nothing until the next page."""
        self.base = base
        self.messages: list[Message] = []
        self.size = 0
        """Bytes of the messages."""
        self._read_at = time.monotonic()

    @property
    def end(self) -> Position | None:
        """The position of the last message."""
        return self.messages[-1].position if self.messages else self.base

    def add_page(self, page: Sequence[Message]) -> None:
        """Keep a page of history, together with what is kept already if the two meet."""
        self._read_at = time.monotonic()
        self.is_brief = False
        if not page:
            return
        if self._is_continued_by(page):
            self.add_live(page)
            return
        first, last = known_position(page[0]), known_position(page[-1])
        newer = messages_after(self.messages, last) if self._goes_on_after(last) else []
        self.clear(first._replace(number=first.number - 1, mark=UNKNOWN_MARK))
        self._append([*page, *newer])

    def _is_continued_by(self, page: Sequence[Message]) -> bool:
        """Return whether `page` begins among these messages or right after them, and agrees with them."""
        first, last, base, end = known_position(page[0]), known_position(page[-1]), self.base, self.end
        if base is None or end is None or not base.number < first.number <= end.number + 1:
            return False
        if first.number == end.number + 1:
            return end.epoch in ("", first.epoch)
        # Both are logs without a hole: if they agree on one message, they agree on all before it.
        common = min(last.number, end.number)
        return self.reaches_back_to(known_position(page[common - first.number]))

    def _goes_on_after(self, last: Position) -> bool:
        """Return whether the messages here with higher numbers follow the message at `last`."""
        if self.base is not None and self.base.number == last.number and self.base.mark == UNKNOWN_MARK:
            return self.base.epoch == last.epoch
        return self.reaches_back_to(last)

    def add_live(self, messages: Sequence[Message]) -> None:
        """Keep those of `messages` that are new, if no message is missing before them."""
        end = self.end
        if end is None:
            return
        first = known_position(messages[0])
        known = end.number + 1 - first.number  # how many of them are kept already
        if end.epoch in ("", first.epoch) and 0 <= known < len(messages):
            self._append(messages[known:])

    def _append(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self.size += sum(map(len, messages))
        surplus = len(self.messages) - CACHE_MESSAGES
        if surplus > 0 or self.size > self._most:
            count = 0
            while count < surplus or self.size > self._most:
                self.size -= len(self.messages[count])
                count += 1
            self.base = self.messages[count - 1].position
            del self.messages[:count]

    @property
    def is_outdated(self) -> bool:
        """Whether no reader has requested history for a while."""
        if self.base is None:
            return False
        return self.is_brief or time.monotonic() - self._read_at > self._seconds

    def reaches_back_to(self, position: Position) -> bool:
        """Return whether every message that follows `position` is here, and `position` itself is known."""
        if self.base is None or position.is_beginning:
            return False
        index = position.number - self.base.number
        if index == 0:
            return position == self.base
        return 0 < index <= len(self.messages) and self.messages[index - 1].position == position
