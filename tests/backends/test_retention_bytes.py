"""How many bytes are kept: of the messages of a topic, and of the entries of a state."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.state import MAX_ENTRY_BYTES
from tests import events
from tests.conftest import Connect

KEPT = 100_000
SIZE = 10_000

backends = pytest.mark.parametrize("url", ["memory", "sqlite", "postgresql"], indirect=True)


@backends
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


@backends
def test_a_message_larger_than_all_that_is_kept_is_kept_alone(connect: Connect) -> None:
    """The newest message can always be read again."""
    topic = connect(retention_bytes=1000).topic("orders")
    topic.publish(b"small")
    topic.publish(b"x" * 5000)
    assert [len(message) for message in topic.history()] == [5000]


@backends
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


@backends
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
