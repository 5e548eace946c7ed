"""Positions in the messages of one topic, and their text. The id of a message is the text of its position.

A topic's messages are numbered from 1 without a hole. The numbering starts again, with a new epoch, when the
server was flushed. Two messages with one number have different marks, which shows that a server failed over
to an older copy. (Epoch and offset are as in centrifugal/centrifuge.)
"""

import re
from typing import NamedTuple

BEGINNING = "beginning"
"""The cursor before the oldest message that is kept."""

_TEXT = re.compile(r"([0-9a-f]{0,32})-([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class Position(NamedTuple):
    """The position of one message. A reader that starts there gets the messages after it."""

    epoch: str
    number: int
    mark: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}-{self.mark}"

    @property
    def is_beginning(self) -> bool:
        return self.number < 0


ORIGIN = Position("", 0, 0)
"""The position before the first message: that of a topic without messages."""

_BEGINNING = Position("", -1, 0)


def position_of_id(message_id: str) -> Position:
    """Return the position of the message with this id, which is valid."""
    epoch, number, mark = message_id.split("-")
    return Position(epoch, int(number), int(mark))


def parse(cursor: str) -> Position:
    """Return the position of `cursor`. Raises `ValueError` if it is neither an id nor `BEGINNING`."""
    if cursor == BEGINNING:
        return _BEGINNING
    found = _TEXT.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None:
        raise ValueError(f"a cursor must be a message's id or bridge.BEGINNING, not {str(cursor)[:100]!r}")
    return Position(found[1], int(found[2]), int(found[3]))
