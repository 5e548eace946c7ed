"""How the scripts of Redis count the bytes of a topic and of a state."""

from collections.abc import Callable, Iterator

import pytest

import bridge
from bridge.backends.redis import backend
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from tests import events
from tests.servers import Valkey

KEPT = 16_000
LOG, META = (f"bridge:{{t:orders}}:{key}" for key in ("log", "meta"))
Open = Callable[..., Channel]


@pytest.fixture
def open_channel(own_valkey: Valkey) -> Iterator[Open]:
    """Opens a channel that keeps few bytes, as another process would, and closes it."""
    channels = []

    def open_channel(user: str = "") -> Channel:
        url = f"redis://{user}127.0.0.1:{own_valkey.port}/0"
        channel = bridge.connect(url, retention_bytes=KEPT)
        channels.append(channel)
        return channel

    yield open_channel
    for channel in channels:
        channel.close()


def size_of_log(server: Valkey) -> int:
    return sum(len(fields[b"p"]) for _, fields in server.command("XRANGE", LOG, "-", "+"))


def test_one_batch_is_bounded_as_single_messages_are(own_valkey: Valkey, open_channel: Open) -> None:
    """A batch larger than what is kept leaves the newest messages; the next message continues from there."""
    transport = transport_of(open_channel())
    assert transport.publish_many([Publication("orders", b"x" * 2000)] * 50) == 50
    assert size_of_log(own_valkey) == KEPT
    transport.publish(Publication("orders", b"x" * 900))
    assert size_of_log(own_valkey) == KEPT - 2000 + 900


def test_a_few_sections_describe_the_bytes_of_a_topic(own_valkey: Valkey, open_channel: Open) -> None:
    """What is stored beside the messages is small, whatever their number and whoever publishes them."""
    topics = [open_channel().topic("orders") for _ in range(2)]
    for number in range(600):
        topics[number % 2].publish(b"x" * 100)
        assert size_of_log(own_valkey) <= KEPT
    assert size_of_log(own_valkey) >= KEPT - 2000
    assert len(own_valkey.command("HGET", META, "sections").split()) <= 32


def test_messages_of_a_release_that_did_not_count_go_too(own_valkey: Valkey, open_channel: Open) -> None:
    """Messages whose bytes no script counted are older than all counted ones and are removed before them."""
    topic = open_channel().topic("orders")
    topic.publish(b"first")
    own_valkey.command("HDEL", META, "bytes", "sections")
    for number in range(40):
        topic.publish(b"%02d" % number + b"x" * 998)
    kept = [message[:2] for message in topic.history()]
    assert kept == [b"%02d" % number for number in range(40 - len(kept), 40)]


def test_a_user_who_may_not_trim_loses_no_message(own_valkey: Valkey, open_channel: Open) -> None:
    """A missing permission leaves no message half written; the next user who may trim removes the rest."""
    topic = open_channel().topic("orders")
    topic.publish(b"first")
    own_valkey.command("ACL", "SETUSER", "ann", "on", ">pw", "~*", "&*", "+@all", "-xtrim")
    ann = open_channel("ann:pw@").topic("orders")
    numbers = [str(ann.publish(b"x" * 2000)).split("-")[1] for _ in range(20)]
    assert numbers == [str(number) for number in range(2, 22)]
    assert size_of_log(own_valkey) > KEPT
    topic.publish(b"x" * 2000)
    assert size_of_log(own_valkey) == KEPT


@pytest.mark.parametrize("together", [1, 20])
def test_bytes_of_entries_stay_right_when_entries_are_too_many(
    own_valkey: Valkey, open_channel: Open, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    """Entries that leave because of their number or of their bytes are no longer counted among the bytes."""
    monkeypatch.setattr(backend, "MAX_ENTRIES", 5)
    monkeypatch.setattr(backend, "MAX_ENTRY_BYTES", 8000)
    transport = transport_of(open_channel())
    topic = bridge.task_topic("t1")
    sizes = [100] * 20 + [3000] * 20 + [20_000] * 20 + [100] * 20
    logs = [events.make("log", "t1", message="x" * size) for size in sizes]
    for first in range(0, len(logs), together):
        assert transport.publish_many(logs[first : first + together]) == together
        (state,) = transport.states(topic)
        kept = sum(map(len, state.entries))
        assert 1 <= len(state.entries) <= 5
        assert kept <= 8000 or len(state.entries) == 1
        assert state.omitted == first + together - len(state.entries)
        stored = own_valkey.command("HGET", f"bridge:{{t:{topic}}}:meta", "entry_bytes")
        assert int(stored) == kept
    assert len(state.entries) == 5
