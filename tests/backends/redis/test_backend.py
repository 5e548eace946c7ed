"""The publishing side of the Redis backends."""

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

import bridge
from bridge.backends.redis import open_backend
from bridge.backends.redis.backend import RedisBackend
from bridge.channel.transport import transport_of
from bridge.model import state
from bridge.model.publication import Publication
from bridge.model.state import Retention
from bridge.tasks import canvas
from tests import events
from tests.conftest import LIVE_ONLY
from tests.servers import Valkey, eventually

SCHEMES = ("redis", "redis+sentinel", "redis+cluster", "redis+pubsub", "redis+sharded")
KINDS = (None, "state", "my own kind", "Zustand ü 1", "x" * 100, "5 0 kind")


@contextmanager
def backend_of(url: str, namespace: str) -> Iterator[RedisBackend]:
    """The backend alone, without a channel."""
    backend = open_backend(url, namespace=namespace, timeout=10, retention=Retention(60, 1000))
    try:
        yield backend
    finally:
        backend.close()


def of_each_kind(topic: str) -> list[Publication]:
    """Messages of each kind, with payloads that look like a part of a frame."""
    payloads = (b"one", b"", b"0 0 ", b"bridge/1 5 0 statetext", b"bridge/1", b"\x00\xff")
    return [Publication(topic, payload, kind) for kind in KINDS for payload in payloads]


def contents(messages: Sequence[Any]) -> list[tuple[bytes, str | None]]:
    return [(bytes(message), message.type) for message in messages]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("url", SCHEMES, indirect=True)
def test_a_kind_arrives_with_its_message(url: str, together: bool) -> None:
    """A message has its kind when it is delivered and when it is read later, whatever the payload is."""
    namespace = uuid.uuid4().hex
    publications = of_each_kind("orders")
    expected = [(publication.payload, publication.type) for publication in publications]
    with (
        bridge.connect(url, namespace=namespace) as channel,
        backend_of(url, namespace) as backend,
        channel.topic("orders").subscribe() as subscription,
    ):
        if together:
            assert backend.publish_many(publications) == len(publications)
        else:
            for publication in publications:
                backend.publish(publication)
        assert contents([subscription.receive(timeout=10) for _ in publications]) == expected
        if not url.startswith(LIVE_ONLY):
            assert contents(backend.history("orders", 1000)) == expected
            with channel.topic("orders").subscribe(after=bridge.BEGINNING) as later:
                assert contents([later.receive(timeout=10) for _ in publications]) == expected


@pytest.mark.parametrize("url", SCHEMES, indirect=True)
def test_the_type_of_an_event_arrives_in_its_topic_and_in_the_feed(url: str) -> None:
    """Task events and events of a canvas have their type as their kind, also in the group of their topic."""
    namespace = uuid.uuid4().hex
    task, canvas_topic = bridge.task_topic("task"), bridge.task_topic("canvas:w")
    publications = [
        events.make("log", "task", level="info", message="hello"),
        canvas.make("canvas:w", 1, "part", "STARTED"),
        canvas.make("canvas:w", 1, "part", "SUCCESS"),
        events.make("state", "task", state="SUCCESS"),
    ]
    kinds = {task: ["log", "state"], canvas_topic: ["state", "progress", "progress", "state"]}
    kinds[bridge.FEED] = ["log", *kinds[canvas_topic], "state"]
    with bridge.connect(url, namespace=namespace) as channel, backend_of(url, namespace) as backend:
        subscriptions = {topic: channel.topic(topic).subscribe() for topic in kinds}
        for publication in publications:
            backend.publish(publication)
        for topic, subscription in subscriptions.items():
            messages: list[Any] = [subscription.receive(timeout=10) for _ in kinds[topic]]
            assert [message.type for message in messages] == kinds[topic]
            decoded = [events.decode(message) for message in messages]
            assert [event and event["type"] for event in decoded] == kinds[topic]
            if not url.startswith(LIVE_ONLY):
                assert contents(backend.history(topic, 1000)) == contents(messages)


@pytest.mark.parametrize("scheme", LIVE_ONLY)
def test_a_plain_message_is_its_payload_alone_on_pubsub(
    valkey: Valkey, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no messages are kept any Redis client can read a message without a kind."""
    published: list[Any] = []
    with backend_of(valkey.url(scheme), "plain") as backend:
        monkeypatch.setattr(backend._servers, "send", lambda *command: published.append(command))
        backend.publish(Publication("orders", b"one"))
        backend.publish(Publication("orders", b"one", "state"))
    assert [command[2] for command in published] == [b"one", b"bridge/1 5 0 stateone"]


@pytest.mark.parametrize("started_first", [False, True])
@pytest.mark.parametrize("url", ["redis", "redis+cluster"], indirect=True)
def test_a_repeated_part_and_its_follow_up_appear_once(url: str, started_first: bool) -> None:
    """If the answer to a part is lost and it is published again, topic and feed have each message once."""
    namespace, canvas_topic = uuid.uuid4().hex, bridge.task_topic("canvas:w")
    with backend_of(url, namespace) as backend:
        state_ = "STARTED" if started_first else "SUCCESS"
        publication = canvas.make("canvas:w", 1, "part", state_)
        first = backend.publish(publication)
        publication.repeated = True
        assert backend.publish(publication) == first
        kinds = ["state", "progress"] if started_first else ["progress", "state"]
        for topic in (canvas_topic, bridge.FEED):
            assert [message.type for message in backend.history(topic, 100)] == kinds


def test_a_publish_whose_answer_is_lost_appears_once(own_valkey: Valkey) -> None:
    """A producer whose connection breaks before the answer asks again, and the message is there once."""
    channel = bridge.connect(own_valkey.url("redis"))
    topic = channel.topic("orders")
    topic.publish(b"0")
    for number in range(1, 50):
        # The pooled connection is dead when it is used next; the command may or may not have been read.
        own_valkey.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        topic.publish(b"%d" % number)
    assert [int(message) for message in topic.history(limit=1000)] == list(range(50))
    channel.close()


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("scheme", ["redis", "redis+pubsub"])
def test_state_is_kept_for_the_time_set(
    own_valkey: Valkey, monkeypatch: pytest.MonkeyPatch, scheme: str, ends: bool
) -> None:
    """Every key of a state expires `retention_seconds` after its end, or later where there is none."""
    if not ends:
        monkeypatch.setattr(state, "UNENDED_SECONDS", 1.0)
    channel: Any = bridge.connect(own_valkey.url(scheme), retention_seconds=1)
    task, canvas_topic = bridge.task_topic("t1"), bridge.task_topic("canvas:w")
    transport_of(channel).publish(events.make("log", "t1", level="info", message="hello"))
    for part in "ab" if ends else "a":
        transport_of(channel).publish(canvas.make("canvas:w", 2, part, "SUCCESS"))
    assert own_valkey.command("EXISTS", f"bridge:{{t:{canvas_topic}}}:rows") == 1
    if ends:
        transport_of(channel).publish(events.make("state", "t1", state="SUCCESS"))
    assert [len(transport_of(channel).states(topic)) for topic in (task, canvas_topic)] == [1, 1]
    # The list of all tasks is kept as long as one that has not ended may be.
    left = [b"bridge:{t:tasks}:members"] if ends else []
    eventually(lambda: own_valkey.command("KEYS", "*") == left)
    channel.close()
