"""Viewers whose connections were taken over, as one loop in a real server serves them."""

import json
import os
import re
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from flask import Flask
from werkzeug.test import EnvironBuilder

import bridge
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from tests import events
from tests.listener import SECONDS, Listener
from tests.servers import Valkey, eventually
from tests.serving import serving

TOPIC = "orders"


@pytest.fixture
def namespace() -> str:
    return f"viewers {time.monotonic_ns()}"


@pytest.fixture
def channel(valkey: Valkey, namespace: str) -> Iterator[Any]:
    channel = bridge.connect(valkey.url("redis"), namespace=namespace)
    yield channel
    channel.close()


@contextmanager
def server(valkey: Valkey, namespace: str, kind: str = "gunicorn sync", **settings: str) -> Iterator[str]:
    needed = {"BRIDGE_URL": valkey.url("redis"), "BRIDGE_PUBLIC": "true", "BRIDGE_NAMESPACE": namespace}
    with serving(kind, **{**needed, **settings}) as address:
        yield address


def stats(address: str) -> dict[str, int]:
    told: dict[str, int] = httpx.get(
        f"{address}/stats", timeout=SECONDS, trust_env=False, verify=False
    ).json()
    return told


def say(channel: Any, kind: str, **fields: Any) -> None:
    transport_of(channel).publish(events.make(kind, "t1", **fields))


@pytest.mark.parametrize("kind", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "flask"])
def test_one_worker_serves_many_viewers_and_other_requests(
    valkey: Valkey, channel: Any, namespace: str, kind: str
) -> None:
    """200 streams, all taken over, get every message in order, while the same worker answers other routes."""
    with server(valkey, namespace, kind) as address:
        listeners = [Listener(address, TOPIC) for _ in range(200)]
        for listener in listeners:
            listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 200, SECONDS)
        for number in range(20):
            channel.topic(TOPIC).publish(b"message %d." % number)
            if number % 5 == 0:
                assert stats(address)["viewers"] == 200
        for listener in listeners:
            text = listener.until(b"message 19.")
            assert re.findall(rb"message (\d+)\.", text) == [b"%d" % number for number in range(20)]
            listener.socket.close()
        eventually(lambda: stats(address)["viewers"] == stats(address)["subscriptions"] == 0, SECONDS)


LIMITS = [
    ({"BRIDGE_MAX_VIEWERS": "5"}, 503),
    ({"BRIDGE_MAX_VIEWERS_PER_ADDRESS": "5"}, 429),
]


@pytest.mark.parametrize(("limit", "status"), LIMITS)
@pytest.mark.parametrize("kind", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "flask"])
def test_a_viewer_over_a_limit_is_refused_until_another_leaves(
    valkey: Valkey, channel: Any, namespace: str, kind: str, limit: dict[str, str], status: int
) -> None:
    """The sixth stream is refused before it opens, with a Retry-After; its place is free when one leaves."""
    with server(valkey, namespace, kind, **limit) as address, httpx.Client(trust_env=False) as client:
        listeners = [Listener(address, TOPIC) for _ in range(5)]
        for listener in listeners:
            listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 5, SECONDS)
        for _ in range(3):
            refused = client.get(f"{address}/stream?topic={TOPIC}")
            assert refused.status_code == status
            assert 5 <= int(refused.headers["Retry-After"]) <= 15
            assert "event-stream" not in refused.headers["Content-Type"]
        assert client.head(f"{address}/stream?topic={TOPIC}").status_code == 200
        assert stats(address)["viewers_refused"] == 3
        listeners.pop().socket.close()
        eventually(lambda: stats(address)["viewers"] == 4, SECONDS)
        listeners.append(Listener(address, TOPIC))
        listeners[-1].until(b"retry: ")
        assert client.get(f"{address}/stream?topic={TOPIC}").status_code == status


def test_a_viewer_that_stops_reading_is_cut_off_alone(valkey: Valkey, channel: Any, namespace: str) -> None:
    """Over its bounded backlog a viewer is closed and counted; another gets everything in the meantime."""
    with server(valkey, namespace, BRIDGE_VIEWER_BACKLOG="200000") as address:
        stuck, quick = Listener(address, TOPIC, receive_buffer=4096), Listener(address, TOPIC)
        for listener in (stuck, quick):
            listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 2, SECONDS)
        number = 0
        while not stats(address)["viewers_cut_off"]:
            assert number < 2000
            for _ in range(10):
                number += 1
                channel.topic(TOPIC).publish(b"<%d>" % number + b"x" * 10_000)
                quick.until(b"<%d>" % number)
        assert re.findall(rb"<(\d+)>", quick.received) == [b"%d" % n for n in range(1, number + 1)]
        assert stats(address)["viewers"] == 1
        with pytest.raises((AssertionError, ConnectionError)):
            stuck.until(b"<%d>" % (number + 1))


def test_viewers_that_stop_reading_cost_no_more_than_their_backlogs(
    valkey: Valkey, channel: Any, namespace: str
) -> None:
    """While 10 are stuck, each cut off over its bound, three others get all, and memory is bounded."""
    bound, size = 1_000_000, 100_000
    with server(valkey, namespace, BRIDGE_VIEWER_BACKLOG=str(bound)) as address:
        quick = [Listener(address, TOPIC) for _ in range(3)]
        stuck = [Listener(address, TOPIC, receive_buffer=4096) for _ in range(10)]
        for listener in (*quick, *stuck):
            listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 13, SECONDS)
        number, before = 0, process(address)["peak"]
        while stats(address)["viewers_cut_off"] < 10:
            assert number < 200
            number += 1
            channel.topic(TOPIC).publish(b"<%d>" % number + b"x" * size)
            for listener in quick:
                listener.until(b"<%d>" % number)
        for listener in quick:
            assert re.findall(rb"<(\d+)>", listener.received) == [b"%d" % n for n in range(1, number + 1)]
        # A backlog is joined into one write; beside it stands what the hub keeps for those who come back.
        assert process(address)["peak"] - before < 10 * bound + 2 * number * size + 10_000_000
        assert stats(address)["viewers"] == 3


def test_progress_gives_way_for_a_viewer_that_lags(valkey: Valkey, channel: Any, namespace: str) -> None:
    """A lagging viewer gets the newest progress instead of all, but every log line, state and the end."""
    with server(valkey, namespace, BRIDGE_VIEWER_BACKLOG="100000000") as address:
        lagging = Listener(address, bridge.task_topic("t1"), receive_buffer=4096)
        lagging.until(b"event: snapshot")
        eventually(lambda: stats(address)["viewers_handed_over"] == 1, SECONDS)
        for number in range(3000):
            say(channel, "progress", current=number, message="x" * 2000)
            if number % 100 == 0:
                say(channel, "log", level="info", message=f"line {number}")
        say(channel, "state", state="SUCCESS")
        eventually(lambda: stats(address)["messages_received"] >= 3031, SECONDS)
        text = lagging.until(b"event: end").decode()
        assert re.findall(r'"line (\d+)"', text) == [str(number) for number in range(0, 3000, 100)]
        progress = [int(number) for number in re.findall(r'"current":(\d+)', text)]
        assert progress == sorted(progress)
        assert progress[-1] == 2999
        assert len(progress) < 2500


@pytest.mark.parametrize("kind", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent"])
def test_sigterm_ends_every_stream_properly(valkey: Valkey, channel: Any, namespace: str, kind: str) -> None:
    """Within moments of SIGTERM each stream gets what was published, a retry of its own, and its end."""
    with server(valkey, namespace, kind) as address:
        listeners = [Listener(address, TOPIC) for _ in range(50)]
        for listener in listeners:
            listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 50, SECONDS)
        channel.topic(TOPIC).publish(b"last")
        listeners[0].until(b"last")
        os.kill(process(address)["parent"], signal.SIGTERM)
        started = time.monotonic()
        texts = [listener.rest() for listener in listeners]
        assert time.monotonic() - started < 3
        for text in texts:
            assert b"data: last" in text
            assert text.endswith(b"0\r\n\r\n")
        retries = {re.findall(rb"retry: (\d+)", text)[-1] for text in texts}
        assert len(retries) > 25


def test_comings_and_goings_leave_nothing_behind(valkey: Valkey, channel: Any, namespace: str) -> None:
    """After 10,000 connects and disconnects descriptors, threads, memory and topics are where they were."""
    with server(valkey, namespace) as address:
        come_and_go(address, 1000)
        before = process(address)
        come_and_go(address, 9000)
        eventually(lambda: process(address)["descriptors"] <= before["descriptors"], SECONDS)
        after = process(address)
        assert after["threads"] <= before["threads"]
        assert after["peak"] - before["peak"] < 5_000_000
        told = stats(address)
        assert (told["viewers_opened"], told["subscriptions"], told["viewers"]) == (10_000, 0, 0)


def come_and_go(address: str, times: int) -> None:
    """Open streams of 20 topics, 50 at once, and leave again, so many times in all."""
    for number in range(times // 50):
        listeners = [Listener(address, f"topic{number % 20}") for _ in range(50)]
        for listener in listeners:
            listener.until(b"retry: ")
            listener.socket.close()
    eventually(lambda: stats(address)["subscriptions"] == stats(address)["viewers"] == 0, SECONDS)


def process(address: str) -> dict[str, int]:
    """What the serving process is and holds."""
    told: dict[str, int] = httpx.get(f"{address}/pid", timeout=SECONDS, trust_env=False, verify=False).json()
    return told


def test_silent_streams_get_heartbeats_from_the_loop(valkey: Valkey, channel: Any, namespace: str) -> None:
    """A stream without messages gets a comment at every heartbeat."""
    with server(valkey, namespace, BRIDGE_HEARTBEAT="1") as address:
        listener = Listener(address, TOPIC)
        listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 1, SECONDS)
        while listener.received.count(b"2\r\n:\n\r\n") < 3:
            listener.received += listener.socket.recv(4096)


def test_a_stream_resumes_through_a_restart(valkey: Valkey, channel: Any, namespace: str) -> None:
    """What was published while the server was away comes first when the viewer is back with its last id."""
    with server(valkey, namespace) as address:
        listener = Listener(address, TOPIC)
        listener.until(b"retry: ")
        eventually(lambda: stats(address)["viewers_handed_over"] == 1, SECONDS)
        channel.topic(TOPIC).publish(b"one")
        last_id = re.findall(rb"id: (\S+)", listener.until(b"data: one"))[-1].decode()
    channel.topic(TOPIC).publish(b"two")
    with (
        server(valkey, namespace) as address,
        httpx.stream(
            "GET", f"{address}/stream?topic={TOPIC}", headers={"Last-Event-ID": last_id}, timeout=SECONDS
        ) as response,
    ):
        text = ""
        for part in response.iter_text():
            text += part
            if "two" in text:
                break
        assert "one" not in text
        assert json.dumps(last_id)[1:-1] not in text


@pytest.mark.parametrize("scope", [{}, {"asgi.scope": {}}], ids=["WSGI server", "a2wsgi"])
def test_what_is_published_after_the_head_arrives(scope: dict[str, Any]) -> None:
    """A WSGI server sends the head with the first chunk. a2wsgi sends it before, when it is only known."""
    app: Any = Flask(__name__)
    app.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}", BRIDGE_PUBLIC=True)
    streams = Bridge(app)
    app.add_url_rule("/stream", view_func=lambda: streams.stream(TOPIC))
    channel = app.extensions["bridge"].channel
    publish = channel.topic(TOPIC).publish
    known: list[str] = []
    environ: Any = {**EnvironBuilder("/stream").get_environ(), **scope}
    body: Any = app(environ, lambda status, *_: known.append(status))
    chunks = iter(body)
    if scope:
        publish(b"one")
    text = next(chunks)
    publish(b"two")
    assert known == ["200 OK"]
    while b"two" not in text:
        text += next(chunks)
    assert re.findall(rb"^data: (.*)$", text, re.MULTILINE) == ([b"one", b"two"] if scope else [b"two"])
    body.close()
    with app.app_context():
        eventually(lambda: streams.stats()["viewers"] == streams.stats()["subscriptions"] == 0, SECONDS)
    channel.close()
