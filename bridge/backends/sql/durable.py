"""Reads and moves the positions of durable readers, within a transaction of the caller."""

from sqlalchemy import Connection, bindparam, delete, insert, select

from bridge.backends.sql.reading import Head, heads
from bridge.backends.sql.tables import DURABLE, key_of
from bridge.backends.sql.topics import hold_topic
from bridge.model.position import Position

_OF_READER = (DURABLE.c.topic == bindparam("b_topic"), DURABLE.c.key == bindparam("b_key"))
_PLACE = select(DURABLE).where(*_OF_READER)
_REMOVE = delete(DURABLE).where(*_OF_READER)


def place(connection: Connection, namespace: str, topic: str, name: str) -> Position:
    """Return the position of the durable reader `name`. A new reader starts at the end of the topic."""
    head = _lock(connection, namespace, topic)
    found = _find(connection, head, name)
    if found is None:
        _set(connection, head, name, head.position)
    return head.position if found is None else found


def move(
    connection: Connection, namespace: str, topic: str, name: str, position: Position, *, back: bool
) -> None:
    """Move the position of a durable reader. Only with `back` may it move to an earlier one."""
    head = _lock(connection, namespace, topic)
    found = _find(connection, head, name)
    if back or found is None or found.epoch != position.epoch or found.number < position.number:
        _set(connection, head, name, position)


def _lock(connection: Connection, namespace: str, topic: str) -> Head:
    hold_topic(connection, namespace, topic)
    key = key_of(namespace, topic)
    return heads(connection, [key])[key]


def _find(connection: Connection, head: Head, name: str) -> Position | None:
    row = connection.execute(_PLACE, {"b_topic": head.id, "b_key": key_of(name)}).first()
    return None if row is None else Position(row.epoch, row.number, row.mark)


def _set(connection: Connection, head: Head, name: str, to: Position) -> None:
    key = key_of(name)
    connection.execute(_REMOVE, {"b_topic": head.id, "b_key": key})
    connection.execute(insert(DURABLE), {"topic": head.id, "key": key, "name": name, **to._asdict()})
