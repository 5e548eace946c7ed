"""What is behind a channel and its views."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from tests import events


def test_a_channel_and_all_its_views_have_one_transport() -> None:
    """From each of them it is found."""
    with bridge.connect("memory://") as channel:
        topic = channel.topic("orders")
        transport = transport_of(channel)
        for view in (topic, topic.as_producer(), topic.as_subscriber()):
            assert transport_of(view) is transport


@pytest.mark.parametrize("other", [None, "orders", object()])
def test_what_is_of_no_channel_has_none(other: object) -> None:
    """The error names what was given."""
    with pytest.raises(TypeError, match=type(other).__name__):
        transport_of(other)


def test_a_closed_transport_publishes_nothing() -> None:
    """Neither one message nor many."""
    with bridge.connect("memory://") as channel:
        transport = transport_of(channel)
    assert transport.closed
    with pytest.raises(bridge.PublishError, match="closed"):
        transport.publish(Publication("orders", b"1"))
    with pytest.raises(bridge.PublishError, match="closed"):
        transport.publish_many([Publication("orders", b"1")])


def test_states_are_read_over_all_pages_up_to_the_limit() -> None:
    """A group has more members than one page holds."""
    with bridge.connect("memory://pages") as channel:
        transport = transport_of(channel)
        for number in range(10):
            large = "x" * 300_000
            transport.publish(events.make("state", str(number), state="SUCCESS", result=large))
        newest = [bridge.task_topic(str(number)) for number in reversed(range(10))]
        assert [state.topic for state in transport.states(bridge.FEED)] == newest
        assert [state.topic for state in transport.states(bridge.FEED, 7)] == newest[:7]
