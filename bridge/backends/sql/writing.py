"""Writes the rows of a batch through SQLAlchemy, to any database: one statement for each table."""

from collections.abc import Sequence

# `Any` in this module: the two `insert` differ in type, and rows are dictionaries for SQLAlchemy.
from typing import Any

from sqlalchemy import Connection, bindparam, delete, exists, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from bridge.backends.sql.batch import Batch
from bridge.backends.sql.held import COLUMNS, Held
from bridge.backends.sql.retention import trim
from bridge.backends.sql.tables import ENTRIES, FIELDS, MEMBERS, MESSAGES, TOPICS
from bridge.model.state import Retention

_ADD_MESSAGES, _ADD_ENTRIES, _ADD_FIELDS = insert(MESSAGES).inline(), insert(ENTRIES), insert(FIELDS)
_NUMBER = (
    update(TOPICS)
    .where(TOPICS.c.id == bindparam("b_id"))
    .values(
        {name: bindparam(f"b_{name}") for name in ("epoch", "number", "mark", "oldest", "rank", "entries")}
    )
)
# These two are not set with every message, because that would write the index of `upkeep`.
_TRIMMED = (
    update(TOPICS)
    .where(TOPICS.c.id == bindparam("b_id"))
    .values({name: bindparam(f"b_{name}") for name in ("oldest", "swept", "upkeep")})
)
_TRIMMED_COLUMNS = ("id", "oldest", "swept", "upkeep")
_FREE = (
    select(*(TOPICS.c[name] for name in COLUMNS))
    .where(TOPICS.c.id.in_(bindparam("b_ids", expanding=True)))
    .order_by(TOPICS.c.key)
    .with_for_update(skip_locked=True)
)
_UNSET = delete(FIELDS).where(FIELDS.c.topic == bindparam("b_topic"), FIELDS.c.name == bindparam("b_name"))
_ENLIST = insert(MEMBERS).from_select(
    ["of_group", "topic"],
    select(bindparam("b_group", type_=TOPICS.c.id.type), TOPICS.c.id).where(
        TOPICS.c.id == bindparam("b_topic"),
        ~exists().where(
            MEMBERS.c.of_group == bindparam("b_group", type_=TOPICS.c.id.type),
            MEMBERS.c.topic == bindparam("b_topic"),
        ),
    ),
)


def _upsert(maker: Any) -> Any:
    statement = maker(FIELDS)
    keys = [FIELDS.c.topic, FIELDS.c.name]
    return statement.on_conflict_do_update(index_elements=keys, set_={"value": statement.excluded.value})


_UPSERTS = {"sqlite": _upsert(sqlite.insert), "postgresql": _upsert(postgresql.insert)}


def write(connection: Connection, batch: Batch) -> None:
    """Write all rows of `batch`, whose topics are locked."""
    if not batch.messages:
        return
    connection.execute(_ADD_MESSAGES, [row._asdict() for row in batch.messages])
    _set_fields(connection, batch)
    if batch.entries:
        entries = [dict(zip(("topic", "number", "payload"), row, strict=True)) for row in batch.entries]
        connection.execute(_ADD_ENTRIES, entries)
    if batch.members:
        connection.execute(_ENLIST, [{"b_group": group, "b_topic": topic} for group, topic in batch.members])
    _write_topics(connection, batch, batch.changed)


def _set_fields(connection: Connection, batch: Batch) -> None:
    if not batch.fields:
        return
    rows = [{"topic": topic, "name": name, "value": value} for (topic, name), value in batch.fields.items()]
    upsert = _UPSERTS.get(connection.dialect.name)
    if upsert is None:
        connection.execute(_UNSET, [{"b_topic": topic, "b_name": name} for topic, name in batch.fields])
    connection.execute(_ADD_FIELDS if upsert is None else upsert, rows)


def _write_topics(connection: Connection, batch: Batch, topics: Sequence[Held]) -> None:
    trimmed = []
    for topic in topics:
        before = (topic.swept, topic.upkeep)
        trim(connection, topic, batch.retention, batch.now)
        if before != (topic.swept, topic.upkeep):
            trimmed.append(topic)
    names = ("id", "epoch", "number", "mark", "oldest", "rank", "entries")
    connection.execute(_NUMBER, [_values(topic, names) for topic in topics])
    if trimmed:
        connection.execute(_TRIMMED, [_values(topic, _TRIMMED_COLUMNS) for topic in trimmed])


def trim_free(
    connection: Connection, topics: Sequence[Held], retention: Retention, now: int, most: int
) -> None:
    """Trim topics that are no longer locked, except those that others lock. Has a transaction of its own."""
    rows = connection.execute(_FREE, {"b_ids": [topic.id for topic in topics]}).all()
    flags = {topic.id: topic for topic in topics}
    trimmed = []
    for row in rows:
        topic, planned = Held(*row), flags[row.id]
        topic.measured, topic.entries_measured = planned.measured, planned.entries_measured
        topic.entries_before = planned.entries_before
        trim(connection, topic, retention, now, most)
        trimmed.append(topic)
    if trimmed:
        connection.execute(_TRIMMED, [_values(topic, _TRIMMED_COLUMNS) for topic in trimmed])


def _values(topic: Held, names: Sequence[str]) -> dict[str, Any]:
    return {f"b_{name}": getattr(topic, name) for name in names}


def remove_fields(connection: Connection, key: str, names: Sequence[str]) -> None:
    """Remove fields of the state of a topic."""
    topic = select(TOPICS.c.id).where(TOPICS.c.key == key).scalar_subquery()
    connection.execute(delete(FIELDS).where(FIELDS.c.topic == topic, FIELDS.c.name.in_(names)))
