"""Resuming in what is kept, and beyond it: all of it, or a loss that is told."""

import itertools
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model import state
from tests import events
from tests.servers import Valkey, eventually
from tests.serving import serving

KEPT = 10_000
SECONDS = 30


@pytest.fixture
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture
def channel(valkey: Valkey, namespace: str) -> Iterator[Any]:
    channel = bridge.connect(valkey.url("redis"), namespace=namespace)
    yield channel
    channel.close()


def serve(valkey: Valkey, namespace: str, **settings: str) -> Any:
    """Serve the app that streams the topics of `namespace`."""
    given = {"URL": valkey.url("redis"), "PUBLIC": "true", "NAMESPACE": namespace, **settings}
    return serving("gunicorn gevent", **{f"BRIDGE_{name}": value for name, value in given.items()})


def say(channel: Any, task: str, number: int) -> str:
    """Publish a numbered task event; return its id."""
    message_id = transport_of(channel).publish(events.make("number", task, data={"n": number}))
    assert isinstance(message_id, str)
    return message_id


def frames(address: str, topic: str, cursor: str) -> Iterator[httpx_sse.ServerSentEvent]:
    """What a browser is shown that comes back with this cursor."""
    headers = {"Last-Event-ID": cursor}
    with (
        httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client,
        client.stream("GET", "/stream", params={"topic": topic}, headers=headers) as response,
    ):
        assert response.status_code == 200
        yield from httpx_sse.EventSource(response).iter_sse()


def until_lost(subscriber: bridge.Subscriber, cursor: str) -> list[bytes]:
    """Read from `cursor` until `PositionLost`; return what came before it."""
    received: list[bytes] = []
    with (  # noqa: PT012
        pytest.raises(bridge.PositionLost),
        subscriber.subscribe(after=cursor) as subscription,
    ):
        while (message := subscription.receive(timeout=5)) is not None:
            received.append(message)
    return received


def test_a_subscriber_resumes_across_10_000_messages(channel: Any) -> None:
    """From any message on, strictly what follows it is received, and then what is published from now on."""
    topic = channel.topic("numbers")
    ids = [topic.publish(b"%d" % number) for number in range(KEPT)]
    for last in (0, KEPT // 2, KEPT - 1):
        with topic.subscribe(after=ids[last]) as subscription:
            ids.append(topic.publish(b"%d" % len(ids)))
            for number in range(last + 1, len(ids)):
                assert subscription.receive(timeout=SECONDS) == b"%d" % number


def test_a_viewer_resumes_across_10_000_events(valkey: Valkey, namespace: str, channel: Any) -> None:
    """A browser that comes back after 10 of 10,000 events gets the rest, no snapshot, then the live one."""
    ids = [say(channel, "t", number) for number in range(KEPT)]
    with serve(valkey, namespace) as address:
        shown = frames(address, bridge.task_topic("t"), ids[9])
        for number in range(10, KEPT):
            frame = next(shown)
            assert (frame.event, frame.json()["data"]["n"], frame.id) == ("number", number, ids[number])
        say(channel, "t", KEPT)
        assert next(shown).json()["data"]["n"] == KEPT


@pytest.mark.parametrize("retention", ["count", "age", "age, and nothing since"])
def test_a_cursor_past_retention_is_told(
    valkey: Valkey, namespace: str, retention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscriber gets PositionLost, a viewer a reset and a snapshot; neither goes on in silence."""
    monkeypatch.setattr(state, "UNENDED_SECONDS", 1.0)
    limits: dict[str, Any] = {"retention_messages": 100} if retention == "count" else {"retention_seconds": 1}
    settings = {name.upper(): str(value) for name, value in limits.items()}
    channel: Any = bridge.connect(valkey.url("redis"), namespace=namespace, **limits)
    with serve(valkey, namespace, **settings) as address:
        first = say(channel, "t", 0)
        topic = channel.topic(bridge.task_topic("t"))
        if retention == "count":
            for number in range(1, 1000):
                say(channel, "t", number)
        else:
            second = say(channel, "t", 1)
            numbers = itertools.count(2)

            def forgotten() -> bool:
                if retention == "age":  # what is published to keeps its topic, not its messages
                    say(channel, "t", next(numbers))
                return second not in [message.id for message in topic.history(limit=KEPT)]

            eventually(forgotten)
        assert until_lost(topic, first) == []
        shown = frames(address, topic.topic, first)
        assert [next(shown).event for _ in range(2)] == ["reset", "snapshot"]
        say(channel, "t", 1001)
        assert next(shown).json()["data"] == {"n": 1001}
    channel.close()


def test_a_plain_topic_tells_a_loss_too(valkey: Valkey, namespace: str, channel: Any) -> None:
    """A topic that is no task's has no snapshot: its viewer gets a reset, then what is published now."""
    topic = channel.topic("orders")
    cursor = topic.publish(b"before")
    valkey.command("DEL", *valkey.command("KEYS", f"{namespace}:*"))
    topic.publish(b"meanwhile")
    with serve(valkey, namespace) as address:
        shown = frames(address, "orders", cursor)
        assert next(shown).event == "reset"
        topic.publish(b"after")
        assert next(shown).data in ("meanwhile", "after")


def test_a_place_before_the_first_message_can_be_passed_too(valkey: Valkey, namespace: str) -> None:
    """Who opened a task's stream before it said anything, and returns when its beginning is gone, is told."""
    channel: Any = bridge.connect(valkey.url("redis"), namespace=namespace, retention_messages=100)
    with serve(valkey, namespace, RETENTION_MESSAGES="100") as address:
        snapshot = next(frames(address, bridge.task_topic("t"), ""))
        assert (snapshot.event, snapshot.json()["events"]) == ("snapshot", [])
        for number in range(300):
            say(channel, "t", number)
        shown = frames(address, bridge.task_topic("t"), snapshot.id)
        assert [next(shown).event for _ in range(2)] == ["reset", "snapshot"]
    channel.close()


@pytest.mark.parametrize("how", ["flushed", "restarted without its data", "restarted with an older copy"])
def test_a_server_that_forgot_is_noticed(own_valkey: Valkey, how: str) -> None:
    """An open subscription raises PositionLost after what it had received, and so does any id now unknown."""
    channel = bridge.connect(own_valkey.url("redis"), timeout=5)
    topic = channel.topic("numbers")
    subscription = topic.subscribe()
    ids = [topic.publish(b"%d" % number) for number in range(5)]
    if how == "restarted with an older copy":
        own_valkey.command("SAVE")
        ids.clear()
    ids += [topic.publish(b"%d" % number) for number in range(5, 10)]
    for number in range(10):
        assert subscription.receive(timeout=5) == b"%d" % number
    if how == "flushed":
        own_valkey.command("FLUSHALL")
    else:
        own_valkey.kill()
        own_valkey.start()
    # The same numbers again: only what the ids say of the server tells them apart.
    for number in range(20):
        topic.publish(b"again %d" % number)
    with pytest.raises(bridge.PositionLost):
        subscription.receive(timeout=SECONDS)
    for message_id in ids:
        assert message_id is not None
        assert until_lost(topic, message_id) == []
    channel.close()
