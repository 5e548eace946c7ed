"""Reading. Each function is right whatever is committed between its statements: see there why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, func, literal, select, union_all

from bridge.backends.sql.tables import ENTRIES, FIELDS, MEMBERS, MESSAGES, TOPICS
from bridge.channel import Message
from bridge.position import ORIGIN, Position
from bridge.state import MAX_ENTRIES, MAX_MEMBERS, TopicState

PAGE = 500
"""Messages read in one go."""

MANY = 500
"""Names in one statement."""

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
    select(MESSAGES.c.number, MESSAGES.c.mark, MESSAGES.c.payload)
    .where(
        MESSAGES.c.topic == bindparam("b_topic"),
        MESSAGES.c.number >= bindparam("b_first"),
        MESSAGES.c.number <= bindparam("b_last"),
    )
    .order_by(MESSAGES.c.number)
    .limit(bindparam("b_limit"))
)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a topic is."""

    id: int
    position: Position
    oldest: int
    upkeep: int


NOWHERE = Head(0, ORIGIN, 1, 0)
"""The head of a topic that nobody has published to."""


def position_of(row: Any) -> Position:
    return Position(row.epoch, row.number, row.mark) if row.number else ORIGIN


def heads(connection: Connection, keys: Sequence[str]) -> dict[str, Head]:
    """Return where each of these topics is, if there is anything of it."""
    found = {}
    for start in range(0, len(keys), MANY):
        for row in connection.execute(_HEADS, {"b_keys": keys[start : start + MANY]}):
            found[row.key] = Head(row.id, position_of(row), row.oldest, row.upkeep)
    return found


def messages(connection: Connection, topic: str, head: Head, first: int, limit: int = PAGE) -> list[Message]:
    """Return messages from `first` on, up to the head: they were there when it was read.

    Those that were let go meanwhile are missing at the beginning, where readers look for it.
    """
    bounds = {"b_topic": head.id, "b_first": max(first, head.oldest), "b_last": head.position.number}
    rows = connection.execute(_MESSAGES, {**bounds, "b_limit": limit})
    epoch = head.position.epoch
    return [
        Message(payload, topic=topic, position=Position(epoch, number, mark))
        for number, mark, payload in rows
    ]


def states(connection: Connection, key: str) -> tuple[Position, list[TopicState]]:
    """Return where a topic is and its state; where it is a group also those of its members, newest first.

    One statement reads all but the entries, so it is one point in the order of messages. Entries are only
    ever added: those up to the number read then are those of that point.
    """
    rows = connection.execute(_STATES, {"b_key": key}).all()
    position = next((position_of(row) for row in rows if row.place is None), ORIGIN)
    order = sorted({row.id: row for row in rows}.values(), key=lambda row: -(row.place or 2**62))
    found = {row.id: TopicState(row.name) for row in order if row.rank >= 0}
    counts = {row.id: row.entries for row in order}
    for row in rows:
        if row.field is not None and row.id in found:
            found[row.id].fields[row.field] = row.value
    _add_entries(connection, found, counts)
    return position, list(found.values())


def _add_entries(connection: Connection, found: Mapping[int, TopicState], counts: Mapping[int, int]) -> None:
    topics = [topic for topic in found if counts[topic]]
    for start in range(0, len(topics), MANY):
        some = {"b_topics": topics[start : start + MANY]}
        for topic, number, payload in connection.execute(_ENTRIES, some):
            if counts[topic] - MAX_ENTRIES < number <= counts[topic]:
                found[topic].entries.append(payload)
    for topic in topics:
        found[topic].omitted = counts[topic] - len(found[topic].entries)


_ENTRIES = (
    select(ENTRIES.c.topic, ENTRIES.c.number, ENTRIES.c.payload)
    .where(ENTRIES.c.topic.in_(bindparam("b_topics", expanding=True)))
    .order_by(ENTRIES.c.topic, ENTRIES.c.number)
)
_group = TOPICS.alias()
_listed = (
    select(MEMBERS.c.id, MEMBERS.c.topic)
    .join(_group, _group.c.id == MEMBERS.c.of_group)
    .where(_group.c.key == bindparam("b_key"))
    .order_by(MEMBERS.c.id.desc())
    .limit(MAX_MEMBERS)
    .subquery()
)
_state = (
    TOPICS.c.id,
    TOPICS.c.name,
    TOPICS.c.epoch,
    TOPICS.c.number,
    TOPICS.c.mark,
    TOPICS.c.rank,
    TOPICS.c.entries,
    FIELDS.c.name.label("field"),
    FIELDS.c.value,
)
_own = (
    select(*_state, literal(None, MEMBERS.c.id.type).label("place"))
    .outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id)
    .where(TOPICS.c.key == bindparam("b_key"))
)
_of_members = (
    select(*_state, _listed.c.id.label("place"))
    .join(_listed, _listed.c.topic == TOPICS.c.id)
    .outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id)
)
_STATES = union_all(_own, _of_members)

LATEST = select(func.coalesce(func.max(MESSAGES.c.id), 0))
"""The id of the last message of all, where ids are given in the order of commits: on SQLite."""

CHANGED = (
    select(TOPICS.c.key, func.max(MESSAGES.c.id))
    .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic)
    .where(MESSAGES.c.id > bindparam("b_id"))
    .group_by(TOPICS.c.key)
)
"""The topics with messages after that id."""
