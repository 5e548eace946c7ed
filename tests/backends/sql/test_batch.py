"""The log of a topic in a database: numbers in the order of commits, trimming, and older copies."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Engine, select

import bridge
from bridge.backends.sql import retention, tables
from tests.backends.sql.tools import rows, sql
from tests.channel.test_replay import publish, received
from tests.conftest import Connect


@pytest.mark.parametrize("url", ["postgresql", "sql+postgresql"], indirect=True)
def test_a_transaction_that_commits_late_is_never_skipped(connect: Connect, database: Engine) -> None:
    """While one who drew a number has not committed the next waits, so no reader passes a number by."""
    topic = connect().topic("orders")
    connect().topic("others").publish(b"makes the tables")
    with topic.subscribe() as subscription, ThreadPoolExecutor() as pool, database.connect() as late:
        first = topic.publish(b"late", connection=late)
        second = pool.submit(connect().topic("orders").publish, b"early")
        connect().topic("others").publish(b"a topic of its own is not held up")
        assert subscription.receive(timeout=0.3) is None
        assert not second.done()
        late.commit()
        assert [subscription.receive(timeout=5) for _ in range(2)] == [b"late", b"early"]
        assert [message.id for message in topic.history()] == [first, second.result(5)]


@sql
def test_trimming_is_exact_and_deletes_in_small_batches(
    connect: Connect, namespace: str, database: Engine
) -> None:
    """A lower bound holds at once for who reads, while rows are deleted a few with each message."""
    publish(connect(namespace=namespace).topic("orders"), *range(1500))
    strict = connect(namespace=namespace, retention_messages=10).topic("orders")
    publish(strict, 1500)
    assert [int(message) for message in strict.history(limit=100)] == list(range(1491, 1501))
    with strict.subscribe(after=bridge.BEGINNING) as subscription:
        assert received(subscription, 10) == list(range(1491, 1501))
    assert rows(database, tables.MESSAGES, "orders", namespace) == 1501 - retention.BATCH
    publish(strict, *range(1501, 1510))
    assert 10 <= rows(database, tables.MESSAGES, "orders", namespace) <= 10 + 64


@sql
def test_an_older_copy_is_a_lost_position(connect: Connect, namespace: str, database: Engine) -> None:
    """A database put back to an earlier state draws a new epoch as soon as a publisher misses its message."""
    channel = connect(namespace=namespace)
    topic = channel.topic("orders")
    ids = publish(topic, *range(10))
    key = tables.key_of(namespace, "orders")
    with database.begin() as connection:
        row = connection.execute(select(tables.TOPICS).where(tables.TOPICS.c.key == key)).one()
        connection.execute(tables.TOPICS.update().where(tables.TOPICS.c.id == row.id).values(number=5))
        newer = (tables.MESSAGES.c.topic == row.id, tables.MESSAGES.c.number > 5)
        connection.execute(tables.MESSAGES.delete().where(*newer))
    publish(topic, *range(20))
    for message_id in (ids[0], ids[4], ids[9]):
        with pytest.raises(bridge.PositionLost):
            topic.subscribe(after=message_id)
