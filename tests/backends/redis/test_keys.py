"""The names of keys and Pub/Sub channels on Redis: who shares a server does not meet."""

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bridge
from bridge.backends.redis.keys import Keys
from bridge.channel.transport import transport_of
from tests import events
from tests.servers import Sentinel, Valkey

URLS = ("redis://{}/{}", "redis://{}?db={}", "redis+pubsub://{}/{}", "redis+sharded://{}/{}")
TEXT = st.text(st.sampled_from("a:{}t%7B3A25"), min_size=1, max_size=8)


def keep_apart(first: bridge.BroadcastChannel, second: bridge.BroadcastChannel, topic: str) -> None:
    """Publish to both; fail unless each subscription receives its own message only."""
    with first.topic(topic).subscribe() as one, second.topic(topic).subscribe() as two:
        first.topic(topic).publish(b"first")
        second.topic(topic).publish(b"second")
        first.topic(topic).publish(b"first again")
        assert [one.receive(timeout=5), one.receive(timeout=5)] == [b"first", b"first again"]
        assert two.receive(timeout=5) == b"second"
        second.topic(topic).publish(b"second again")
        assert two.receive(timeout=5) == b"second again"


@pytest.mark.parametrize("url", URLS)
def test_two_databases_of_a_server_do_not_hear_each_other(own_valkey: Valkey, url: str) -> None:
    """A reader of database 1 receives nothing of database 0, of any topic and of the feed of all tasks."""
    urls = [url.format(f"127.0.0.1:{own_valkey.port}", database) for database in range(2)]
    with bridge.connect(urls[0]) as first, bridge.connect(urls[1]) as second:
        keep_apart(first, second, "orders")
        keep_apart(second, first, bridge.FEED)
        with second.topic(bridge.FEED).subscribe() as feed:
            transport_of(first).publish(events.make("log", "t", level="info", message="hello"))
            transport_of(second).publish(events.make("log", "t", level="info", message="own"))
            message = feed.receive(timeout=5)
            assert message is not None
            assert events.decoded(message)["message"] == "own"


def test_two_databases_behind_sentinel_do_not_hear_each_other(sentinel: Sentinel) -> None:
    """The database of a Sentinel URL counts too."""
    urls = [sentinel.url().removesuffix("0") + str(database) for database in range(2)]
    with bridge.connect(urls[0]) as first, bridge.connect(urls[1]) as second:
        keep_apart(first, second, "orders")


@pytest.mark.parametrize(
    ("scheme", "database", "namespace", "channel"),
    [
        ("redis", 0, "bridge", "/0.bridge:{t:orders}:log"),
        ("redis", 3, "prod:eu", "/3.prod:eu:{t:orders}:log"),
        ("redis+pubsub", 0, "bridge", "/0.bridge:orders"),
        ("redis+pubsub", 3, "prod:eu", "/3.prod%3Aeu:orders"),
        ("redis+sharded", 0, "bridge", "/0.bridge:orders"),
    ],
)
def test_channels_have_the_names_of_the_reference(
    own_valkey: Valkey, scheme: str, database: int, namespace: str, channel: str
) -> None:
    """While someone reads a topic the server has one channel, of the documented name."""
    url = f"{scheme}://127.0.0.1:{own_valkey.port}/{database}"
    asked = "SHARDCHANNELS" if scheme == "redis+sharded" else "CHANNELS"
    with bridge.connect(url, namespace=namespace) as bridged, bridged.topic("orders").subscribe():
        assert own_valkey.command("PUBSUB", asked, "*") == [channel.encode()]


@pytest.mark.parametrize("namespace", ["bridge", "prod:bridge", "a}b", "100%", "%3A", "Ünï code", "a%7"])
def test_an_ordinary_namespace_stands_in_its_keys_as_it_is(namespace: str) -> None:
    """Keys of namespaces without a brace keep the names that they always had."""
    keys = Keys(namespace, logged=True, database=0)
    assert keys.meta("orders") == f"{namespace}:{{t:orders}}:meta".encode()


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_two_topics_share_a_name(namespace: str, topic: str, other: str, other_topic: str) -> None:
    """Every pair of namespace and topic has keys and channels of its own."""
    if (namespace, topic) == (other, other_topic):
        return
    for logged in (False, True):
        ours = Keys(namespace, logged=logged, database=0)
        theirs = Keys(other, logged=logged, database=0)
        assert not set(ours.of(topic)[:1]) & set(theirs.of(other_topic)[:1])
        assert not set(ours.of(topic)[1:]) & set(theirs.of(other_topic)[1:])


@given(TEXT, TEXT)
def test_the_hash_tag_is_that_of_the_topic(namespace: str, topic: str) -> None:
    """All keys of a topic, and its channel, share a slot, and not all topics one, whatever the namespace."""
    names = Keys(namespace, logged=True, database=0).of(topic)
    tags = {name[name.index(b"{") + 1 : name.index(b"}", name.index(b"{"))] for name in names}
    assert len(tags) == 1
    assert tags.pop().startswith(b"t:")


def test_all_that_a_namespace_contains_is_its_own() -> None:
    """Namespaces that look alike when they are escaped do not share keys."""
    alike = ["{", "%7B", "%257B", "%25", "%", "%7", "7B", "%%7B", "%{", ":", "%3A"]
    for one, other in combinations(alike, 2):
        first, second = (Keys(name, logged=False, database=0).of("t") for name in (one, other))
        assert not set(first) & set(second)
