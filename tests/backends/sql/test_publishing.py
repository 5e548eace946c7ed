"""Publishing to a database: one transaction for the caller, and each message once."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.support.tokens import new_token
from bridge.tasks import canvas as canvas_events
from tests import events
from tests.backends.sql.tools import database_of, sql
from tests.channel.test_contract import drain
from tests.conftest import Connect
from tests.publications import repeated


@sql
def test_a_message_exists_if_and_only_if_the_transaction_does(connect: Connect, database: Engine) -> None:
    """With connection= message, state and feed come with the caller's data, or not at all."""
    channel: Any = connect()
    topic = channel.topic("orders")
    task = bridge.task_topic("t1")
    transport_of(channel).backend.ping()
    with database.begin() as connection:
        connection.execute(text("CREATE TABLE IF NOT EXISTS sales (n INTEGER)"))
    with topic.subscribe() as subscription, channel.topic(bridge.FEED).subscribe() as feed:
        for number, kept in enumerate((True, False, True, False)):
            with database.connect() as connection:
                connection.execute(text("INSERT INTO sales VALUES (1)"))
                message_id = topic.publish(b"%d" % number, type="sale", connection=connection)
                event = events.make("log", "t1", level="info", message=str(number))
                transport_of(channel).publish(event, connection=connection)
                connection.commit() if kept else connection.rollback()
            if kept:
                message = subscription.receive(timeout=5)
                assert message is not None
                assert (message, message.id, message.type) == (b"%d" % number, message_id, "sale")
        assert [message[-2:-1] for message in channel.topic(task).history()] == [b'"', b'"']
        topic.publish(b"end")
        channel.topic(bridge.FEED).publish(b"end")
        assert drain(subscription, b"end") == []
        assert len(drain(feed, b"end")) == 2
    entries = transport_of(channel).states(task)[0].entries
    assert [events.decoded(entry)["message"] for entry in entries] == ["0", "2"]


@sql
def test_a_refused_change_leaves_the_transaction_of_the_caller_alone(
    connect: Connect, database: Engine
) -> None:
    """What comes after a task's end is not published, and the caller can go on and commit."""
    channel: Any = connect()
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("state", "t1", state="SUCCESS"))
    with database.connect() as connection:
        late = events.make("progress", "t1", current=1)
        assert transport_of(channel).publish(late, connection=connection) is None
        assert channel.topic("orders").publish(b"after", connection=connection)
        connection.commit()
    assert channel.topic("orders").history() == [b"after"]
    assert len(channel.topic(task).history()) == 1


@sql
def test_a_message_published_again_with_its_token_appears_once(connect: Connect, database: Engine) -> None:
    """What is repeated because its answer was lost is found, after the end of a task too."""
    channel: Any = connect()
    end = events.make("state", "t1", state="SUCCESS")
    for publication in (Publication("orders", b"one"), end):
        first = transport_of(channel).publish(publication)
        assert transport_of(channel).publish(*repeated([publication])) == first
        kept = transport_of(channel).backend.history(publication.topic, 10)
        assert [message.id for message in kept] == [first]
    assert len(transport_of(channel).backend.history(bridge.FEED, 10)) == 1


@sql
def test_a_part_published_again_is_found_with_its_follow_up(connect: Connect, database: Engine) -> None:
    """A repeated message of a part gets the position of the last message that it brought, and adds none."""
    channel: Any = connect()
    topic = bridge.task_topic("canvas:w")
    publication = canvas_events.make("canvas:w", 1, "a", "SUCCESS")
    last = transport_of(channel).publish(publication)
    assert publication.part is not None
    assert publication.part.follow_up is not None
    assert publication.part.follow_up.token != publication.token
    assert transport_of(channel).publish(*repeated([publication])) == last
    history = transport_of(channel).backend.history(topic, 10)
    assert [message.type for message in history] == ["progress", "state"]
    assert history[-1].id == last
    assert len(transport_of(channel).backend.history(bridge.FEED, 10)) == 2


def told(task: str, number: int, shared: bool = False) -> Publication:
    """A log line of a task, on its way."""
    line = events.make("log", task, level="info", message=str(number))
    line.repeated = shared
    return line


@sql
def test_many_messages_are_published_in_order_and_once(connect: Connect, database: Engine) -> None:
    """What is published together comes in order, everywhere; repeated with `again`, nothing comes twice."""
    channel: Any = connect()
    publications = [told(f"t{number % 3}", number) for number in range(120)]
    publications += [canvas_events.make("canvas:w", 2, part, "SUCCESS") for part in "ab"]
    publications.append(Publication("orders", b"last"))
    with channel.topic(bridge.FEED).subscribe() as feed, channel.topic("orders").subscribe() as orders:
        transport_of(channel).backend.publish_many(publications)
        for _ in range(2):
            transport_of(channel).backend.publish_many(repeated(publications))
        transport_of(channel).backend.publish_many([])
        channel.topic(bridge.FEED).publish(b"end")
        seen = [events.decode(message) or {} for message in drain(feed, b"end")]
        channel.topic("orders").publish(b"end")
        assert drain(orders, b"end") == [b"last"]
    assert [int(event["message"]) for event in seen[:120]] == list(range(120))
    assert [event["type"] for event in seen[120:]] == ["progress", "progress", "state"]


@sql
def test_a_shared_token_is_published_by_one_of_many(connect: Connect, database: Engine) -> None:
    """Of several who say the same for the first time, at once, in a topic that is new, one is heard."""
    channels: list[Any] = [connect() for _ in range(4)]
    transport_of(channels[0]).backend.ping()
    for number in range(10):
        publication = told(f"t{number}", 1, shared=True)
        with ThreadPoolExecutor() as pool:
            calls = [
                pool.submit(transport_of(one).backend.publish_many, [replace(publication)])
                for one in channels
            ]
            for call in calls:
                call.result(20)
        assert len(transport_of(channels[0]).backend.history(publication.topic, 10)) == 1


@sql
def test_those_who_publish_much_at_once_do_not_lock_each_other_out(
    connect: Connect, database: Engine
) -> None:
    """The same topics in opposite orders, by several at once: no deadlock, and every message is there."""
    channels: list[Any] = [connect() for _ in range(4)]
    transport_of(channels[0]).backend.ping()
    barrier = threading.Barrier(4)

    def publish(number: int) -> None:
        for _ in range(5):
            publications = [told(f"t{task}", number) for task in range(10)]
            barrier.wait(20)
            transport_of(channels[number]).backend.publish_many(publications[:: -1 if number % 2 else 1])
            transport_of(channels[number]).backend.publish(replace(publications[number], token=new_token()))

    with ThreadPoolExecutor() as pool:
        for call in [pool.submit(publish, number) for number in range(4)]:
            call.result(60)
    assert len(transport_of(channels[0]).backend.history(bridge.FEED, 1000)) == 4 * 5 * 11


@pytest.mark.parametrize("url", ["sqlite", "sql+postgresql"], indirect=True)
def test_a_change_is_one_step(connect: Connect, database: Engine) -> None:
    """If the feed cannot be written, neither is the task's topic, its state nor its number."""
    channel: Any = connect(timeout=1)
    task = bridge.task_topic("t1")
    transport_of(channel).publish(events.make("log", "t1", level="info", message="1"))
    failing = threading.Event()

    def fail(connection: Connection, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("INSERT INTO bridge_member"):
            failing.set()
            raise RuntimeError("the power went out")

    engine = database_of(channel).engine
    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="power"):
        transport_of(channel).publish(events.make("log", "t1", level="info", message="2"))
    assert failing.is_set()
    event.remove(engine, "before_cursor_execute", fail)
    third = transport_of(channel).publish(events.make("log", "t1", level="info", message="3"))
    assert third is not None
    assert third.split("-")[1] == "2"
    entries = [events.decoded(entry)["message"] for entry in transport_of(channel).states(task)[0].entries]
    assert entries == ["1", "3"]
    assert len(transport_of(channel).backend.history(bridge.FEED, 10)) == 2
