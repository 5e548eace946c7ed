"""How many bytes are kept: of the messages of a topic, and of the entries of a state."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.model.state import MAX_ENTRY_BYTES
from tests import events
from tests.conftest import Connect

KEPT = 100_000
SIZE = 10_000

REPLAYING = ["memory", "redis", "redis+cluster", "sqlite", "postgresql"]

replaying = pytest.mark.parametrize("url", REPLAYING, indirect=True)
keeping_states = pytest.mark.parametrize("url", [*REPLAYING, "redis+pubsub"], indirect=True)


@replaying
def test_a_topic_keeps_about_so_many_bytes(connect: Connect) -> None:
    """The oldest messages go first, and with them the positions before; another process agrees."""
    one, other = connect(retention_bytes=KEPT), connect(retention_bytes=KEPT)
    topic = one.topic("orders")
    ids = [topic.publish(b"%02d" % number + b"x" * SIZE) for number in range(40)]
    for channel in (one, other):
        kept = [message[:2] for message in channel.topic("orders").history(limit=100)]
        assert kept == [b"%02d" % number for number in range(40 - len(kept), 40)]
        assert KEPT // SIZE - 2 <= len(kept) <= KEPT // SIZE
        with pytest.raises(bridge.PositionLost), channel.topic("orders").subscribe(after=ids[0]) as lost:
            lost.receive(10)
        with channel.topic("orders").subscribe(after=ids[39 - len(kept)]) as subscription:
            assert [message[:2] for _ in kept if (message := subscription.receive(10))] == kept


@replaying
def test_a_message_larger_than_all_that_is_kept_is_kept_alone(connect: Connect) -> None:
    """The newest message can always be read again."""
    topic = connect(retention_bytes=1000).topic("orders")
    topic.publish(b"small")
    topic.publish(b"x" * 5000)
    assert [len(message) for message in topic.history()] == [5000]


@replaying
def test_what_a_process_keeps_at_hand_is_no_more(connect: Connect) -> None:
    """A position that the backend no longer keeps is lost for a reader beside one that just read it."""
    topic = connect(retention_bytes=KEPT).topic("orders")
    first = topic.publish(b"first")
    with topic.subscribe(after=first) as subscription:
        for number in range(30):
            topic.publish(b"%02d" % number + b"x" * SIZE)
            message = subscription.receive(10)
            assert message is not None
            assert message[:2] == b"%02d" % number
        with pytest.raises(bridge.PositionLost), topic.subscribe(after=first) as lost:
            lost.receive(10)


@replaying
def test_a_topic_of_small_messages_keeps_as_many_bytes(connect: Connect) -> None:
    """Messages of a batch that are far smaller than what is kept are removed neither early nor late."""
    channel = connect(retention_bytes=KEPT)
    publications = [Publication("orders", b"%04d" % number + b"x" * 996) for number in range(1000)]
    while publications:
        del publications[: transport_of(channel).publish_many(publications)]
    kept = [message[:4] for message in channel.topic("orders").history(limit=1000)]
    assert kept == [b"%04d" % number for number in range(1000 - len(kept), 1000)]
    # A database adds up the bytes by chance: above twice as many once in millions of runs.
    assert KEPT * 7 // 8 <= len(kept) * 1000 <= KEPT * 2


@replaying
def test_the_feed_of_all_tasks_keeps_about_so_many_bytes(connect: Connect) -> None:
    """Events of many tasks are bounded together where they are listed together."""
    channel = connect(retention_bytes=KEPT)
    for number in range(40):
        transport_of(channel).publish(events.make("log", f"t{number}", message="x" * SIZE))
    kept = [events.decoded(message)["task"] for message in channel.topic(bridge.FEED).history(limit=100)]
    assert kept == [f"t{number}" for number in range(40 - len(kept), 40)]
    assert KEPT // SIZE - 2 <= len(kept) <= KEPT // SIZE


@keeping_states
def test_a_state_keeps_a_bounded_number_of_bytes(connect: Connect) -> None:
    """Older entries are left out and counted, long before a thousand of them are kept."""
    transport = transport_of(connect())
    size = 600_000
    for number in range(20):
        transport.publish(events.make("log", "t1", message=f"{number:02} " + "x" * size))
    (state,) = transport.states(bridge.task_topic("t1"))
    kept = [events.decoded(entry)["message"][:2] for entry in state.entries]
    assert kept == [f"{number:02}" for number in range(20 - len(kept), 20)]
    assert MAX_ENTRY_BYTES - 2 * size < sum(map(len, state.entries)) <= MAX_ENTRY_BYTES
    assert state.omitted == 20 - len(kept)
