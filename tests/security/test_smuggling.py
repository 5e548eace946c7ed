"""Request smuggling: a stream's connection carries one request, under every server and behind nginx."""

import re
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress

import httpx
import pytest

from tests.listener import SECONDS
from tests.markdown import block
from tests.nginx import PROGRAM
from tests.servers import Valkey, eventually
from tests.sites import Kind, Site, site

SECRET = b"for the viewers of the smuggled request"

# One server for each implementation of HTTP and each way to take a connection over.
SERVERS = (
    Kind("flask", "gunicorn sync"),
    Kind("flask", "gunicorn gevent"),
    Kind("flask", "pywsgi"),
    Kind("flask", "flask"),
    Kind("fastapi", "uvicorn --http httptools --loop uvloop"),
    Kind("starlette", "uvicorn --http h11 --loop uvloop"),
    Kind("fastapi", "hypercorn"),
    Kind("starlette", "granian"),
    Kind("django", "daphne asgi"),
)


@pytest.fixture(scope="module", params=SERVERS, ids=str)
def served(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Site]:
    """An application, directly and behind nginx."""
    if PROGRAM is None:
        pytest.skip("no nginx here; on Debian: apt-get install nginx-light")
    with site(request.param, valkey, {"nginx": block("docs/guide.md", "location / {\n")}) as served:
        yield served


def request(topic: str, *headers: str) -> bytes:
    lines = (f"GET /stream?topic={topic} HTTP/1.1", "Host: test", *headers, "", "")
    return "\r\n".join(lines).encode()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data)


TE = "Transfer-Encoding: chunked"

# Each takes the topic of the stream and the smuggled request, and returns what the client sends.
ATTACKS: dict[str, Callable[[str, bytes], bytes]] = {
    "pipelined": lambda topic, inner: request(topic) + inner * 3,
    "in the body": lambda topic, inner: request(topic, f"Content-Length: {len(inner)}") + inner,
    "in a chunk": lambda topic, inner: request(topic, TE) + chunked(inner),
    "CL.TE": lambda topic, inner: (
        request(topic, f"Content-Length: {len(inner) + 5}", TE) + b"0\r\n\r\n" + inner
    ),
    "TE.CL": lambda topic, inner: request(topic, "Content-Length: 4", TE) + chunked(inner),
    "TE.TE": lambda topic, inner: (
        request(topic, TE, "Transfer-Encoding: x", f"Content-Length: {len(inner)}") + inner
    ),
    "an unknown TE": lambda topic, inner: request(topic, "Transfer-Encoding: xchunked") + chunked(inner),
    "a space before the colon": lambda topic, inner: (
        request(topic, "Transfer-Encoding : chunked", "Content-Length: 0") + chunked(inner)
    ),
    "two lengths": lambda topic, inner: (
        request(topic, "Content-Length: 0", f"Content-Length: {len(inner)}") + inner
    ),
}


class Attacker:
    """A client that sends anything, and reads what it is answered."""

    def __init__(self, address: str, sent: bytes) -> None:
        self.received = b""
        self._socket = socket.create_connection(
            ("127.0.0.1", int(address.rpartition(":")[2])), timeout=SECONDS
        )
        with suppress(ConnectionError):
            self._socket.sendall(sent)

    def until(self, found: Callable[[bytes], object]) -> bool:
        """Read until something is found; return whether it was, before the connection was closed."""
        while not found(self.received):
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                return False
            if not data:
                return False
            self.received += data
        return True

    def leave(self) -> None:
        """Say no more, and read until the server has nothing to say either."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self.until(lambda received: False)

    def close(self) -> None:
        self._socket.close()


def is_refused(received: bytes) -> bool:
    status = re.match(rb"HTTP/1\.[01] (\d+)", received)
    return status is not None and status[1] != b"200"


def attack(served: Site, address: str, make: Callable[[str, bytes], bytes]) -> None:
    """Attack, and fail unless the client gets one answer, and no more than its own stream stays open."""
    own, other = uuid.uuid4().hex, uuid.uuid4().hex
    attacker = Attacker(address, make(own, request(other)))
    try:
        is_open = attacker.until(lambda received: b"retry: " in received or is_refused(received))
        if is_refused(attacker.received):
            is_open = False
            attacker.leave()
        for marker in (b"<1>", b"<2>"):
            served.publish(other, [SECRET])
            served.publish(own, [marker])
            is_open = is_open and attacker.until(lambda received: marker in received)  # noqa: B023
        # Any other client of the same proxy gets the answer to its own request.
        eventually(lambda: viewers(address) == is_open, SECONDS, "a second stream is open")
        assert attacker.received.count(b"HTTP/1.") <= 1
        assert SECRET not in attacker.received
    finally:
        attacker.close()

    # While a request waits, hypercorn and granian do not read: only what is written, such as a heartbeat,
    # tells them that the client has gone. They then begin to answer the next request.
    def nobody_is_left() -> bool:
        for topic in (own, other):
            served.publish(topic, [SECRET])
        return viewers(address) == 0

    eventually(nobody_is_left, SECONDS, "a stream stays open")


def viewers(address: str) -> int:
    with httpx.Client(trust_env=False, verify=False, timeout=SECONDS) as client:
        count: int = client.get(f"{address}/stats").json()["viewers"]
    return count


@pytest.mark.parametrize("name", ATTACKS)
def test_a_smuggled_request_is_not_answered(served: Site, name: str) -> None:
    """It opens no stream that goes on, directly or through nginx, and no other client gets its answer."""
    for address in served.ways.values():
        attack(served, address, ATTACKS[name])
