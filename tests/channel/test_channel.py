"""The public objects: the contract's names, and no others."""

import pytest

import bridge

PRODUCER = {"topic", "publish"}
SUBSCRIBER = {"topic", "subscribe", "history"}


def public_names(thing: object) -> set[str]:
    """What an editor offers after the dot."""
    return {name for name in dir(thing) if not name.startswith("_")}


def test_an_editor_shows_the_contract_and_nothing_else() -> None:
    """`dir` of a channel, a topic, its views and a subscription has the names of the contract."""
    with bridge.connect("memory://") as channel:
        topic = channel.topic("orders")
        assert public_names(channel) == {"topic", "close"}
        assert public_names(topic) == {*PRODUCER, *SUBSCRIBER, "as_producer", "as_subscriber"}
        assert public_names(topic.as_producer()) == PRODUCER
        assert public_names(topic.as_subscriber()) == SUBSCRIBER
        with topic.subscribe() as subscription:
            assert public_names(subscription) == {"receive", "close"}


@pytest.mark.parametrize(
    ("protocol", "names"),
    [
        (bridge.BroadcastChannel, {"topic", "close"}),
        (bridge.Topic, {*PRODUCER, *SUBSCRIBER, "as_producer", "as_subscriber"}),
        (bridge.Producer, PRODUCER),
        (bridge.Subscriber, SUBSCRIBER),
        (bridge.Subscription, {"receive", "close"}),
    ],
)
def test_the_protocols_have_these_names(protocol: type, names: set[str]) -> None:
    """The lists above are those of the contract."""
    assert public_names(protocol) == names


def test_a_view_shows_its_topic() -> None:
    """In a debugger and in logs."""
    with bridge.connect("memory://") as channel:
        topic = channel.topic("orders")
        assert repr(topic) == "<ChannelTopic 'orders'>"
        assert repr(topic.as_producer()) == "<TopicProducer 'orders'>"
