"""What the tests of the SQL backends share."""

from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, func, select

from bridge.backends.sql import tables
from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.database import Database
from bridge.channel.transport import transport_of

SQL = ("sqlite", "postgresql", "sql+postgresql")
sql = pytest.mark.parametrize("url", SQL, indirect=True)
sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)


def engine_of(url: str) -> Engine:
    return create_engine(url.removeprefix("sql+").replace("postgresql://", "postgresql+psycopg://"))


def database_of(channel: object) -> Database:
    """Return the database behind a channel."""
    backend = transport_of(channel).backend
    assert isinstance(backend, SqlBackend)
    return backend._database


def rows(engine: Engine, table: Any, topic: str, namespace: str) -> int:
    """How many rows of `table` a topic has."""
    key = tables.key_of(namespace, topic)
    of_topic = select(tables.TOPICS.c.id).where(tables.TOPICS.c.key == key).scalar_subquery()
    with engine.connect() as connection:
        return connection.scalar(select(func.count()).where(table.c.topic == of_topic)) or 0


def statements(engine: Engine) -> list[str]:
    """Collect the statements of an engine from now on."""
    found: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: found.append(given[2]))
    return found
