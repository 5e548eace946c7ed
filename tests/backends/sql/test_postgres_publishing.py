"""Publishing to PostgreSQL: a transaction that holds a topic delays no other task."""

from typing import Any

import pytest
from sqlalchemy import Engine, text

import bridge
from bridge.backends.base import TopicsHeld
from bridge.backends.sql import postgres_batch
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.channel.test_contract import drain
from tests.conftest import Connect
from tests.servers import eventually

postgresql = pytest.mark.parametrize("url", ["postgresql"], indirect=True)


def started(task: str, name: object) -> Publication:
    """A state of a task, on its way to its topic and to the feed."""
    return events.make("state", task, state="STARTED", name=str(name))


def names(messages: list[Any]) -> list[tuple[str, str]]:
    """The tasks and the names in states."""
    told = [events.decode(message) or {} for message in messages]
    return [(event["task"], event["name"]) for event in told]


@postgresql
@pytest.mark.parametrize("is_new", [True, False])
def test_a_transaction_that_holds_a_task_delays_no_other(
    connect: Connect, database: Engine, is_new: bool
) -> None:
    """While it is open the events of others come, from the same publisher too; then its own, in order."""
    channel: Any = connect(timeout=30)
    if not is_new:
        transport_of(channel).publish(started("held", "first"))
    transport_of(channel).publish(started("other", "first"))
    publisher = BackgroundPublisher(transport_of(connect(timeout=30)))
    with channel.topic(bridge.FEED).subscribe() as feed, database.connect() as late:
        assert transport_of(channel).publish(started("held", "inside"), connection=late)
        for number in range(20):
            publisher.put(started("held", number))
            publisher.put(started("other", number))
            publisher.put(started(f"new {number}", number))
        received = names([feed.receive(timeout=20) for _ in range(40)])
        assert [told for told in received if told[0] == "other"] == [("other", str(n)) for n in range(20)]
        assert "held" not in dict(received)
        late.commit()
        received = names([feed.receive(timeout=20) for _ in range(21)])
        assert received == [("held", told) for told in ("inside", *map(str, range(20)))]
        eventually(lambda: publisher.flush(10))
        channel.topic(bridge.FEED).publish(b"end")
        assert drain(feed, b"end") == []
    publisher.close()


@postgresql
def test_what_waits_for_a_group_is_appended_once(connect: Connect, database: Engine) -> None:
    """By a reader that is told, by one that comes later, or by the next publisher; the task is listed."""
    channel: Any = connect()
    feed = channel.topic(bridge.FEED)
    transport_of(channel).publish(started("t0", 0))

    def publish_inside(task: str, keeps: bool = True) -> None:
        with database.connect() as connection:
            transport_of(channel).publish(started(task, "inside"), connection=connection)
            connection.commit() if keeps else connection.rollback()

    with feed.subscribe() as subscription:
        publish_inside("rolled back", keeps=False)
        publish_inside("t1")
        assert names([subscription.receive(timeout=5)]) == [("t1", "inside")]
    other: Any = connect()
    publish_inside("t2")
    with other.topic(bridge.FEED).subscribe(after=bridge.BEGINNING) as subscription:
        assert [task for task, _ in names([subscription.receive(timeout=5) for _ in range(3)])][-1] == "t2"
    publish_inside("t3")
    transport_of(channel).publish(started("t3", "after"))
    last = names(feed.history(limit=2))
    assert last == [("t3", "inside"), ("t3", "after")]
    assert [task for task, _ in names(feed.history())] == ["t0", "t1", "t2", "t3", "t3"]
    listed = {state.topic for state in transport_of(channel).states(bridge.FEED)}
    assert listed == {bridge.task_topic(f"t{number}") for number in range(4)}


@postgresql
def test_a_held_topic_is_told_and_nothing_of_it_is_published(connect: Connect, database: Engine) -> None:
    """All others are published, also those after it, in several batches."""
    channel: Any = connect()
    transport_of(channel).publish(started("held", 0))
    with database.connect() as late:
        transport_of(channel).publish(started("held", 1), connection=late)
        publications = [started("held" if number % 3 == 0 else f"t{number}", number) for number in range(500)]
        with pytest.raises(TopicsHeld) as raised:
            transport_of(channel).publish_many(publications)
        assert raised.value.topics == {bridge.task_topic("held")}
        late.rollback()
    told = names(channel.topic(bridge.FEED).history(limit=1000))
    assert told[1:] == [(f"t{number}", str(number)) for number in range(500) if number % 3]


@postgresql
def test_plain_messages_to_a_feed_keep_their_place(connect: Connect) -> None:
    """Messages to the feed alone and copies of the events of tasks come in the order of the batch."""
    channel: Any = connect()
    batch: list[Publication] = []
    for number in range(50):
        batch += [Publication(bridge.FEED, b"plain %d" % number), started("t1", number)]
    assert transport_of(channel).publish_many(batch) == 100
    told = channel.topic(bridge.FEED).history(limit=100)
    assert told[::2] == [b"plain %d" % number for number in range(50)]
    assert names(told[1::2]) == [("t1", str(number)) for number in range(50)]
    numbers = [int(message.id.split("-")[1]) for message in told]
    assert numbers == list(range(1, 101))


@postgresql
def test_a_batch_is_one_step(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the feed cannot be written, neither is the topic of the task, its state nor its number."""
    channel: Any = connect(timeout=1)
    transport_of(channel).publish(started("t1", 1))
    with monkeypatch.context() as patched:
        fails = postgres_batch._APPEND.replace("number = number + copies", "number = number + copies / 0")
        patched.setattr(postgres_batch, "_APPEND", fails)
        with pytest.raises(bridge.PublishError):
            transport_of(channel).publish(started("t1", 2))
    third = transport_of(channel).publish(started("t1", 3))
    assert third is not None
    assert third.split("-")[1] == "2"
    (state,) = transport_of(channel).states(bridge.task_topic("t1"))
    assert names([state.fields["state"]]) == [("t1", "3")]
    assert len(channel.topic(bridge.FEED).history()) == 2


@postgresql
def test_a_group_that_was_removed_is_made_again(connect: Connect, database: Engine) -> None:
    """A message is not lost where its group expires while it is published."""
    channel: Any = connect()
    transport_of(channel).publish(started("t1", 1))
    with database.begin() as connection:
        connection.execute(text("DELETE FROM bridge_topic WHERE name = :name"), {"name": bridge.FEED})
    assert transport_of(channel).publish(started("t1", 2))
    assert names(channel.topic(bridge.FEED).history()) == [("t1", "2")]
