"""Applies the change of a message: fields and entries of its topic, and the list of the group."""

from collections.abc import Sequence

# `Any` in this module: SQLAlchemy types the columns of a row only for mapped classes.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, exists, insert, select

from bridge.backends.sql.retention import FEW, SET, first_within, is_to_be_measured
from bridge.backends.sql.tables import ENTRIES, FIELDS, MEMBERS, TOPICS
from bridge.model.publication import Change
from bridge.model.state import MAX_ENTRIES, MAX_ENTRY_BYTES

_UNSET = delete(FIELDS).where(
    FIELDS.c.topic == bindparam("b_topic"), FIELDS.c.name.in_(bindparam("b_names", expanding=True))
)
_SET_FIELDS = insert(FIELDS)
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


def apply(connection: Connection, row: Row[Any], change: Change, payload: bytes) -> None:
    """Apply a change to the state of a topic, whose row is locked."""
    if change.fields:
        connection.execute(_UNSET, {"b_topic": row.id, "b_names": list(change.fields)})
        fields = [{"topic": row.id, "name": name, "value": value} for name, value in change.fields.items()]
        connection.execute(_SET_FIELDS, fields)
    entries = row.entries + change.entry
    if change.entry:
        connection.execute(insert(ENTRIES), {"topic": row.id, "number": entries, "payload": payload})
        first = entries - MAX_ENTRIES + 1
        is_measured = is_to_be_measured(len(payload), MAX_ENTRY_BYTES)
        if is_measured:
            first = first_within(connection, ENTRIES, row.id, first, entries, MAX_ENTRY_BYTES)
        if first > 1 and (is_measured or entries % FEW == 0):
            old = (ENTRIES.c.topic == row.id, ENTRIES.c.number < first)
            connection.execute(delete(ENTRIES).where(*old))
    if change.rank != row.rank or change.entry:
        connection.execute(SET.values(rank=change.rank, entries=entries), {"b_id": row.id})


def remove_fields(connection: Connection, key: str, names: Sequence[str]) -> None:
    """Remove fields of the state of a topic."""
    topic = select(TOPICS.c.id).where(TOPICS.c.key == key).scalar_subquery()
    connection.execute(delete(FIELDS).where(FIELDS.c.topic == topic, FIELDS.c.name.in_(names)))


def enlist(connection: Connection, group: Row[Any], topic: Row[Any]) -> None:
    """Add the topic to the list of the group, if it is not there."""
    connection.execute(_ENLIST, {"b_group": group.id, "b_topic": topic.id})
