"""Reading. Each function is right whatever is committed between its statements: see there why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, literal, select, union_all

from bridge.backends.base import PAGE_BYTES, States
from bridge.backends.sql.tables import ENTRIES, FIELDS, LINES, MEMBERS, MESSAGES, TOPICS
from bridge.model.message import Message
from bridge.model.position import ORIGIN, Position
from bridge.model.state import MAX_ENTRIES, MAX_MEMBERS, TopicState

PAGE = 500
"""Messages read in one go, within `PAGE_BYTES`."""

UNMEASURED = 4
"""Messages that are read without a look at their sizes first."""

MEMBERS_AT_ONCE = 100
"""Members of a group whose states are read in one go, within `PAGE_BYTES`."""

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


def page(connection: Connection, topic: str, head: Head, first: int) -> list[Message]:
    """Return a page of messages from `first` on, with two at least if there are so many: see `messages`."""
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
    """Return messages from `first` on, up to the head: they were there when it was read.

    Those that were let go meanwhile are missing at the beginning, where readers look for it.
    """
    bounds = {"b_topic": head.id, "b_first": max(first, head.oldest), "b_last": head.position.number}
    rows = connection.execute(_MESSAGES, {**bounds, "b_limit": limit})
    epoch = head.position.epoch
    return [
        Message(payload, topic=topic, id=str(Position(epoch, number, mark))) for number, mark, payload in rows
    ]


def field(connection: Connection, key: str, name: str) -> bytes | None:
    """Return one field of the state of a topic."""
    return connection.scalar(_FIELD, {"b_key": key, "b_name": name})


def states(connection: Connection, name: str, key: str, after: str | None) -> States:
    """Return a page of the state of a topic: its own, and where it is a group those of members, newest first.

    One statement reads all but the entries, so it is one point in the order of messages. Entries are only
    ever added: those up to the number read then are those of that point.
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
    """Return how many of the first rows make a page."""
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
    """Take a field or a line into the state of its topic."""
    if row.age is not None:
        state.lines.append(row.value)
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
    .where(_group.c.key == bindparam("b_key"), MEMBERS.c.id < bindparam("b_before"))
    .order_by(MEMBERS.c.id.desc())
    .limit(bindparam("b_limit"))
    .subquery()
)
_no_age = literal(None, LINES.c.age.type).label("age")
_topic = (
    TOPICS.c.id,
    TOPICS.c.name,
    TOPICS.c.epoch,
    TOPICS.c.number,
    TOPICS.c.mark,
    TOPICS.c.rank,
    TOPICS.c.entries,
)
_field = (*_topic, FIELDS.c.name.label("field"), FIELDS.c.value, _no_age)
_line = (
    *_topic,
    literal(None, FIELDS.c.name.type).label("field"),
    LINES.c.line.label("value"),
    LINES.c.age,
)
_here = TOPICS.c.key == bindparam("b_key")
_no_place = literal(None, MEMBERS.c.id.type).label("place")
_place = _listed.c.id.label("place")
_STATES = union_all(
    select(*_field, _no_place).outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id).where(_here),
    select(*_line, _no_place).join(LINES, LINES.c.topic == TOPICS.c.id).where(_here),
    select(*_field, _place)
    .join(_listed, _listed.c.topic == TOPICS.c.id)
    .outerjoin(FIELDS, FIELDS.c.topic == TOPICS.c.id),
    select(*_line, _place)
    .join(_listed, _listed.c.topic == TOPICS.c.id)
    .join(LINES, LINES.c.topic == TOPICS.c.id),
)

LATEST = select(func.coalesce(func.max(MESSAGES.c.id), 0))
"""The id of the last message of all, where ids are given in the order of commits: on SQLite."""

CHANGED = (
    select(TOPICS.c.key, func.max(MESSAGES.c.id))
    .join(TOPICS, TOPICS.c.id == MESSAGES.c.topic)
    .where(MESSAGES.c.id > bindparam("b_id"))
    .group_by(TOPICS.c.key)
)
"""The topics with messages after that id."""
