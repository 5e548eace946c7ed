"""A place in the messages of one topic, and its text: a message's id is its position, a cursor is an id.

A topic's messages are numbered from 1 without a hole. The epoch is drawn anew whenever the numbering begins
anew, so a server that was flushed is noticed; the mark tells two messages of one number apart, so a server
that failed over to an older copy is noticed too. (Epoch and offset: as in centrifugal/centrifuge.)
"""

import re
from typing import NamedTuple

BEGINNING = "beginning"
"""The cursor before the oldest message that is kept."""

_TEXT = re.compile(r"([0-9a-f]{0,32})-([0-9]{1,18})-([0-9]{1,18})", re.ASCII)


class Position(NamedTuple):
    """The place of one message; a cursor there means: strictly after it."""

    epoch: str
    number: int
    mark: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}-{self.mark}"

    @property
    def is_beginning(self) -> bool:
        return self.number < 0


ORIGIN = Position("", 0, 0)
"""Before the first message ever: the place of a topic to which nothing was published yet."""

_BEGINNING = Position("", -1, 0)


def position_of_id(message_id: str) -> Position:
    """Return the position whose text a message's own id is."""
    epoch, number, mark = message_id.split("-")
    return Position(epoch, int(number), int(mark))


def parse(cursor: str) -> Position:
    """Return the position that `cursor` names; raise `ValueError` if it is neither an id nor `BEGINNING`."""
    if cursor == BEGINNING:
        return _BEGINNING
    found = _TEXT.fullmatch(cursor) if isinstance(cursor, str) else None
    if found is None:
        raise ValueError(f"a cursor must be a message's id or bridge.BEGINNING, not {str(cursor)[:100]!r}")
    return Position(found[1], int(found[2]), int(found[3]))
