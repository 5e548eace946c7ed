"""Reads all members of a group in pages, with the fields of their states."""

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, select

from bridge.backends.base import PAGE_BYTES, Listed
from bridge.backends.sql.counts import COLUMNS, counts_of
from bridge.backends.sql.tables import COUNTS, FIELDS, MEMBERS, TOPICS
from bridge.model.state import TopicState

AT_ONCE = 100
"""Members whose states are read with one statement."""

_group = TOPICS.alias()
_MEMBERS = (
    select(MEMBERS.c.id.label("place"), TOPICS.c.id, TOPICS.c.name, TOPICS.c.entries)
    .join(_group, _group.c.id == MEMBERS.c.of_group)
    .join(TOPICS, TOPICS.c.id == MEMBERS.c.topic)
    .where(_group.c.key == bindparam("b_key"), MEMBERS.c.id < bindparam("b_before"))
    .order_by(MEMBERS.c.id.desc())
    .limit(bindparam("b_limit"))
)
_FIELDS = select(FIELDS.c.topic, FIELDS.c.name, FIELDS.c.value).where(
    FIELDS.c.topic.in_(bindparam("b_topics", expanding=True))
)
_COUNTS = select(COUNTS.c.topic, *(COUNTS.c[name] for name in COLUMNS)).where(
    COUNTS.c.topic.in_(bindparam("b_topics", expanding=True))
)
_COUNT = (
    select(func.count())
    .select_from(MEMBERS)
    .join(_group, _group.c.id == MEMBERS.c.of_group)
    .where(_group.c.key == bindparam("b_key"))
)


def listed(connection: Connection, key: str, before: str | None, limit: int) -> Listed:
    """Return a page of the members of a group, the newest first. Raises `ValueError` for a bad `before`.

    Others may commit between the statements: then a state is newer than another one, and none is wrong.
    """
    place = 2**62 if before is None else int(before)
    found: list[TopicState] = []
    size = 0
    while len(found) < limit and size < PAGE_BYTES:
        wanted = min(AT_ONCE, limit - len(found))
        rows = connection.execute(_MEMBERS, {"b_key": key, "b_before": place, "b_limit": wanted}).all()
        for row, state in _states(connection, rows):
            if size >= PAGE_BYTES:
                return Listed(found, str(place))
            place = row.place
            if state.fields:
                found.append(state)
                size += state.size
        if len(rows) < wanted:
            return Listed(found, None)
    return Listed(found, str(place))


def _states(connection: Connection, rows: Any) -> list[tuple[Row[Any], TopicState]]:
    topics = [row.id for row in rows]
    if not topics:
        return []
    states = {row.id: TopicState(row.name, omitted=row.entries) for row in rows}
    for topic, name, value in connection.execute(_FIELDS, {"b_topics": topics}):
        states[topic].fields[name] = value
    for counts in connection.execute(_COUNTS, {"b_topics": topics}):
        states[counts.topic].counts = counts_of(counts)
    return [(row, states[row.id]) for row in rows]


def count(connection: Connection, key: str) -> int:
    """Return how many members a group has."""
    return int(connection.scalar(_COUNT, {"b_key": key}) or 0)
