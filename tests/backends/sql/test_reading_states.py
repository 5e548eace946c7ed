"""The state of topics in a database."""

from typing import Any

from sqlalchemy import Engine

import bridge
from bridge.backends.sql import tables
from bridge.channel.transport import transport_of
from tests import events
from tests.backends.sql.tools import rows, sql
from tests.conftest import Connect


@sql
def test_one_field_is_read(connect: Connect, database: Engine) -> None:
    """A field of a topic's state by its name, `None` if there is none of that name or no such topic."""
    channel: Any = connect()
    task = bridge.task_topic("t1")
    event = events.make("state", "t1", state="STARTED")
    transport_of(channel).publish(event)
    assert transport_of(channel).backend.field(task, "state") == event.payload
    assert transport_of(channel).backend.field(task, "other") is None
    assert transport_of(channel).backend.field("other", "state") is None


@sql
def test_entries_beyond_the_limit_are_counted(connect: Connect, namespace: str, database: Engine) -> None:
    """Of 1,100 log lines the last 1,000 are in the state, the others counted, and their rows deleted."""
    channel: Any = connect(namespace=namespace, retention_messages=10)
    task = bridge.task_topic("t1")
    for number in range(1100):
        transport_of(channel).publish(events.make("log", "t1", level="info", message=str(number)))
    (found,) = transport_of(channel).states(task)
    assert (len(found.entries), found.omitted) == (1000, 100)
    assert events.decoded(found.entries[0])["message"] == "100"
    assert rows(database, tables.ENTRIES, task, namespace) < 1100
