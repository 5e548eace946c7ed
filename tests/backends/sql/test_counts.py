"""The counting of canvas parts in a database."""

from typing import Any

from sqlalchemy import Engine

import bridge
from bridge.backends.sql import tables
from bridge.channel.transport import transport_of
from bridge.model.state import MAX_ROWS
from bridge.tasks import canvas as canvas_events
from tests.backends.sql.tools import database_of, rows, sql, statements
from tests.conftest import Connect


@sql
def test_a_part_costs_the_same_in_a_large_whole(connect: Connect, namespace: str, database: Engine) -> None:
    """As many statements a part among 300 as among 100; few lines are kept, and no parts after the end."""
    channel: Any = connect(namespace=namespace)
    topic = bridge.task_topic("canvas:w")
    found = statements(database_of(channel).engine)
    costs = []
    for part in range(300):
        found.clear()
        transport_of(channel).publish(canvas_events.make("canvas:w", 300, str(part), "SUCCESS"))
        costs.append(len(found))
        if part == 298:
            assert rows(database, tables.PARTS, topic, namespace) == 299
    assert max(costs[250:290]) <= max(costs[100:140]) < 30
    assert rows(database, tables.ROWS, topic, namespace) == MAX_ROWS
    assert rows(database, tables.PARTS, topic, namespace) == 0
