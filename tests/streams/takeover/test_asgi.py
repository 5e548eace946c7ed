"""Connections that are taken over from uvicorn, as real processes, and what stays with other servers."""

import os
import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import bridge
from bridge.channel.transport import transport_of
from tests import asgi_app, events
from tests.asgi_app import stats
from tests.listener import SECONDS, Listener, body_of
from tests.servers import Valkey, eventually

TASK = "task:t1"

# Each protocol, each event loop, each process model and each framework, in few runs.
UVICORN = [
    ("uvicorn --http httptools --loop uvloop", "fastapi"),
    ("uvicorn --http h11 --loop asyncio", "starlette"),
    ("uvicorn --http httptools --loop asyncio --workers 2", "fastapi"),
    ("uvicorn --http h11 --loop uvloop --interface asgi3", "plain"),
    ("gunicorn --workers 2", "fastapi"),
]


@pytest.fixture
def namespace() -> str:
    return f"asgi {time.monotonic_ns()}"


@pytest.fixture
def channel(valkey: Valkey, namespace: str) -> Iterator[Any]:
    channel = bridge.connect(valkey.url("redis"), namespace=namespace)
    yield channel
    channel.close()


def say(channel: Any, kind: str, **fields: Any) -> None:
    transport_of(channel).publish(events.make(kind, "t1", **fields))


def listen(address: str, topic: str, number: int) -> list[Listener]:
    """Return open streams of `topic`."""
    listeners = [Listener(address, topic) for _ in range(number)]
    for listener in listeners:
        listener.until(b"retry: ")
    return listeners


def counted(address: str, name: str, processes: int = 1) -> int:
    """Return what the processes of a server count under `name`, together."""
    found: dict[int, int] = {}
    while len(found) < processes:
        answer = stats(address)
        assert answer["why"] is None
        found[answer["pid"]] = answer[name]
    return sum(found.values())


@pytest.mark.parametrize(("server", "framework"), UVICORN)
def test_a_connection_is_taken_over_from_uvicorn(
    valkey: Valkey, channel: Any, namespace: str, server: str, framework: str
) -> None:
    """Every viewer gets each event once and one end, and leaves no task behind; the error log stays empty."""
    processes = 2 if "workers" in server else 1
    say(channel, "state", state="STARTED")
    with asgi_app.serving(server, valkey.url("redis"), namespace, framework=framework) as (address, log):
        idle = stats(address)["tasks"]
        listeners = listen(address, TASK, 20)
        eventually(lambda: counted(address, "viewers_handed_over", processes) == 20, SECONDS)
        assert stats(address)["tasks"] == idle
        for number in range(30):
            say(channel, "log", message=f"message {number}.")
        say(channel, "state", state="SUCCESS")
        for listener in listeners:
            body = body_of(listener.rest())
            assert re.findall(rb"^event: (snapshot|end)$", body, re.MULTILINE) == [b"snapshot", b"end"]
            assert re.findall(rb"message (\d+)\.", body) == [b"%d" % number for number in range(30)]
            listener.socket.close()
        eventually(lambda: counted(address, "viewers", processes) == 0, SECONDS)
        check_cursors(address, body)
        assert log.read_text() == ""


def check_cursors(address: str, body: bytes) -> None:
    """Check a stream that has ended: 204, resumption, a bad cursor, HEAD."""

    def ask(cursor: str, method: str = "GET") -> httpx.Response:
        url, headers = f"{address}/stream?topic={TASK}", {"Last-Event-ID": cursor}
        return httpx.request(method, url, headers=headers, trust_env=False, timeout=SECONDS)

    assert (ask("end").status_code, ask("end").content) == (204, b"")
    ids = re.findall(rb"^id: (.*)$", body, re.MULTILINE)
    resumed = ask(ids[11].decode()).content  # the snapshot has the first, message 10 the twelfth
    assert re.findall(rb"message (\d+)\.", resumed) == [b"%d" % number for number in range(11, 30)]
    assert re.findall(rb"^event: (reset|snapshot|end)$", ask("wrong").content, re.MULTILINE)[0] == b"reset"
    assert ask("wrong").content.count(b"event: end\n") == 1
    assert (ask("", "HEAD").status_code, ask("", "HEAD").content) == (200, b"")


def test_viewers_do_not_count_in_limit_concurrency(valkey: Valkey, channel: Any, namespace: str) -> None:
    """With room for 5 connections, uvicorn serves 50 viewers, and still answers other requests."""
    server = "uvicorn --limit-concurrency 5 --timeout-keep-alive 1"
    with asgi_app.serving(server, valkey.url("redis"), namespace) as (address, log):
        listeners = [listener for _ in range(50) for listener in listen(address, "orders", 1)]
        eventually(lambda: stats(address)["viewers_handed_over"] == 50, SECONDS)
        time.sleep(1.2)  # the idle time after which uvicorn closes a connection
        channel.topic("orders").publish(b"one")
        for listener in listeners:
            listener.until(b"data: one")
        assert stats(address)["viewers"] == 50
        assert log.read_text() == ""


def test_a_viewer_leaves_in_every_phase(valkey: Valkey, channel: Any, namespace: str) -> None:
    """Who leaves or resets while its stream opens, or later, is forgotten; no log line, no wrong reason."""
    with asgi_app.serving("uvicorn", valkey.url("redis"), namespace, middleware="base") as (address, log):
        for number in range(30):
            listener = Listener(address, "orders")
            time.sleep(number % 10 * 0.001)
            listener.reset() if number % 2 else listener.socket.close()
        (listener,) = listen(address, "orders", 1)
        eventually(lambda: stats(address)["viewers"] == 1, 2)
        listener.reset()
        eventually(lambda: stats(address)["viewers"] == stats(address)["subscriptions"] == 0, 2)
        assert stats(address)["why"] is None
        assert log.read_text() == ""


def test_a_viewer_that_sends_more_is_served(valkey: Valkey, channel: Any, namespace: str) -> None:
    """A pipelined request does not end the stream, and gets no answer in it."""
    with asgi_app.serving("uvicorn", valkey.url("redis"), namespace) as (address, log):
        listener = Listener(address, "orders", also=b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n")
        listener.until(b"retry: ")
        listener.socket.sendall(b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n" * 3)
        eventually(lambda: stats(address)["viewers_handed_over"] == 1, SECONDS)
        channel.topic("orders").publish(b"one")
        received = listener.until(b"data: one")
        assert received.count(b"HTTP/1.1") == 1
        assert log.read_text() == ""


STOPPING = [
    ("uvicorn", {}),
    ("uvicorn --loop asyncio --http h11", {}),
    ("uvicorn --timeout-graceful-shutdown 10", {}),
    ("uvicorn", {"install": "no"}),
    ("gunicorn", {}),
]


@pytest.mark.parametrize(("server", "settings"), STOPPING)
def test_streams_end_within_two_seconds_of_sigterm(
    valkey: Valkey, channel: Any, namespace: str, server: str, settings: dict[str, str]
) -> None:
    """50 streams end properly, each with a time to come back after, and the server stops."""
    with asgi_app.serving(server, valkey.url("redis"), namespace, **settings) as (address, log):
        listeners = listen(address, "orders", 50)
        pid = stats(address)["pid"]
        before = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        bodies = []
        for listener in listeners:
            listener.rest()
            listener.socket.close()
            bodies.append(listener.received)
        for received in bodies:
            assert received.endswith(b"0\r\n\r\n")
            assert len(re.findall(rb"^retry: \d+$", body_of(received), re.MULTILINE)) == 2
        if not server.startswith("gunicorn"):  # it starts another worker
            eventually(lambda: not running(pid), 2)
            assert time.monotonic() - before < 2
        assert not re.search("Traceback|ERROR", log.read_text())


def running(pid: int) -> bool:
    with suppress(OSError):
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    return False


def body_from(response: httpx.Response, received: bytearray) -> None:
    with suppress(httpx.TransportError):
        for data in response.iter_bytes():
            received += data


class Reading:
    """A stream read by httpx in a thread, which decodes what was compressed or encrypted."""

    def __init__(self, address: str, topic: str, **headers: str) -> None:
        self.received = bytearray()
        self._client = httpx.Client(timeout=SECONDS, trust_env=False, verify=False)
        request = self._client.build_request("GET", f"{address}/stream?topic={topic}", headers=headers)
        self.response = self._client.send(request, stream=True)
        self._thread = threading.Thread(target=body_from, args=(self.response, self.received), daemon=True)
        self._thread.start()
        self.until(b"retry: ")

    def until(self, word: bytes) -> None:
        eventually(lambda: word in self.received, SECONDS, f"no {word!r} in {bytes(self.received[-300:])!r}")

    def rest(self) -> bytes:
        """Return the body, once it has ended."""
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        self._client.close()
        return bytes(self.received)

    def leave(self) -> None:
        stream: Any = self.response.extensions["network_stream"]
        stream.get_extra_info("socket").shutdown(2)
        self._client.close()
