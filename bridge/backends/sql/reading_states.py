"""Reads the state of topics, also while others commit. See `states` for why this is correct."""

from collections.abc import Mapping, Sequence

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal, select, union_all

from bridge.backends.base import PAGE_BYTES, States
from bridge.backends.sql.counts import COLUMNS, counts_of
from bridge.backends.sql.reading import MANY, position_of
from bridge.backends.sql.tables import COUNTS, ENTRIES, FIELDS, MEMBERS, ROWS, TOPICS
from bridge.model.position import ORIGIN
from bridge.model.publication import MAX_MEMBERS
from bridge.model.state import MAX_ENTRIES, MAX_ENTRY_BYTES, TopicState

MEMBERS_AT_ONCE = 100
"""The most members of a group in a page, which also has at most `PAGE_BYTES`."""

_ENTRY_SIZES = (
    select(ENTRIES.c.topic, func.sum(func.length(ENTRIES.c.payload)))
    .where(ENTRIES.c.topic.in_(bindparam("b_topics", expanding=True)))
    .group_by(ENTRIES.c.topic)
)
_FIELD = (
    select(FIELDS.c.value)
    .join(TOPICS, TOPICS.c.id == FIELDS.c.topic)
    .where(TOPICS.c.key == bindparam("b_key"), FIELDS.c.name == bindparam("b_name"))
)
_ENTRIES = (
    select(ENTRIES.c.topic, ENTRIES.c.number, ENTRIES.c.payload)
    .where(ENTRIES.c.topic.in_(bindparam("b_topics", expanding=True)))
    .order_by(ENTRIES.c.topic, ENTRIES.c.number)
)
_group = TOPICS.alias()
_listed = (
    select(MEMBERS.c.id, MEMBERS.c.topic)
    .join(_group, _group.c.id == MEMBERS.c.of_group)
    .where(_group.c.key == bindparam("b_key"), MEMBERS.c.id < bindparam("b_before"))
    .order_by(MEMBERS.c.id.desc())
    .limit(bindparam("b_limit"))
    .subquery()
)
_no_age = literal(None, ROWS.c.age.type).label("age")
_counts = [COUNTS.c[name] for name in COLUMNS]
_no_counts = [literal(None, column.type).label(column.name) for column in _counts]
_topic = (
    TOPICS.c.id,
    TOPICS.c.name,
    TOPICS.c.epoch,
    TOPICS.c.number,
    TOPICS.c.mark,
    TOPICS.c.rank,
    TOPICS.c.entries,
)
_field = (*_topic, FIELDS.c.name.label("field"), FIELDS.c.value, _no_age, *_no_counts)
# Each topic of a canvas has at least one of these: its counts, and the rows of its parts.
_row = (
    *_topic,
    literal(None, FIELDS.c.name.type).label("field"),
    ROWS.c.line.label("value"),
    ROWS.c.age,
    *_counts,
)
_here = TOPICS.c.key == bindparam("b_key")
_no_place = literal(None, MEMBERS.c.id.type).label("place")
_place = _listed.c.id.label("place")
_STATES = union_all(
    select(*_field, _no_place).outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id).where(_here),
    select(*_row, _no_place)
    .join(COUNTS, COUNTS.c.topic == TOPICS.c.id)
    .outerjoin(ROWS, ROWS.c.topic == TOPICS.c.id)
    .where(_here),
    select(*_field, _place)
    .join(_listed, _listed.c.topic == TOPICS.c.id)
    .outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id),
    select(*_row, _place)
    .join(_listed, _listed.c.topic == TOPICS.c.id)
    .join(COUNTS, COUNTS.c.topic == TOPICS.c.id)
    .outerjoin(ROWS, ROWS.c.topic == TOPICS.c.id),
)


def field(connection: Connection, key: str, name: str) -> bytes | None:
    """Return one field of the state of a topic."""
    return connection.scalar(_FIELD, {"b_key": key, "b_name": name})


def states(connection: Connection, name: str, key: str, after: str | None) -> States:
    """Return a page of the state of a topic: its own, and for a group those of its members, newest first.

    One statement reads everything except the entries, so the state is that of one position. Entries are only
    added. So the entries up to the number in that statement belong to the same position.
    """
    before, shown_before = (2**62, 0) if after is None else map(int, after.split("-"))
    limit = min(MEMBERS_AT_ONCE, MAX_MEMBERS - shown_before)
    rows = connection.execute(_STATES, {"b_key": key, "b_before": before, "b_limit": limit}).all()
    position = next((position_of(row) for row in rows if row.place is None), ORIGIN)
    order = sorted({row.id: row for row in rows}.values(), key=lambda row: -(row.place or 2**62))
    if after is not None:
        order = [row for row in order if row.place is not None]
    found = {row.id: TopicState(row.name) for row in order if row.rank >= 0}
    for row in sorted(rows, key=lambda row: row.age or 0):
        if row.id in found:
            _add(found[row.id], row)
    shown = order[: _fitting(connection, order, found)]
    _add_entries(connection, found, {row.id: row.entries for row in shown})
    page = [found[row.id] for row in shown if row.id in found]
    members = shown_before + sum(row.place is not None for row in shown)
    last = members >= MAX_MEMBERS or (len(shown) == len(order) and members - shown_before < limit)
    more = None if last else f"{shown[-1].place or 2**62}-{members}"
    return States(name, page, position, after, more)


def _fitting(connection: Connection, order: Sequence[Row[Any]], found: Mapping[int, TopicState]) -> int:
    """Return how many of the first rows fit in a page."""
    with_entries = [row.id for row in order if row.entries]
    entries: dict[int, int] = {}
    if with_entries:
        entries.update(map(tuple, connection.execute(_ENTRY_SIZES, {"b_topics": with_entries})))
    size = 0
    for count, row in enumerate(order, 1):
        size += (found[row.id].size if row.id in found else 0) + int(entries.get(row.id, 0))
        if size >= PAGE_BYTES:
            return count
    return len(order)


def _add(state: TopicState, row: Row[Any]) -> None:
    """Add a field, or the counts and the row of a part, to the state of its topic."""
    if row.size is not None:
        state.counts = counts_of(row)
    if row.age is not None:
        state.rows.append(row.value)
    elif row.field is not None:
        state.fields[row.field] = row.value


def _add_entries(connection: Connection, found: Mapping[int, TopicState], counts: Mapping[int, int]) -> None:
    topics = [topic for topic in found if counts.get(topic)]
    for start in range(0, len(topics), MANY):
        some = {"b_topics": topics[start : start + MANY]}
        for topic, number, payload in connection.execute(_ENTRIES, some):
            if counts[topic] - MAX_ENTRIES < number <= counts[topic]:
                found[topic].entries.append(payload)
    for topic in topics:
        _bound_entries(found[topic].entries)
        found[topic].omitted = counts[topic] - len(found[topic].entries)


def _bound_entries(entries: list[bytes]) -> None:
    """Remove the oldest entries if all of them have too many bytes: they may not be deleted yet."""
    size = sum(map(len, entries))
    count = 0
    while size > MAX_ENTRY_BYTES and count < len(entries) - 1:
        size -= len(entries[count])
        count += 1
    del entries[:count]
