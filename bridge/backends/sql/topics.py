"""Creates the row of a topic, and locks it until the transaction ends."""

# `Any` in this module: SQLAlchemy types rows only for mapped classes, and the two `insert` differ in type.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from bridge.backends.sql.retention import milliseconds
from bridge.backends.sql.tables import TOPICS, key_of

BY_KEY = select(TOPICS).where(TOPICS.c.key == bindparam("b_key"))
_LOCK = update(TOPICS).where(TOPICS.c.key == bindparam("b_key")).values(rank=TOPICS.c.rank)
_LOCK_RETURNING = _LOCK.returning(*TOPICS.c)


def make_topic(connection: Connection, namespace: str, name: str) -> None:
    """Create the row of a topic if there is none."""
    row: dict[str, Any] = dict.fromkeys(("number", "mark", "entries"), 0)
    row |= {"key": key_of(namespace, name), "namespace": namespace, "name": name}
    row |= {"epoch": "", "oldest": 1, "swept": 1, "rank": -1, "upkeep": milliseconds()}
    makers: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    maker = makers.get(connection.dialect.name)
    if maker is not None:
        connection.execute(maker(TOPICS).values(row).on_conflict_do_nothing(index_elements=["key"]))
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(TOPICS), row)
    except IntegrityError:
        pass  # another publisher was faster


def hold_topic(connection: Connection, namespace: str, name: str) -> Row[Any]:
    """Lock a topic against all other publishers until the transaction ends; return its row.

    Waits for the publisher that holds it now.
    """
    key = key_of(namespace, name)
    row = _lock(connection, key)
    if row is None:
        make_topic(connection, namespace, name)
        row = _lock(connection, key)
        assert row is not None, "it has just been created"
    return row


def _lock(connection: Connection, key: str) -> Row[Any] | None:
    if connection.dialect.update_returning:
        return connection.execute(_LOCK_RETURNING, {"b_key": key}).first()
    connection.execute(_LOCK, {"b_key": key})
    return connection.execute(BY_KEY, {"b_key": key}).first()
