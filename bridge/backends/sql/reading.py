"""Reads the positions of topics, and their messages.

Each function is correct even if others commit between its statements. Its docstring says why.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, bindparam, func, select

from bridge.backends.base import PAGE_BYTES
from bridge.backends.sql.tables import MESSAGES, TOPICS
from bridge.model.counts import parse_counts
from bridge.model.message import Message, make_message
from bridge.model.position import ORIGIN, Position

PAGE = 500
"""The most messages in a page, which also has at most `PAGE_BYTES`."""

UNMEASURED = 4
"""Messages that are read without a query for their sizes first."""

MANY = 500
"""The most keys in one statement."""

_HEADS = select(
    TOPICS.c.key,
    TOPICS.c.id,
    TOPICS.c.epoch,
    TOPICS.c.number,
    TOPICS.c.mark,
    TOPICS.c.oldest,
    TOPICS.c.upkeep,
).where(TOPICS.c.key.in_(bindparam("b_keys", expanding=True)))
_MESSAGES = (
    select(MESSAGES.c.number, MESSAGES.c.mark, MESSAGES.c.payload, MESSAGES.c.kind, MESSAGES.c.counts)
    .where(
        MESSAGES.c.topic == bindparam("b_topic"),
        MESSAGES.c.number >= bindparam("b_first"),
        MESSAGES.c.number <= bindparam("b_last"),
    )
    .order_by(MESSAGES.c.number)
    .limit(bindparam("b_limit"))
)

_SIZES = (
    select(func.length(MESSAGES.c.payload))
    .where(
        MESSAGES.c.topic == bindparam("b_topic"),
        MESSAGES.c.number >= bindparam("b_first"),
        MESSAGES.c.number <= bindparam("b_last"),
    )
    .order_by(MESSAGES.c.number)
    .limit(PAGE)
)


@dataclass(frozen=True, slots=True)
class Head:
    """The position of a topic."""

    id: int
    position: Position
    oldest: int
    upkeep: int


NOWHERE = Head(0, ORIGIN, 1, 0)
"""The head of a topic without messages."""


def position_of(row: Any) -> Position:
    return Position(row.epoch, row.number, row.mark) if row.number else ORIGIN


def heads(connection: Connection, keys: Sequence[str]) -> dict[str, Head]:
    """Return the heads of those of the topics that exist, by key."""
    found = {}
    for start in range(0, len(keys), MANY):
        for row in connection.execute(_HEADS, {"b_keys": keys[start : start + MANY]}):
            found[row.key] = Head(row.id, position_of(row), row.oldest, row.upkeep)
    return found


def page(connection: Connection, topic: str, head: Head, first: int) -> list[Message]:
    """Return a page of messages from `first` on: at least two if there are two. See `messages`."""
    first = max(first, head.oldest)
    if head.position.number - first < UNMEASURED:
        return messages(connection, topic, head, first, UNMEASURED)
    bounds = {"b_topic": head.id, "b_first": first, "b_last": head.position.number}
    count = size = 0
    for (length,) in connection.execute(_SIZES, bounds):
        size += length + 64
        if size > PAGE_BYTES and count > 1:
            break
        count += 1
    return messages(connection, topic, head, first, max(count, 2))


def messages(connection: Connection, topic: str, head: Head, first: int, limit: int) -> list[Message]:
    """Return messages from `first` on, up to the head. They existed when the head was read.

    Messages that were removed meanwhile are missing at the beginning, where readers check for it.
    """
    bounds = {"b_topic": head.id, "b_first": max(first, head.oldest), "b_last": head.position.number}
    rows = connection.execute(_MESSAGES, {**bounds, "b_limit": limit})
    epoch = head.position.epoch
    found = []
    for number, mark, payload, event_type, counts in rows:
        place = str(Position(epoch, number, mark))
        found.append(
            make_message(payload, topic=topic, id=place, type=event_type, counts=parse_counts(counts))
        )
    return found


LATEST = select(func.coalesce(func.max(MESSAGES.c.id), 0))
"""The id of the last message of all topics. Only on SQLite are ids in the order of commits."""

CHANGED = (
    select(TOPICS.c.key, func.max(MESSAGES.c.id))
    .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic)
    .where(MESSAGES.c.id > bindparam("b_id"))
    .group_by(TOPICS.c.key)
)
"""The topics with messages after an id."""
