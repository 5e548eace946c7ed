"""`connect`: what it refuses, and how it says so."""

import subprocess
import sys
import threading
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of


@pytest.mark.parametrize(
    ("url", "options", "says"),
    [
        ("kafka://localhost", {}, "kafka://.*known are memory://"),
        ("localhost:6379", {}, "write redis://localhost:6379/0"),
        ("", {}, "(none)"),
        (None, {}, "(none)"),
        ("redis+pubsub://localhost:port", {}, "redis\\+pubsub://"),
        ("redis+pubsub://localhost/zero", {}, "'zero'"),
        ("redis+pubsub://localhost/0?colour=red", {}, "colour"),
        ("redis://localhost:port", {}, "redis://"),
        ("redis+sentinel://localhost:26379", {}, "name the service"),
        ("redis+sentinel://localhost:26379,/mymaster", {}, "host:port"),
        ("redis+sentinel://localhost:26379/mymaster/one", {}, "'one'"),
        ("redis+cluster://localhost:6379/1", {}, "database 0"),
        ("redis+cluster://", {}, "host:port"),
        ("memory://", {"colour": "red"}, "colour"),
        ("memory://", {"max_payload": 0}, "max_payload"),
        ("memory://", {"queue_size": "many"}, "queue_size"),
        ("memory://", {"timeout": -1}, "timeout"),
        ("memory://", {"namespace": ""}, "namespace"),
        ("redis+pubsub://localhost", {"retention_seconds": 0}, "retention_seconds"),
    ],
)
def test_a_bad_url_or_option_is_a_configuration_error(url: str, options: dict[str, Any], says: str) -> None:
    """Whatever `connect` cannot use is refused at the call, by name."""
    with pytest.raises(bridge.ConfigurationError, match=says):
        bridge.connect(url, **options)


def test_a_missing_extra_is_named() -> None:
    """Without redis-py, a redis URL says what to install; memory:// still works."""
    program = """
import sys
sys.modules["redis"] = None
import bridge
bridge.connect("memory://")
try:
    bridge.connect("redis+pubsub://localhost")
except bridge.ConfigurationError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'celery-event-bridge[redis]'" in done.stdout


def test_connecting_opens_nothing() -> None:
    """A server that does not exist and no thread are no matter before the first use."""
    threads = threading.active_count()
    for scheme in ("redis", "rediss", "redis+cluster", "redis+sentinel", "redis+pubsub", "memory"):
        path = "/mymaster" if scheme == "redis+sentinel" else ""
        with bridge.connect(f"{scheme}://no-such-host.invalid{path}") as channel:
            channel.topic("orders").as_producer()
    assert threading.active_count() == threads


def test_channels_of_one_memory_name_share_their_topics() -> None:
    """In one process, what is connected to the same memory:// URL meets there, and only there."""
    with (
        bridge.connect("memory://shared") as one,
        bridge.connect("memory://shared") as same,
        bridge.connect("memory://other") as other,
        one.topic("orders").subscribe() as subscription,
    ):
        other.topic("orders").publish(b"other")
        same.topic("orders").publish(b"same")
        assert subscription.receive(timeout=5) == b"same"


def test_a_channel_tells_where_it_publishes() -> None:
    """With its namespace, for logs."""
    with bridge.connect("memory://here", namespace="n") as channel:
        assert transport_of(channel).location == "memory://here, namespace 'n'"
