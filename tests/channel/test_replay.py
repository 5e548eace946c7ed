"""What every backend that keeps messages promises: cursors, history, durable readers, lost positions."""

import threading
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks import canvas
from tests import events
from tests.channel.test_contract import drain
from tests.conftest import LIVE_ONLY, REPLAYING, Connect
from tests.publications import repeated
from tests.servers import eventually

replaying = pytest.mark.parametrize("url", REPLAYING, indirect=True)
live_only = pytest.mark.parametrize("url", LIVE_ONLY, indirect=True)


def publish(topic: bridge.Topic, *numbers: int) -> list[str]:
    """Publish numbers; return the ids."""
    ids = [topic.publish(b"%d" % number) for number in numbers]
    assert all(ids)
    return [str(message_id) for message_id in ids]


def received(subscription: bridge.Subscription, count: int) -> list[int]:
    """Receive `count` numbers."""
    messages = [subscription.receive(timeout=10) for _ in range(count)]
    assert None not in messages
    return [int(message or b"-1") for message in messages]


@replaying
def test_the_beginning_is_everything_kept_then_live(channel: bridge.BroadcastChannel) -> None:
    """A subscription from the beginning gets what was published before it and what comes after, once."""
    topic = channel.topic("orders")
    publish(topic, *range(500))
    with topic.subscribe(after=bridge.BEGINNING) as subscription:
        publish(topic, *range(500, 1000))
        assert received(subscription, 1000) == list(range(1000))
        assert subscription.receive(timeout=0) is None


@replaying
def test_the_type_is_kept(channel: Any) -> None:
    """The type of a task event comes with history, replay and a durable reader, and with the same payload."""
    topic = channel.topic(bridge.task_topic("canvas:w"))
    with topic.subscribe() as subscription:
        topic.subscribe(durable="indexer").close()
        for state in ("STARTED", "SUCCESS"):
            transport_of(channel).publish(canvas.make("canvas:w", 1, "a", state))
        live = [subscription.receive(timeout=10) for _ in range(4)]
    kinds = ["state", "progress", "progress", "state"]
    assert [message.type for message in live] == kinds
    history = topic.history()
    assert (history, [message.type for message in history]) == (live, kinds)
    for options in ({"after": bridge.BEGINNING}, {"durable": "indexer"}):
        with topic.subscribe(**options) as subscription:
            again = [subscription.receive(timeout=10) for _ in range(4)]
        assert (again, [message.type for message in again]) == (live, kinds)


@replaying
def test_the_type_of_any_message_is_kept(channel: bridge.BroadcastChannel) -> None:
    """History, replay and a durable reader give the type too, and none for messages without one."""
    topic = channel.topic("orders")
    topic.subscribe(durable="indexer").close()
    types = ["ordered", None, "größe"]
    for event_type in types:
        topic.publish(b"one", type=event_type)
    assert [message.type for message in topic.history()] == types
    for options in ({"after": bridge.BEGINNING}, {"durable": "indexer"}):
        with topic.subscribe(**options) as subscription:
            again = [subscription.receive(timeout=10) for _ in types]
        assert [message and message.type for message in again] == types


@replaying
def test_a_durable_reader_of_an_empty_topic_keeps_its_place(channel: bridge.BroadcastChannel) -> None:
    """What is published between two subscriptions comes with the second one, also the first message."""
    topic = channel.topic("orders")
    topic.subscribe(durable="indexer").close()
    # The hub lets go of the topic before it attaches another one.
    channel.topic("others").subscribe().close()
    publish(topic, 1)
    with topic.subscribe(durable="indexer") as subscription:
        assert received(subscription, 1) == [1]


@replaying
def test_the_beginning_of_an_empty_topic_is_now(channel: bridge.BroadcastChannel) -> None:
    """Where nothing was published yet, the beginning is no error."""
    topic = channel.topic("orders")
    with topic.subscribe(after=bridge.BEGINNING) as subscription:
        publish(topic, 1)
        assert received(subscription, 1) == [1]


@replaying
def test_after_an_id_means_strictly_after_it(channel: bridge.BroadcastChannel) -> None:
    """From each id on, exactly the messages that follow it come, and then the live ones."""
    topic = channel.topic("orders")
    ids = publish(topic, *range(10))
    for index, message_id in enumerate(ids):
        with topic.subscribe(after=message_id) as subscription:
            publish(topic, 99)
            assert received(subscription, 10 - index)[: 9 - index] == list(range(index + 1, 10))


@replaying
def test_an_id_works_in_another_channel(connect: Connect) -> None:
    """A cursor is a place on the server, not of the object that gave it."""
    one, other = connect(), connect()
    ids = publish(one.topic("orders"), 1, 2, 3)
    with other.topic("orders").subscribe(after=ids[0]) as subscription:
        assert received(subscription, 2) == [2, 3]


@replaying
def test_a_long_history_is_replayed_to_a_reader_with_a_short_queue(connect: Connect) -> None:
    """10,000 retained messages pass through a queue of 100: a reader that catches up is never too slow."""
    channel = connect(queue_size=100, retention_messages=20_000)
    topic = channel.topic("orders")
    ids = publish(topic, *range(10_001))
    with topic.subscribe(after=ids[0]) as subscription:
        assert received(subscription, 10_000) == list(range(1, 10_001))
        publish(topic, 1)
        assert received(subscription, 1) == [1]


@replaying
def test_readers_join_in_the_midst_of_publishing(channel: bridge.BroadcastChannel) -> None:
    """Readers that come at any moment, from any place, get everything after it once and in order."""
    topic = channel.topic("orders")
    ids = publish(topic, *range(100))
    publisher = threading.Thread(target=publish, args=(topic, *range(100, 1100)))
    publisher.start()
    subscriptions = [(place, topic.subscribe(after=ids[place])) for place in range(0, 100, 3)]
    publisher.join()
    for place, subscription in subscriptions:
        assert received(subscription, 1099 - place) == list(range(place + 1, 1100))
        subscription.close()


@replaying
def test_retention_keeps_exactly_the_last_messages(connect: Connect) -> None:
    """With retention_messages=10, from the beginning come the last ten; a place before them is lost."""
    channel = connect(retention_messages=10)
    topic = channel.topic("orders")
    ids = publish(topic, *range(30))
    with topic.subscribe(after=bridge.BEGINNING) as subscription:
        assert received(subscription, 10) == list(range(20, 30))
    with topic.subscribe(after=ids[19]) as subscription:
        assert received(subscription, 10) == list(range(20, 30))
    with pytest.raises(bridge.PositionLost, match="BEGINNING"):
        topic.subscribe(after=ids[18])


@replaying
def test_retention_is_by_age_too(connect: Connect) -> None:
    """What is older than retention_seconds is not replayed once something newer is written."""
    channel = connect(retention_seconds=1)
    topic = channel.topic("orders")
    first, _ = publish(topic, 1, 2)
    eventually(lambda: publish(topic, 3) and b"2" not in topic.history(limit=10_000), within=20)
    with pytest.raises(bridge.PositionLost):
        topic.subscribe(after=first)


@replaying
@pytest.mark.parametrize("after", ["", "yesterday", "1-2", "x" * 1000, "a-1-1\n", "-1-1-1", 7, b"a-1-1"])
def test_what_is_no_id_is_refused(channel: bridge.BroadcastChannel, after: str) -> None:
    """A cursor that is no message's id is a ValueError that says what a cursor is."""
    with pytest.raises(ValueError, match="BEGINNING"):
        channel.topic("orders").subscribe(after=after)


@replaying
def test_ids_that_the_topic_never_gave_are_lost(channel: bridge.BroadcastChannel) -> None:
    """An id of another topic, a forged epoch, a number ahead of the topic and a wrong mark are all lost."""
    topic, other = channel.topic("orders"), channel.topic("others")
    ids = publish(topic, 1, 2, 3)
    (foreign,) = publish(other, 1)
    epoch, number, mark = ids[1].split("-")
    forged = [f"ffffffff-{number}-{mark}", f"{epoch}-999-{mark}", f"{epoch}-{number}-{int(mark) + 1}"]
    for after in (foreign, *forged):
        with pytest.raises(bridge.PositionLost, match="'orders'"):
            topic.subscribe(after=after)


@replaying
def test_history_is_the_last_messages(channel: bridge.BroadcastChannel) -> None:
    """History gives the newest messages with their ids, the oldest first; of an empty topic, none."""
    topic = channel.topic("orders")
    assert topic.history() == []
    ids = publish(topic, *range(20))
    messages = topic.history(limit=5)
    assert messages == [b"15", b"16", b"17", b"18", b"19"]
    assert [message.id for message in messages] == ids[-5:]
    assert len(topic.as_subscriber().history()) == 20
    for limit in (0, -1, "all"):
        with pytest.raises(ValueError, match="limit"):
            topic.history(limit=limit)  # type: ignore[arg-type]  # wrong on purpose


@replaying
def test_a_durable_reader_goes_on_after_what_it_acknowledged(connect: Connect) -> None:
    """In another process the reader begins after its last acknowledgement: at least once, never a hole."""
    topic = connect().topic("orders")
    with topic.subscribe(durable="indexer") as subscription:
        publish(topic, *range(10))
        for _ in range(6):
            message = subscription.receive(timeout=5)
            assert message is not None
            if message != b"5":
                message.ack()
    again = connect().topic("orders")
    with again.subscribe(durable="indexer") as subscription:
        assert received(subscription, 5) == [5, 6, 7, 8, 9]


@replaying
def test_a_new_durable_reader_begins_now_and_is_known_at_once(channel: bridge.BroadcastChannel) -> None:
    """The first time it begins with what comes then, even if it crashes before it acknowledges."""
    topic = channel.topic("orders")
    publish(topic, 1)
    topic.subscribe(durable="indexer").close()
    publish(topic, 2)
    with topic.subscribe(durable="indexer") as subscription, topic.subscribe(durable="other") as other:
        publish(topic, 3)
        assert received(subscription, 2) == [2, 3]
        assert received(other, 1) == [3]


@replaying
def test_an_acknowledgement_never_goes_back(channel: bridge.BroadcastChannel) -> None:
    """Acknowledging an older message changes nothing; `after` moves the reader wherever it says."""
    topic = channel.topic("orders")
    with topic.subscribe(durable="indexer") as subscription:
        publish(topic, 1, 2, 3)
        first, second = subscription.receive(timeout=5), subscription.receive(timeout=5)
        assert first is not None
        assert second is not None
        second.ack()
        first.ack()
    with topic.subscribe(durable="indexer") as subscription:
        assert received(subscription, 1) == [3]
    topic.subscribe(durable="indexer", after=bridge.BEGINNING).close()
    with topic.subscribe(durable="indexer") as subscription:
        assert received(subscription, 3) == [1, 2, 3]


@replaying
def test_only_durable_readers_acknowledge(channel: bridge.BroadcastChannel) -> None:
    """Acknowledging a message of an ordinary subscription is refused with the way to do it."""
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        publish(topic, 1)
        message = subscription.receive(timeout=5)
        assert message is not None
        with pytest.raises(bridge.ConfigurationError, match="durable="):
            message.ack()


@pytest.mark.parametrize("url", ["redis"], indirect=True)  # within a process no answer is ever lost
def test_a_message_published_again_with_its_token_appears_once(channel: Any) -> None:
    """What is repeated because its answer was lost is found by its token and gets the same id."""
    for change in (None, events.make("log", "t1", level="info", message="x").change):
        name = bridge.task_topic("t1") if change else "orders"
        one, two, three = (Publication(name, text, change=change) for text in (b"one", b"two", b"three"))
        first, between = transport_of(channel).publish(one), transport_of(channel).publish(two)
        assert transport_of(channel).publish(*repeated([one])) == first
        assert transport_of(channel).publish(*repeated([three])) not in (first, between, None)
        assert transport_of(channel).backend.history(name, 10) == [b"one", b"two", b"three"]


@live_only
def test_without_replay_what_needs_it_is_refused(channel: bridge.BroadcastChannel, url: str) -> None:
    """On a backend that keeps no messages, cursors, history and durable readers are a ConfigurationError."""
    topic = channel.topic("orders")
    for call in (
        lambda: topic.subscribe(after=bridge.BEGINNING),
        lambda: topic.subscribe(durable="indexer"),
        topic.history,
    ):
        with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
            call()


@replaying
def test_drain_is_shared(channel: bridge.BroadcastChannel) -> None:
    """Every subscription sees the same ids."""
    topic = channel.topic("orders")
    with topic.subscribe() as one, topic.subscribe(after=bridge.BEGINNING) as other:
        publish(topic, 1)
        first, second = one.receive(timeout=5), other.receive(timeout=5)
        assert first is not None
        assert second is not None
        assert first.id == second.id
        topic.publish(b"end")
        assert drain(one, b"end") == drain(other, b"end") == []
