"""Whatever one viewer does to its connection, the others do not notice, and nothing of it stays behind."""

import re
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

import bridge
from tests.listener import SECONDS, Listener
from tests.servers import Valkey, eventually
from tests.serving import SERVERS, logged

FAULTS = re.compile(r"ERROR|CRITICAL|Traceback|Exception|tracked:")
TOPIC = "orders"
MOST_THREADS = 14
"""Those of the process, with the eight of gthread's pool, which grows as it is used."""


class Server:
    """A server of the bridge under an error tracker, with the channel whose topics it streams."""

    def __init__(self, address: str, log: Path, channel: Any) -> None:
        self.address = address
        self.log = log
        self.published: list[bytes] = []
        self._topic = channel.topic(TOPIC)

    def listen(self, **options: Any) -> Listener:
        """Open a stream."""
        return Listener(self.address, TOPIC, **options)

    def opened(self, **options: Any) -> Listener:
        """Open a stream that the loop serves."""
        before = self.told("stats")["viewers_handed_over"]
        listener = self.listen(**options)
        listener.until(b"retry: ")
        eventually(lambda: self.told("stats")["viewers_handed_over"] > before, SECONDS)
        return listener

    def connect(self, sent: bytes) -> socket.socket:
        """Send what may be no request."""
        connection = socket.create_connection(self.where, timeout=SECONDS)
        with suppress(ConnectionError):  # a server may hang up on what it will not read
            connection.sendall(sent)
        return connection

    @property
    def where(self) -> tuple[str, int]:
        return "127.0.0.1", int(self.address.rpartition(":")[2])

    def publish(self, size: int = 0) -> bytes:
        """Publish the next number; return what every viewer must receive."""
        data = b"<%d>" % len(self.published)
        self._topic.publish(data + b"x" * size)
        self.published.append(data)
        return data

    def told(self, what: str) -> dict[str, int]:
        answer: dict[str, int] = httpx.get(
            f"{self.address}/{what}", timeout=SECONDS, trust_env=False, verify=False
        ).json()
        return answer

    def held(self) -> dict[str, int]:
        """What would grow if something stayed behind."""
        told = {**self.told("stats"), **self.told("pid")}
        held = {name: told[name] for name in ("viewers", "subscriptions", "descriptors")}
        return {**held, "threads": max(told["threads"], MOST_THREADS)}

    def holds_no_more_than(self, before: dict[str, int]) -> bool:
        return all(now <= before[name] for name, now in self.held().items())

    def faults(self) -> list[str]:
        """What looks like a fault in the log, each with the lines that follow it."""
        lines = self.log.read_text(errors="replace").splitlines()
        return ["\n".join(lines[at : at + 20]) for at, line in enumerate(lines) if FAULTS.search(line)]


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Server]:
    namespace = uuid.uuid4().hex
    given = {"URL": valkey.url("redis"), "PUBLIC": "true", "NAMESPACE": namespace}
    settings = {f"BRIDGE_{name}": value for name, value in given.items()}
    settings["BRIDGE_VIEWER_BACKLOG"] = "50000000"
    with (
        bridge.connect(valkey.url("redis"), namespace=namespace) as channel,
        logged(request.param, TRACK_ERRORS="true", **settings) as (address, log),
    ):
        server = Server(address, log, channel)
        # Opens what is opened once, and every thread of a pool.
        for connection in [server.connect(b"GET /") for _ in range(10)]:
            connection.close()
        server.opened().socket.close()
        eventually(lambda: server.held()["viewers"] == 0, SECONDS)
        yield server
        # What would have been found is found.
        httpx.get(f"{address}/fault", timeout=SECONDS, trust_env=False, verify=False)
        eventually(lambda: "tracked:" in server.log.read_text(), SECONDS)
        assert len(server.faults()) > 1


Opened = Callable[[Listener | socket.socket], object]
"""Takes what stays open until the others have received what they must."""


def half_a_request_and_silence(server: Server, opened: Opened) -> None:
    for _ in range(10):
        opened(server.connect(b"GET /stream?topic=orders HTTP/1.1\r\nHost:"))


def gone_before_the_answer(server: Server, opened: Opened) -> None:
    for _ in range(20):
        server.listen().reset()


def gone_during_the_hand_over(server: Server, opened: Opened) -> None:
    for number in range(100):
        listener = server.listen()
        time.sleep(number / 20_000)  # up to 5 ms: any step of answering and handing over
        listener.reset()


def gone_after_the_head(server: Server, opened: Opened) -> None:
    for _ in range(20):
        listener = server.listen()
        listener.until(b"\r\n\r\n")
        listener.reset()


def gone_in_the_stream(server: Server, opened: Opened) -> None:
    listeners = [server.opened() for _ in range(5)]
    for listener in listeners:
        listener.until(server.publish())
        listener.reset()


def gone_with_a_backlog(server: Server, opened: Opened) -> None:
    listeners = [server.opened(receive_buffer=4096) for _ in range(5)]
    for _ in range(30):
        server.publish(size=200_000)
    eventually(lambda: server.told("stats")["messages_received"] >= len(server.published), SECONDS)
    for listener in listeners:
        listener.reset()


def gone_for_writing_only(server: Server, opened: Opened) -> None:
    for _ in range(5):
        listener = server.opened()
        listener.socket.shutdown(socket.SHUT_WR)
        opened(listener)


def a_line_after_the_request(server: Server, opened: Opened) -> None:
    for _ in range(5):
        listener = server.opened()
        listener.socket.sendall(b"hello\r\n")
        opened(listener)


def megabytes_with_the_request(server: Server, opened: Opened) -> None:
    listener = server.listen(also=b"x" * 20_000_000)
    listener.until(b"retry: ")
    opened(listener)


def megabytes_after_the_request(server: Server, opened: Opened) -> None:
    listener = server.opened()
    listener.socket.sendall(b"x" * 20_000_000)
    opened(listener)


def pipelined_requests(server: Server, opened: Opened) -> None:
    for _ in range(5):
        listener = server.opened(also=b"GET /stats HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
        listener.until(server.publish())
        assert listener.received.count(b"HTTP/1.1 ") == 1
        opened(listener)


def one_byte_a_message(server: Server, opened: Opened) -> None:
    listener = server.opened(receive_buffer=4096)
    for _ in range(30):
        server.publish(size=100_000)
        assert len(listener.socket.recv(1)) == 1
    opened(listener)


def http_1_0(server: Server, opened: Opened) -> None:
    connection = server.connect(b"GET /stream?topic=orders HTTP/1.0\r\n\r\n")
    while b"retry: " not in connection.recv(65536):
        pass
    opened(connection)


def head(server: Server, opened: Opened) -> None:
    before = server.told("stats")["viewers_opened"]
    answer = httpx.head(f"{server.address}/stream?topic=orders", timeout=SECONDS, trust_env=False)
    assert (answer.status_code, answer.content) == (200, b"")
    assert server.told("stats")["viewers_opened"] == before


def a_hundred_kilobytes_of_headers(server: Server, opened: Opened) -> None:
    headers = b"".join(b"X-%d: %b\r\n" % (number, b"x" * 2000) for number in range(50))
    for _ in range(5):
        opened(server.connect(b"GET /stream?topic=orders HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n"))


BAD = (
    half_a_request_and_silence,
    gone_before_the_answer,
    gone_during_the_hand_over,
    gone_after_the_head,
    gone_in_the_stream,
    gone_with_a_backlog,
    gone_for_writing_only,
    a_line_after_the_request,
    megabytes_with_the_request,
    megabytes_after_the_request,
    pipelined_requests,
    one_byte_a_message,
    http_1_0,
    head,
    a_hundred_kilobytes_of_headers,
)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_nobody_notices_a_bad_viewer(server: Server, bad: Callable[[Server, Opened], None]) -> None:
    """Another viewer gets every message, nothing is held or logged, and the next viewer is served."""
    held, first = server.held(), len(server.published)
    witness = server.opened()
    with ExitStack() as stack:
        bad(server, lambda it: stack.callback((it.socket if isinstance(it, Listener) else it).close))
        for _ in range(5):
            witness.until(server.publish())
    following = server.opened()
    last = server.publish()
    for listener, expected in ((witness, server.published[first:]), (following, [last])):
        assert re.findall(rb"<\d+>", listener.until(last)) == expected
        listener.socket.close()
    try:
        eventually(lambda: server.holds_no_more_than(held), SECONDS)
    except AssertionError:
        assert server.held() == held
    assert server.faults() == []
