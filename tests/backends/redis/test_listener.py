"""Readers of the Redis backends, with a server that is killed, paused, restarted or protected."""

import logging
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import bridge
from bridge.backends.redis import link, listener
from bridge.channel.transport import transport_of
from tests.servers import Valkey, eventually, free_port

SCHEMES = ("redis+pubsub", "redis+sharded")
scheme = pytest.mark.parametrize("scheme", SCHEMES)


def connect(server: Valkey, scheme: str = "redis+pubsub", **options: Any) -> bridge.BroadcastChannel:
    return bridge.connect(server.url(scheme), **options)


@pytest.fixture
def subscription(own_valkey: Valkey) -> Iterator[bridge.Subscription]:
    """A subscription to `orders` on a server that the test may kill."""
    channel = connect(own_valkey, timeout=1)
    yield channel.topic("orders").subscribe()
    channel.close()


def publish_until(server: Valkey, subscription: bridge.Subscription, payload: bytes, within: float) -> bool:
    """Publish from elsewhere until the subscription receives it; return whether it saw a gap before."""
    deadline = time.monotonic() + within
    gap = False
    while time.monotonic() < deadline:
        server.command("PUBLISH", "/0.bridge:orders", payload)
        while (message := subscription.receive(timeout=0.05)) is not None:
            if message == payload:
                return gap
            gap |= isinstance(message, bridge.Gap)
    raise AssertionError(f"not received within {within:g} s")


@scheme
def test_fifty_subscriptions_use_one_connection(valkey: Valkey, scheme: str) -> None:
    """Connecting opens nothing, and 50 subscriptions open one connection more than none."""
    before = valkey.connections()
    channel = connect(valkey, scheme)
    topic = channel.topic("orders")
    assert valkey.connections() == before
    threads = threading.active_count()
    subscriptions = [topic.subscribe() for _ in range(50)]
    assert valkey.connections() == before + 1
    assert threading.active_count() == threads + 1
    started = time.monotonic()
    for subscription in subscriptions:
        subscription.close()
    assert time.monotonic() - started < 0.5
    channel.close()
    eventually(lambda: valkey.connections() == before)


def test_ten_thousand_topics_leave_nothing_behind(valkey: Valkey) -> None:
    """After 10,000 subscriptions to as many topics came and went, the server has no channel of ours left."""
    channel = connect(valkey, namespace="fleeting")
    for number in range(10_000):
        channel.topic(f"topic {number}").subscribe().close()
    eventually(lambda: valkey.command("PUBSUB", "CHANNELS", "*fleeting:*") == [])
    assert transport_of(channel).hub.stats()["subscriptions"] == 0
    channel.close()


def test_open_subscriptions_survive_an_outage_of_20_seconds(own_valkey: Valkey) -> None:
    """Redis killed (-9), back after 20 s: within 5 s every subscription receives, and has seen a gap."""
    channels = [connect(own_valkey, scheme, namespace=scheme) for scheme in SCHEMES]
    topics = [channel.topic(name) for channel in channels for name in ("orders", "others")]
    subscriptions = [topic.subscribe() for topic in topics for _ in range(3)]
    own_valkey.kill()
    down_until = time.monotonic() + 20
    for subscription in subscriptions[:1]:
        while time.monotonic() < down_until:
            assert subscription.receive(timeout=1) is None
    own_valkey.start()
    back = time.monotonic()
    pending = set(subscriptions)
    gaps = set()
    while pending:
        for topic in topics:
            topic.publish(b"back")
        for subscription in list(pending):
            while (message := subscription.receive(timeout=0)) is not None:
                if isinstance(message, bridge.Gap):
                    gaps.add(subscription)
                    assert message == b""
                else:
                    pending.discard(subscription)
        assert time.monotonic() - back < 5, f"{len(pending)} of {len(subscriptions)} receive nothing"
    assert gaps == set(subscriptions)
    for channel in channels:
        channel.close()


def test_a_killed_client_connection_is_opened_again(
    own_valkey: Valkey, subscription: bridge.Subscription
) -> None:
    """CLIENT KILL of the reading connection costs a gap that the reader sees, and nothing more."""
    own_valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
    assert publish_until(own_valkey, subscription, b"back", within=5) is True


def test_a_silent_connection_is_found(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that stops answering without closing is noticed by a probe, and its return too."""
    monkeypatch.setattr(link, "PROBE_AFTER", 0.2)
    channel = connect(own_valkey, timeout=0.5)
    subscription = channel.topic("orders").subscribe()
    with caplog.at_level(logging.WARNING, "bridge.channel.hub"):
        own_valkey.signal(signal.SIGSTOP)
        eventually(lambda: "has not answered" in caplog.text)
    own_valkey.signal(signal.SIGCONT)
    assert publish_until(own_valkey, subscription, b"back", within=5) is True
    channel.close()


def test_a_quiet_connection_is_left_alone(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes that are answered keep a subscription without traffic open, with no gap."""
    monkeypatch.setattr(link, "PROBE_AFTER", 0.05)
    channel = connect(own_valkey)

    def pings() -> int:
        statistics: dict[str, dict[str, int]] = own_valkey.command("INFO", "commandstats")
        return statistics.get("cmdstat_ping", {}).get("calls", 0)

    with channel.topic("orders").subscribe() as subscription:
        first = pings()
        eventually(lambda: pings() >= first + 5)
        assert publish_until(own_valkey, subscription, b"still", within=5) is False
    channel.close()


def test_an_outage_is_logged_once(own_valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    """However long an outage lasts and however many read, one line tells of it and one of its end."""
    channel = connect(own_valkey, timeout=1)
    subscriptions = [channel.topic("orders").subscribe() for _ in range(10)]
    with caplog.at_level(logging.INFO, "bridge"):
        own_valkey.kill()
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            assert subscriptions[0].receive(timeout=1) is None
        own_valkey.start()
        publish_until(own_valkey, subscriptions[0], b"back", within=5)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    channel.close()


def test_subscribing_to_a_server_that_is_down_says_so() -> None:
    """Within the timeout, subscribe raises ConnectionLost with the address, and publish PublishError."""
    port = free_port()
    channel = bridge.connect(f"redis+pubsub://:secret@127.0.0.1:{port}/0", timeout=0.5)
    started = time.monotonic()
    with pytest.raises(bridge.ConnectionLost, match=str(port)) as refused:
        channel.topic("orders").subscribe()
    assert time.monotonic() - started < 2
    assert "secret" not in str(refused.value)
    with pytest.raises(bridge.PublishError, match=str(port)) as unpublished:
        channel.topic("orders").publish(b"one")
    assert "secret" not in str(unpublished.value)
    channel.close()


def test_a_server_that_comes_up_late_is_waited_for() -> None:
    """A subscribe that began while the server was down succeeds if the server comes up within the timeout."""
    server = Valkey()
    channel = bridge.connect(server.url("redis+pubsub"), timeout=10)
    starter = threading.Timer(0.5, server.start)
    starter.start()
    with channel.topic("orders").subscribe() as subscription:
        channel.topic("orders").publish(b"one")
        assert subscription.receive(timeout=5) == b"one"
    starter.join()
    channel.close()
    server.stop()


def test_passwords_work_and_stay_out_of_errors() -> None:
    """The right password opens a protected server; the error for a wrong one does not quote it."""
    server = Valkey(requirepass="right")
    server.start()
    for password in ("right", "wrong-one"):
        channel = bridge.connect(f"redis+pubsub://:{password}@127.0.0.1:{server.port}/0", timeout=1)
        if password == "right":
            with channel.topic("orders").subscribe() as subscription:
                channel.topic("orders").publish(b"one")
                assert subscription.receive(timeout=5) == b"one"
        else:
            with pytest.raises(bridge.ConnectionLost) as refused:
                channel.topic("orders").subscribe()
            assert password not in str(refused.value)
        channel.close()
    server.stop()


def test_a_topic_that_the_server_refuses_disturbs_no_other(own_valkey: Valkey) -> None:
    """A user whose access list allows one topic is refused another by name, and goes on reading the first."""
    own_valkey.command(
        "ACL", "SETUSER", "ann", "on", ">pw", "~*", "+@all", "resetchannels", "&/0.bridge:orders"
    )
    channel = bridge.connect(f"redis+pubsub://ann:pw@127.0.0.1:{own_valkey.port}/0", timeout=2)
    with channel.topic("orders").subscribe() as subscription:
        with pytest.raises(bridge.ConnectionLost, match="'others'"):
            channel.topic("others").subscribe()
        assert publish_until(own_valkey, subscription, b"one", within=5) is False
    channel.close()


def test_messages_of_other_clients_arrive(own_valkey: Valkey, subscription: bridge.Subscription) -> None:
    """What any Redis client publishes to the topic's channel is a message like others."""
    own_valkey.command("PUBLISH", "/0.bridge:orders", b"\xff\x00")
    assert subscription.receive(timeout=5) == b"\xff\x00"


def numbers(subscription: bridge.Subscription, count: int) -> list[int]:
    return [int(subscription.receive(timeout=10) or b"-1") for _ in range(count)]


def test_what_another_program_publishes_ends_no_subscription(valkey: Valkey) -> None:
    """Where messages are kept, only those of the bridge count; the others on the channel disturb nobody."""
    channel: Any = connect(valkey, "redis", namespace="foreign")
    with channel, channel.topic("orders").subscribe() as sub:
        pattern = valkey.command("PUBSUB", "CHANNELS", "*foreign*orders*")
        assert len(pattern) == 1
        for data in (b"", b"\xff", b"hello\nworld"):
            valkey.command("PUBLISH", pattern[0], data)
        channel.topic("orders").publish(b"one")
        assert sub.receive(timeout=10) == b"one"


def test_a_lost_wake_up_is_found_without_another_message(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message in the log of which nobody was woken is found by comparing positions."""
    monkeypatch.setattr(listener, "COMPARE_EVERY", 0.1)
    channel = connect(own_valkey, "redis")
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        topic.publish(b"1")
        assert numbers(subscription, 1) == [1]
        meta, log = "bridge:{t:orders}:meta", "bridge:{t:orders}:log"
        mark = own_valkey.command("HGET", meta, "mark").decode()
        own_valkey.command("XADD", log, f"{mark}-2", "p", b"2", "t", "token")
        own_valkey.command("HSET", meta, "number", 2)
        assert numbers(subscription, 1) == [2]
    channel.close()


def test_an_outage_leaves_no_gap_where_messages_are_kept() -> None:
    """With an append-only file, killed, restarted and published to by others: nothing is missing."""
    server = Valkey(appendonly="yes", appendfsync="always").start()
    ours, theirs = connect(server, "redis", timeout=1), connect(server, "redis")
    topic = theirs.topic("orders")
    with ours.topic("orders").subscribe() as subscription:
        for number in range(5):
            topic.publish(b"%d" % number)
        server.kill()
        server.start()
        for number in range(5, 10):
            topic.publish(b"%d" % number)
        assert numbers(subscription, 10) == list(range(10))
    server.stop()
    ours.close()
    theirs.close()


def test_a_flushed_server_is_a_lost_position(own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """FLUSHALL loses the position of each reader, by comparison or with the next message, and of every id."""
    channel = connect(own_valkey, "redis")
    topic = channel.topic("orders")
    message_id = topic.publish(b"1")
    with topic.subscribe() as subscription:
        own_valkey.command("FLUSHALL")
        topic.publish(b"2")
        with pytest.raises(bridge.PositionLost, match="flushed"):
            subscription.receive(timeout=10)
    with pytest.raises(bridge.PositionLost):
        topic.subscribe(after=message_id)
    monkeypatch.setattr(listener, "COMPARE_EVERY", 0.1)
    quiet = connect(own_valkey, "redis")
    with quiet.topic("orders").subscribe() as subscription:
        own_valkey.command("FLUSHALL")
        with pytest.raises(bridge.PositionLost):
            subscription.receive(timeout=10)
    channel.close()
    quiet.close()


def test_a_topic_that_is_read_keeps_its_place_when_it_is_quiet(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While someone reads a topic its numbering does not expire, though its messages do."""
    monkeypatch.setattr(listener, "COMPARE_EVERY", 0.1)
    channel = connect(own_valkey, "redis", retention_seconds=1)
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        topic.publish(b"1")
        assert numbers(subscription, 1) == [1]
        eventually(lambda: own_valkey.command("EXISTS", "bridge:{t:orders}:log") == 0)
        deadline = time.monotonic() + 1.5
        while time.monotonic() < deadline:
            assert subscription.receive(timeout=0.5) is None
        topic.publish(b"2")
        assert numbers(subscription, 1) == [2]
    channel.close()
