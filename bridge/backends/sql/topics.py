"""Creates the row of a topic, and locks it until the transaction ends."""

from collections.abc import Iterable

# `Any` in this module: SQLAlchemy types rows only for mapped classes, and the two `insert` differ in type.
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from bridge.backends.sql.held import COLUMNS, Held
from bridge.backends.sql.retention import milliseconds
from bridge.backends.sql.tables import TOPICS, key_of

_columns = [TOPICS.c[name] for name in COLUMNS]
_BY_KEY = select(*_columns).where(TOPICS.c.key == bindparam("b_key"))
_BY_KEYS = select(*_columns).where(TOPICS.c.key.in_(bindparam("b_keys", expanding=True)))
_LOCK = update(TOPICS).where(TOPICS.c.key == bindparam("b_key")).values(rank=TOPICS.c.rank)
_LOCK_RETURNING = _LOCK.returning(*_columns)
_MAKERS: dict[str, Any] = {
    "sqlite": sqlite.insert(TOPICS).on_conflict_do_nothing(index_elements=["key"]),
    "postgresql": postgresql.insert(TOPICS).on_conflict_do_nothing(index_elements=["key"]),
}


def new_row(namespace: str, name: str) -> dict[str, Any]:
    """Return the row of a topic without messages."""
    row: dict[str, Any] = dict.fromkeys(("number", "mark", "entries"), 0)
    row |= {"key": key_of(namespace, name), "namespace": namespace, "name": name}
    return row | {"epoch": "", "oldest": 1, "swept": 1, "rank": -1, "upkeep": milliseconds()}


def make_topic(connection: Connection, namespace: str, name: str) -> None:
    """Create the row of a topic if there is none."""
    maker = _MAKERS.get(connection.dialect.name)
    row = new_row(namespace, name)
    if maker is not None:
        connection.execute(maker, row)
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(TOPICS), row)
    except IntegrityError:
        pass  # another publisher was faster


def hold_topic(connection: Connection, namespace: str, name: str) -> Held:
    """Lock a topic against all other publishers until the transaction ends; return its row.

    Waits for the publisher that holds it now.
    """
    key = key_of(namespace, name)
    row = _lock(connection, key)
    if row is None:
        make_topic(connection, namespace, name)
        row = _lock(connection, key)
        assert row is not None, "it has just been created"
    return Held(*tuple(row))


def hold_topics(connection: Connection, namespace: str, names: Iterable[str]) -> dict[str, Held]:
    """Lock topics in the order of their keys; return their rows by name.

    All publishers use this order, so that two of them cannot wait for each other.
    """
    ordered = sorted((key_of(namespace, name), name) for name in names)
    return {name: hold_topic(connection, namespace, name) for _, name in ordered}


def read_topics(connection: Connection, namespace: str, names: Iterable[str]) -> dict[str, Held]:
    """Return the rows of topics by name. Nobody else can write: the transaction has the whole database."""
    keys = {key_of(namespace, name): name for name in names}
    found = {}
    for _ in range(2):
        wanted = [key for key in keys if keys[key] not in found]
        for row in connection.execute(_BY_KEYS, {"b_keys": wanted}):
            found[keys[row.key]] = Held(*row)
        missing = [new_row(namespace, name) for name in keys.values() if name not in found]
        if not missing:
            break
        connection.execute(_MAKERS["sqlite"], missing)
    return found


def _lock(connection: Connection, key: str) -> Row[Any] | None:
    if connection.dialect.update_returning:
        return connection.execute(_LOCK_RETURNING, {"b_key": key}).first()
    connection.execute(_LOCK, {"b_key": key})
    return connection.execute(_BY_KEY, {"b_key": key}).first()
