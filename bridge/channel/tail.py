"""The tail of a topic: its last messages, kept for a short time for readers that catch up. No I/O."""

import time
from collections.abc import Sequence

from bridge.model.message import Message
from bridge.model.position import Position

TAIL_BYTES = 8 * 1024 * 1024
TAIL_MESSAGES = 10_000
TAIL_SECONDS = 30.0


class Tail:
    """Messages without a hole between them, bounded in bytes. Not for several threads."""

    def __init__(self, seconds: float = TAIL_SECONDS) -> None:
        self._seconds = min(seconds, TAIL_SECONDS)
        self.brief = False
        """Whether it is of no use once nobody waits."""
        self.clear()

    def clear(self, base: Position | None = None) -> None:
        """Begin again right after the place `base`; `None`: keep nothing until the next page."""
        self.base = base
        self.messages: list[Message] = []
        self._bytes = 0
        self._read_at = time.monotonic()

    @property
    def end(self) -> Position | None:
        """The place of its last message."""
        return self.messages[-1].position if self.messages else self.base

    def take(self, page: Sequence[Message]) -> None:
        """Keep a page of history, with what is kept already if the two meet."""
        self._read_at = time.monotonic()
        self.brief = False
        if not page:
            return
        first, last, base, end = place_of(page[0]), place_of(page[-1]), self.base, self.end
        if base is not None and end is not None and base.number < first.number <= end.number + 1:
            self._add(following(page, end))
            return
        newer = self.messages if base is not None and first.number <= base.number <= last.number else []
        # What stands before the page is not known: a mark that no message has.
        self.clear(first._replace(number=first.number - 1, mark=-1))
        self._add([*page, *following(newer, last)])

    def extend(self, fresh: Sequence[Message]) -> None:
        """Keep new messages if they follow what is kept."""
        end = self.end
        if end is None or end.number >= place_of(fresh[-1]).number:
            return
        if place_of(fresh[0]).number <= end.number + 1:
            self._add(following(fresh, end))

    def _add(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self._bytes += sum(map(len, messages))
        surplus = len(self.messages) - TAIL_MESSAGES
        if surplus > 0 or self._bytes > TAIL_BYTES:
            count = 0
            while count < surplus or self._bytes > TAIL_BYTES:
                self._bytes -= len(self.messages[count])
                count += 1
            self.base = self.messages[count - 1].position
            del self.messages[:count]

    @property
    def outdated(self) -> bool:
        """Whether nobody has asked for history for a while."""
        return self.base is not None and (self.brief or time.monotonic() - self._read_at > self._seconds)

    def holds(self, after: Position) -> bool:
        """Whether the message at `after` is known here, so that what follows it here follows it."""
        if self.base is None or after.is_beginning:
            return False
        at = after.number - self.base.number
        if at == 0:
            return after == self.base
        return 0 < at <= len(self.messages) and self.messages[at - 1].position == after


def place_of(message: Message) -> Position:
    assert message.position is not None, "only backends that keep positions have a history"
    return message.position


def following(messages: Sequence[Message], after: Position) -> Sequence[Message]:
    """Return those of `messages`, which are numbered without a hole, that follow the place `after`."""
    if not messages or after.is_beginning:
        return messages
    return messages[max(0, after.number + 1 - place_of(messages[0]).number) :]
