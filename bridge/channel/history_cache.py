"""The last messages of a topic, kept for a short time for readers that catch up. No I/O."""

import time
from collections.abc import Sequence

from bridge.channel.history import known_position, messages_after
from bridge.model.message import Message
from bridge.model.position import Position

CACHE_BYTES = 8 * 1024 * 1024
CACHE_MESSAGES = 10_000
CACHE_SECONDS = 30.0


class HistoryCache:
    """Messages without a hole between them, bounded in bytes, number and time. Not thread-safe."""

    def __init__(self, seconds: float = CACHE_SECONDS) -> None:
        self._seconds = min(seconds, CACHE_SECONDS)
        self.is_brief = False
        """Whether to drop the messages as soon as no reader waits, without waiting for the time to pass."""
        self.clear()

    def clear(self, base: Position | None = None) -> None:
        """Begin again right after the position `base`; with `None` keep nothing until the next page."""
        self.base = base
        self.messages: list[Message] = []
        self._bytes = 0
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
        first, last, base, end = known_position(page[0]), known_position(page[-1]), self.base, self.end
        if base is not None and end is not None and base.number < first.number <= end.number + 1:
            self._append(messages_after(page, end))
            return
        newer = self.messages if base is not None and first.number <= base.number <= last.number else []
        # The position before the page is not known: use a mark that no message has.
        self.clear(first._replace(number=first.number - 1, mark=-1))
        self._append([*page, *messages_after(newer, last)])

    def add_live(self, messages: Sequence[Message]) -> None:
        """Keep live messages if they follow what is kept."""
        end = self.end
        if end is None or end.number >= known_position(messages[-1]).number:
            return
        if known_position(messages[0]).number <= end.number + 1:
            self._append(messages_after(messages, end))

    def _append(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self._bytes += sum(map(len, messages))
        surplus = len(self.messages) - CACHE_MESSAGES
        if surplus > 0 or self._bytes > CACHE_BYTES:
            count = 0
            while count < surplus or self._bytes > CACHE_BYTES:
                self._bytes -= len(self.messages[count])
                count += 1
            self.base = self.messages[count - 1].position
            del self.messages[:count]

    @property
    def is_outdated(self) -> bool:
        """Whether no reader has asked for history for a while."""
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
