"""Connections are taken over from uvicorn, and stay with the other servers: real processes."""

import asyncio
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from flask import Flask

import bridge
from bridge.channel.transport import transport_of
from bridge.flask import Bridge as FlaskBridge
from bridge.streams.takeover import asgi as takeover_module
from bridge.streams.takeover.asgi import Message
from tests import asgi_app, events
from tests.asgi_app import make_certificate, stats
from tests.listener import SECONDS, Listener, body_of
from tests.servers import Valkey, eventually

TASK = "task:t1"

# Each protocol, each event loop, each process model and each framework, in few runs.
UVICORN = [
    ("uvicorn --http httptools --loop uvloop --limit-concurrency 5 --timeout-keep-alive 1", "fastapi"),
    ("uvicorn --http h11 --loop asyncio --timeout-graceful-shutdown 10", "starlette"),
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
    """Return open streams of `topic`, opened one after another."""
    listeners = []
    for _ in range(number):
        listeners.append(Listener(address, topic))
        listeners[-1].until(b"retry: ")
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
    """Every viewer gets each event once and one end, and leaves neither task nor buffer; the log stays empty.

    uvicorn waits for none when it stops. With a limit of 5 connections it answers beside 50 viewers.
    """
    processes = 2 if "workers" in server else 1
    say(channel, "state", state="STARTED")
    with asgi_app.serving(server, valkey.url("redis"), namespace, framework=framework) as (address, log):
        idle, connections = stats(address)["tasks"], stats(address)["connections"]
        assert connections
        listeners = listen(address, TASK, 20)
        eventually(lambda: counted(address, "viewers_handed_over", processes) == 20, SECONDS)
        assert stats(address)["tasks"] == idle
        eventually(lambda: stats(address)["connections"] <= connections, SECONDS)
        if "keep-alive" in server:
            time.sleep(1.2)  # so long, and uvicorn closes an idle connection of its own
        for number in range(30):
            say(channel, "log", message=f"message {number}.")
        say(channel, "state", state="SUCCESS")
        for listener in listeners:
            received = listener.rest()
            # Otherwise a client may send its next request on the connection that is about to be closed.
            head = received.partition(b"\r\n\r\n")[0] + b"\r\n"
            assert re.findall(rb"(?i)\r\nconnection: *(.*)\r\n", head) == [b"close"], head
            body = body_of(received)
            assert re.findall(rb"^event: (snapshot|end)$", body, re.MULTILINE) == [b"snapshot", b"end"]
            assert re.findall(rb"message (\d+)\.", body) == [b"%d" % number for number in range(30)]
            listener.socket.close()
        eventually(lambda: counted(address, "viewers", processes) == 0, SECONDS)
        check_cursors(address, body)
        assert log.read_text() == ""
        check_stop(address, processes)
        assert not re.search("Traceback|ERROR", log.read_text())


def test_a_reload_ends_every_stream(valkey: Valkey, namespace: str, tmp_path: Path) -> None:
    """uvicorn --reload waits for no viewer; each gets a retry of its own and an end, and may come back."""
    file = tmp_path / "changed.py"
    file.write_text("")
    server = f"uvicorn --reload --reload-dir {tmp_path}"
    with asgi_app.serving(server, valkey.url("redis"), namespace) as (address, log):
        listeners = listen(address, "orders", 20)
        eventually(lambda: counted(address, "viewers_handed_over") == 20, SECONDS)
        before = stats(address)["pid"]
        file.write_text("changed = True")
        for listener in listeners:
            received = listener.rest()
            assert received.endswith(b"0\r\n\r\n")
            assert len(re.findall(rb"^retry: \d+$", body_of(received), re.MULTILINE)) == 2
        # The old process still takes connections until uvicorn itself sees the signal, a moment later.
        eventually(lambda: process_of(address) not in (None, before), SECONDS)
        (again,) = listen(address, "orders", 1)
        again.socket.close()
        assert not re.search("Traceback|ERROR", log.read_text())


def process_of(address: str) -> int | None:
    """Return the process that answers, `None` if it ends meanwhile."""
    with suppress(httpx.TransportError):
        return int(stats(address)["pid"])
    return None


def check_cursors(address: str, body: bytes) -> None:
    """Check a stream that has ended: 204, resumption, a bad cursor, HEAD."""

    def ask(cursor: str, method: str = "GET") -> httpx.Response:
        url, headers = f"{address}/stream?topic={TASK}", {"Last-Event-ID": cursor}
        return httpx.request(method, url, headers=headers, trust_env=False, verify=False, timeout=SECONDS)

    assert (ask("end").status_code, ask("end").content) == (204, b"")
    ids = re.findall(rb"^id: (.*)$", body, re.MULTILINE)
    resumed = ask(ids[11].decode()).content  # the snapshot has the first, message 10 the twelfth
    assert re.findall(rb"message (\d+)\.", resumed) == [b"%d" % number for number in range(11, 30)]
    assert re.findall(rb"^event: (reset|snapshot|end)$", ask("wrong").content, re.MULTILINE)[0] == b"reset"
    assert ask("wrong").content.count(b"event: end\n") == 1
    assert (ask("", "HEAD").status_code, ask("", "HEAD").content) == (200, b"")


@pytest.fixture(scope="module")
def server(valkey: Valkey) -> Iterator[tuple[str, Path, str]]:
    """A server that two tests share; its address, its log and its namespace."""
    namespace = f"asgi {time.monotonic_ns()}"
    with asgi_app.serving("uvicorn", valkey.url("redis"), namespace, middleware="base") as (address, log):
        yield address, log, namespace


@pytest.fixture
def shared(valkey: Valkey, server: tuple[str, Path, str]) -> Iterator[tuple[str, Any]]:
    """The address of the server, and a channel. The test must leave nothing in the log, and no viewer."""
    address, log, namespace = server
    with bridge.connect(valkey.url("redis"), namespace=namespace) as channel:
        yield address, channel
    eventually(lambda: stats(address)["viewers"] == stats(address)["subscriptions"] == 0, 2)
    assert stats(address)["why"] is None
    assert log.read_text() == ""


def test_a_viewer_may_leave_in_every_phase(shared: tuple[str, Any]) -> None:
    """Who leaves or resets while its stream opens, or later, is forgotten; nothing is logged."""
    address, _ = shared
    for number in range(30):
        listener = Listener(address, "orders")
        time.sleep(number % 10 * 0.001)
        listener.reset() if number % 2 else listener.socket.close()
    (listener,) = listen(address, "orders", 1)
    eventually(lambda: stats(address)["viewers"] == 1, 2)
    listener.reset()


def test_a_pipelined_request_is_discarded(shared: tuple[str, Any]) -> None:
    """What a viewer sends after its request does not end the stream, and gets no answer in it."""
    address, channel = shared
    more = b"GET /stats HTTP/1.1\r\nHost: test\r\n\r\n"
    listener = Listener(address, "orders", also=more)
    listener.until(b"retry: ")
    listener.socket.sendall(more * 3)
    channel.topic("orders").publish(b"one")
    received = listener.until(b"data: one")
    assert received.count(b"HTTP/1.1") == 1
    assert b"x-passed: yes" in received  # the middleware passed it on
    listener.socket.close()


def check_stop(address: str, processes: int = 1) -> None:
    """Check that 50 open streams end properly and the server stops, before it stops waiting for streams."""
    listeners = listen(address, "orders", 50)
    pids: set[int] = set()
    while len(pids) < processes:
        pids.add(stats(address)["pid"])
    before = time.monotonic()
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    for listener in listeners:
        received = listener.rest()
        listener.socket.close()
        assert received.endswith(b"0\r\n\r\n")
        assert len(re.findall(rb"^retry: \d+$", body_of(received), re.MULTILINE)) == 2
    eventually(lambda: not any(map(running, pids)), 5)
    assert time.monotonic() - before < 5


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
        self.rest()  # the thread would read from another connection with the descriptor of this one


FALLBACKS: dict[str, tuple[str, dict[str, str], str]] = {
    "TLS": ("uvicorn --ssl-certfile {certificate} --ssl-keyfile {key}", {}, "the server itself encrypts"),
    "not installed": ("uvicorn", {"install": "no"}, "is not wrapped"),
    "compressing": ("uvicorn --http h11", {"middleware": "compressing"}, "rewrites the body"),
    "hypercorn": ("hypercorn", {}, "is not uvicorn"),
    "granian": ("granian", {}, "is not uvicorn"),
    "daphne": ("daphne", {}, "is not uvicorn"),
}


@pytest.mark.parametrize("case", FALLBACKS)
def test_elsewhere_the_same_bytes_come_from_a_coroutine(
    valkey: Valkey, channel: Any, namespace: str, case: str, certificate: tuple[Path, Path]
) -> None:
    """Same events, heartbeats, and a viewer that leaves is noticed; one line in the log says why."""
    server, settings, why = FALLBACKS[case]
    server = server.format(certificate=certificate[0], key=certificate[1])
    url = valkey.url("redis")
    say(channel, "state", state="STARTED")
    with asgi_app.serving(server, url, namespace, tls=case == "TLS", heartbeat=0.3, **settings) as (
        address,
        log,
    ):
        reading, leaving = Reading(address, TASK), Reading(address, "orders")
        for number in range(30):
            say(channel, "log", message=f"message {number}.")
        say(channel, "state", state="SUCCESS")
        snapshot, rest = split(reading.rest())
        assert snapshot.startswith(b"event: snapshot\n")
        assert rest == from_flask(url, namespace, re.findall(rb"^id: (.*)$", snapshot, re.MULTILINE)[0])
        leaving.until(b":\n:\n")
        assert stats(address)["viewers"] == 1
        leaving.leave()
        eventually(lambda: stats(address)["viewers"] == stats(address)["subscriptions"] == 0, 2)
        counted = stats(address)
        assert (counted["viewers_handed_over"], counted["viewers_opened"]) == (0, 2)
        assert why in counted["why"]
        assert log.read_text().count("cannot be taken over") == 1
        if case == "not installed":
            check_stop(address)
        assert not re.search("Traceback|ERROR", log.read_text())


def split(body: bytes) -> tuple[bytes, bytes]:
    """Return the first event and the others, without the retry field and the heartbeats."""
    text = re.sub(rb"^(retry: \d+|:)\n", b"", body, flags=re.MULTILINE)
    first, _, rest = text.partition(b"\n\n")
    return first, rest


def from_flask(url: str, namespace: str, cursor: bytes) -> bytes:
    """Return what the Flask extension sends after `cursor`, without the retry field."""
    app = Flask(__name__)
    app.config.update(BRIDGE_URL=url, BRIDGE_NAMESPACE=namespace, BRIDGE_PUBLIC=True)
    extension = FlaskBridge(app)
    app.add_url_rule("/stream", view_func=lambda: extension.stream(TASK))
    body = app.test_client().get("/stream", headers={"Last-Event-ID": cursor.decode()}).data
    app.extensions["bridge"].channel.close()
    return re.sub(rb"^retry: \d+\n", b"", body)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class Transport:
    """A transport of uvicorn that keeps what is written."""

    def __init__(self) -> None:
        self.socket, self._other = socket.socketpair()
        self.written: list[bytes] = []

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.socket if name == "socket" else None

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.socket.close()


class Cycle:
    """What answers a request in uvicorn. With `holds_back` something on the way keeps the body."""

    __module__ = "uvicorn.protocols"

    def __init__(self, *, holds_back: bool) -> None:
        self.transport = Transport()
        self._holds_back = holds_back

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        elif not self._holds_back:
            self.transport.write(message["body"])


@pytest.mark.parametrize("holds_back", [False, True])
def test_the_head_leaves_with_the_first_chunk(monkeypatch: pytest.MonkeyPatch, holds_back: bool) -> None:
    """Both leave in one write; a head whose chunk does not follow leaves alone."""
    monkeypatch.setattr(takeover_module, "SEND_WITHIN", 0.05)
    cycle = Cycle(holds_back=holds_back)
    transport = cycle.transport
    scope = {"type": "http", "http_version": "1.1", "method": "GET"}
    takeover = takeover_module.Takeover(scope, send=cycle.send)
    head: Message = {"type": "http.response.start", "status": 200, "headers": []}
    connection = asyncio.run(takeover.take(cycle.send, head, b"retry: 1\n\n"))
    first = b"" if holds_back else b"retry: 1\n\n"
    assert transport.written == [b"HTTP/1.1 200 OK\r\n\r\n" + first]
    assert (connection is None) == (takeover.refusal is not None) == holds_back
    assert cycle.transport is transport
    if connection is not None:
        connection.socket.close()
