"""What slow clients, limits and the end of a web server do to the streams of its process."""

import os
import re
import shlex
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import bridge
from tests.faults.crowd import Crowd
from tests.listener import SECONDS, Listener
from tests.processes import running
from tests.servers import Valkey, eventually, free_port
from tests.serving import answers, command, logged

TOPIC = "orders"
HALF = b"GET /stream?topic=orders HTTP/1.1\r\nHost:"
PROCESS = re.compile(rb"\[(\d+)\] \[INFO\] Booting worker|Started server process \[(\d+)\]")


class Web:
    """A web server of the bridge, and the channel whose topics it streams."""

    def __init__(self, address: str, log: Path, channel: Any) -> None:
        self.address = address
        self.log = log
        self.port = int(address.rpartition(":")[2])
        self._channel = channel

    def publish(self, data: bytes) -> None:
        self._channel.topic(TOPIC).publish(data)

    def get(self, path: str, timeout: float = SECONDS) -> httpx.Response:
        return httpx.get(f"{self.address}/{path}", timeout=timeout, trust_env=False, verify=False)

    def told(self, what: str) -> dict[str, int]:
        answer: dict[str, int] = self.get(what).json()
        return answer

    def listen(self, count: int) -> list[Listener]:
        """Open streams that are established."""
        listeners = [Listener(self.address, TOPIC) for _ in range(count)]
        for listener in listeners:
            listener.until(b"retry: ")
        return listeners

    def connect(self, sent: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)
        connection.sendall(sent)
        return connection

    def processes(self) -> list[int]:
        """The processes that have served, in the order of their start."""
        return [int(one or other) for one, other in PROCESS.findall(self.log.read_bytes())]


@contextmanager
def web(valkey: Valkey, kind: str, *options: str, **settings: str) -> Iterator[Web]:
    namespace = uuid.uuid4().hex
    given = {"URL": valkey.url("redis"), "PUBLIC": "true", "NAMESPACE": namespace, **settings}
    with (
        bridge.connect(valkey.url("redis"), namespace=namespace) as channel,
        logged(kind, *options, **{f"BRIDGE_{name}": value for name, value in given.items()}) as (
            address,
            log,
        ),
    ):
        yield Web(address, log, channel)


def ends_well(listeners: list[Listener]) -> None:
    """Each stream ends as it should, and their viewers do not come back all at once."""
    texts = [listener.rest() for listener in listeners]
    assert all(text.endswith(b"0\r\n\r\n") for text in texts)
    retries = {re.findall(rb"retry: (\d+)", text)[-1] for text in texts}
    assert len(retries) > len(texts) // 2
    assert max(map(int, retries)) - min(map(int, retries)) > 500


# The server ends.


def half_a_request(served: Web) -> socket.socket:
    """A client that begins a request and says no more."""
    return served.connect(HALF)


def a_busy_view(served: Web) -> socket.socket:
    """A view that computes for longer than the server allows."""
    return served.connect(b"GET /busy?seconds=60 HTTP/1.1\r\nHost: test\r\n\r\n")


@pytest.mark.parametrize(
    ("kind", "hold_up"),
    [
        ("gunicorn sync", half_a_request),
        ("gunicorn sync", a_busy_view),
        ("gunicorn gevent", a_busy_view),
    ],
)
def test_a_worker_that_is_aborted_ends_its_streams_well(valkey: Valkey, kind: str, hold_up: Any) -> None:
    """A worker that gunicorn aborts gives each stream a retry of its own and an end, whatever held it up."""
    with web(valkey, kind, "--timeout", "2") as served:
        listeners = served.listen(50)
        with hold_up(served):
            ends_well(listeners)
        eventually(lambda: len(served.processes()) == 2, SECONDS)
        assert b"WORKER TIMEOUT" in served.log.read_bytes()
        eventually(lambda: answers(served.address), SECONDS)


@pytest.mark.parametrize("kind", ["gunicorn gthread", "gunicorn gevent"])
def test_a_slow_client_holds_up_nobody_else(valkey: Valkey, kind: str) -> None:
    """Half a request that is held for longer than --timeout stops neither a gthread nor a gevent worker."""
    with web(valkey, kind, "--timeout", "2") as served:
        listeners = served.listen(20)
        with served.connect(HALF), served.connect(HALF):
            until = time.monotonic() + 5
            while time.monotonic() < until:
                assert served.get("pid").json()["own"] == served.processes()[-1]
            served.publish(b"still here")
            for listener in listeners:
                listener.until(b"still here")
        assert len(served.processes()) == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("app", ["create_asgi_app", "create_coroutines"])
def test_uvicorn_ends_at_once_with_streams_open(valkey: Valkey, app: str, how: signal.Signals) -> None:
    """Told to end, uvicorn waits neither for streams of Flask through a2wsgi nor for those of coroutines."""
    with web(valkey, f"uvicorn {app}") as served:
        listeners = served.listen(8)
        served.publish(b"last")
        listeners[0].until(b"last")
        (process,) = served.processes()
        os.kill(process, how)
        started = time.monotonic()
        texts = [listener.rest() for listener in listeners]
        assert time.monotonic() - started < 5
        assert all(b"data: last" in text and text.endswith(b"0\r\n\r\n") for text in texts)
        if app == "create_asgi_app":
            ends_well(listeners)
        eventually(lambda: b"Finished server process" in served.log.read_bytes(), 5, "uvicorn waits")
        assert b"ERROR" not in served.log.read_bytes()


def test_a_stream_that_opens_while_uvicorn_ends_is_ended_too(valkey: Valkey) -> None:
    """Of more streams than a2wsgi has threads, those that had to wait for one end when it is their turn."""
    with web(valkey, "uvicorn create_asgi_app") as served:
        listeners = served.listen(10)
        late = [Listener(served.address, TOPIC) for _ in range(5)]
        # uvicorn resets connections that it has not read yet; it has read these when it refuses a later one.
        with served.connect(b"no request\r\n\r\n") as refused:
            assert b" 400 " in refused.recv(65536)
        os.kill(served.processes()[0], signal.SIGTERM)
        for listener in (*listeners, *late):
            listener.rest()
        eventually(lambda: b"Finished server process" in served.log.read_bytes(), 5, "uvicorn waits")


# A worker that is restarted after so many requests.


@pytest.mark.parametrize("kind", ["gunicorn sync", "gunicorn gthread", "gunicorn gevent"])
def test_viewers_alone_never_restart_a_worker(valkey: Valkey, kind: str) -> None:
    """With --max-requests below the number of viewers only other requests count: one restart, no series."""
    with (
        web(valkey, kind, "--max-requests", "20") as served,
        Crowd(served.port, f"/stream?topic={TOPIC}", 60) as crowd,
    ):

        def everyone_is_told(number: int) -> None:
            def told() -> bool:
                if not crowd.have(number):
                    served.publish(b"%d" % number)
                    return False
                return True

            eventually(told, SECONDS)

        everyone_is_told(1)
        assert len(served.processes()) == 1
        restarted = time.monotonic()
        while len(served.processes()) == 1:
            served.get("pid")
        eventually(lambda: crowd.ends(restarted), SECONDS)
        everyone_is_told(2)
        for _ in range(15):
            time.sleep(0.2)  # what restarts gunicorn's workers looks once a second
            assert served.get("pid").json()["own"] == served.processes()[-1]
        assert len(served.processes()) == 2


# File descriptors.


@contextmanager
def with_descriptors(valkey: Valkey, limit: int, kind: str, *options: str) -> Iterator[Web]:
    """A server whose processes may open no more than `limit` descriptors."""
    port, namespace = free_port(), uuid.uuid4().hex
    address = f"http://127.0.0.1:{port}"
    words = command(kind, port, *options)
    env = {"SERVING_BRIDGE_URL": valkey.url("redis"), "SERVING_BRIDGE_PUBLIC": "true"}
    with (
        bridge.connect(valkey.url("redis"), namespace=namespace) as channel,
        running(
            ["sh", "-c", f"ulimit -n {limit}; exec {shlex.join(words)}"],
            env={**env, "SERVING_BRIDGE_NAMESPACE": namespace},
        ) as log,
    ):
        eventually(lambda: answers(address), 30, f"{kind} did not start")
        yield Web(address, log, channel)


IDLE = b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n"


def idle(served: Web, count: int) -> list[socket.socket]:
    """Connections that have had their answer and stay open."""
    connections = [served.connect(IDLE) for _ in range(count)]
    for connection in connections:
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    return connections


@pytest.mark.parametrize("idle_first", [True, False], ids=["idle ones first", "viewers first"])
def test_viewers_leave_descriptors_to_the_server(valkey: Valkey, idle_first: bool) -> None:
    """With 1,024 descriptors 150 idle connections and all the viewers that come leave the worker alive."""
    with with_descriptors(valkey, 1024, "gunicorn gthread", "--keep-alive", "60") as served:
        connections = idle(served, 150) if idle_first else []
        listeners, answered = [], []
        for _ in range(920):
            listeners.append(Listener(served.address, TOPIC))
            answered.append(listeners[-1].socket.recv(65536))
        refused = [text for text in answered if text.startswith(b"HTTP/1.1 503")]
        assert all(b"Retry-After: " in text for text in refused)
        assert 50 < len(refused) < 350
        connections += idle(served, 0 if idle_first else 150)
        served.publish(b"still here")
        for listener, text in zip(listeners, answered, strict=True):
            if text not in refused:
                listener.until(b"still here")
            listener.socket.close()
        eventually(lambda: served.told("stats")["viewers"] == 0, SECONDS)
        served.listen(1)
        assert len(served.processes()) == 1
        assert served.log.read_bytes().count(b"almost no file descriptors left") == 1
        for connection in connections:
            connection.close()


def test_a_burst_leaves_descriptors_to_the_server(valkey: Valkey) -> None:
    """With --worker-connections as the guide says, 1,000 viewers at once cost a gthread worker no stream."""
    options = ("--keep-alive", "60", "--worker-connections", "200")
    with with_descriptors(valkey, 1024, "gunicorn gthread", *options) as served:
        connections = idle(served, 150)
        first = served.listen(20)
        burst = [socket.create_connection(("127.0.0.1", served.port), SECONDS) for _ in range(1000)]
        for connection in burst:
            connection.sendall(f"GET /stream?topic={TOPIC} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        answered = [connection.recv(65536).split(b"\r\n")[0] for connection in burst]
        assert {line.split()[1] for line in answered} == {b"200", b"503"}
        served.publish(b"still here")
        for listener in first:
            listener.until(b"still here")
        assert len(served.processes()) == 1
        assert b"Too many open files" not in served.log.read_bytes()
        for connection in (*connections, *burst):
            connection.close()


# The backend does not answer.


def task(number: int) -> str:
    return bridge.task_topic(f"t{number}")


@pytest.mark.parametrize("known", [True, False], ids=["viewers before", "no viewer before"])
def test_a_backend_that_stalls_holds_a_worker_up_once(own_valkey: Valkey, known: bool) -> None:
    """While it is stopped, of 20 viewers that come to a sync worker one waits; plain routes are answered."""
    with web(own_valkey, "gunicorn sync") as served:
        before = served.listen(2) if known else []
        own_valkey.signal(signal.SIGSTOP)
        listeners = [Listener(served.address, task(number)) for number in range(20)]
        started = time.monotonic()
        assert served.get("pid").status_code == 200
        assert time.monotonic() - started < 4
        for listener in listeners:
            listener.until(b": waiting for the backend")
        own_valkey.signal(signal.SIGCONT)
        for listener in listeners:
            listener.until(b"event: snapshot")
        served.publish(b"still here")
        for listener in before:
            listener.until(b"still here")
        for number in range(20, 40):
            after = Listener(served.address, task(number)).until(b"event: snapshot")
            assert b"waiting for the backend" not in after


def test_a_viewer_that_gives_up_lets_no_other_wait(own_valkey: Valkey) -> None:
    """While the backend is stopped, viewers that leave at once do not make those that follow wait again."""
    with web(own_valkey, "gunicorn sync") as served:
        own_valkey.signal(signal.SIGSTOP)
        waits = []
        for number in range(6):
            started = time.monotonic()
            listener = Listener(served.address, task(number))
            listener.until(b": waiting for the backend")
            waits.append(time.monotonic() - started)
            listener.socket.close()
            eventually(lambda: served.told("stats")["viewers"] == 0, SECONDS)
        assert sum(waits[1:]) < 3, "each waits for a second"
        own_valkey.signal(signal.SIGCONT)


def test_one_line_an_outage_says_where_streams_wait_for_what() -> None:
    """Streams that open while the backend is away leave one line, with the host and without the password."""
    valkey = Valkey(requirepass="secret")
    url = f"redis://:secret@127.0.0.1:{valkey.port}/0"

    def said() -> int:
        return served.log.read_bytes().count(
            b"a stream was opened while the backend redis://127.0.0.1:%d/0 " % valkey.port
        )

    try:
        with web(valkey, "gunicorn gthread", URL=url) as served:
            for outage in range(1, 3):
                listeners = [Listener(served.address, task(number)) for number in range(5)]
                for listener in listeners:
                    listener.until(b": waiting for the backend")
                assert said() == outage
                valkey.start()
                for listener in listeners:
                    listener.until(b"event: snapshot")
                    listener.socket.close()
                assert b"waiting for" not in Listener(served.address, TOPIC).until(b"retry: ")
                valkey.kill()
            assert said() == 2
            assert b"secret" not in served.log.read_bytes()
    finally:
        valkey.stop()
