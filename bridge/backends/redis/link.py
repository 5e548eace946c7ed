"""One RESP3 connection, read and written without blocking.

RESP3 lets one connection carry both published messages and the answers to commands, in one order. So an
answer there, such as the state of a topic, has an exact place between two messages.
"""

import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import hiredis

from bridge.errors import ConnectionLost

PROBE_AFTER = 10.0
"""Seconds of silence after which the connection is probed."""

RECEIVE_SIZE = 256 * 1024
RECEIVED_AT_ONCE = 4
"""Times to receive before the answers are parsed: many messages of a topic go out in one write."""

PARSED_AT_ONCE = 16 * 1024
"""Bytes given to hiredis together: it moves all bytes that it has not parsed after each kilobyte."""


Argument = str | bytes | int
"""A word of a command."""


class RefusedReply(Exception):
    """An error that the server answered."""


class Request:
    """A command to which the server has not answered yet. It answers in the order of the commands."""

    __slots__ = ("command", "key", "losses", "purpose", "topic")

    def __init__(self, purpose: object, topic: str, key: bytes, *command: Argument) -> None:
        self.purpose = purpose
        """What the answer is for."""
        self.topic = topic
        self.key = key
        """The key that the command is about: it says which node answers."""
        self.command = command
        self.losses = 0
        """How many connections were lost while this answer was the next one to come."""


class Link:
    """A connection that redis-py has opened and authenticated."""

    # Any: redis-py does not declare the socket of a connection.
    def __init__(self, connection: Any, timeout: float) -> None:
        self._connection = connection  # keeps the socket open
        self._timeout = timeout
        self.socket: socket.socket = connection._sock
        self.socket.setblocking(False)
        self.requests: deque[Request] = deque()
        """What the server has not answered, the next answer first."""
        self._parser = hiredis.Reader(replyError=RefusedReply)
        self._out = bytearray()
        self._heard_at = time.monotonic()
        self._probed_at: float | None = None

    def send(self, request: Request) -> Request:
        """Queue a command, whose answer comes after those to all commands before it. Return `request`."""
        self.requests.append(request)
        # The stub declares too few types: hiredis packs tuples of str, bytes and int.
        self._out += hiredis.pack_command(request.command)  # type: ignore[arg-type]
        return request

    @property
    def waits_to_write(self) -> bool:
        return bool(self._out)

    def write(self) -> None:
        """Write as much as the socket takes. Raises `ConnectionLost`."""
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error}") from error

    # Any: an answer is whatever the server sends.
    def read(self) -> Iterator[Any]:
        """Yield every answer and every push that has come. Raises `ConnectionLost`."""
        received = self._receive()
        self._heard_at, self._probed_at = time.monotonic(), None
        try:
            for data in received:
                for start in range(0, len(data), PARSED_AT_ONCE):
                    self._parser.feed(data[start : start + PARSED_AT_ONCE])
                    while (answer := self._parser.gets()) is not False:
                        yield answer
        except hiredis.ProtocolError as error:
            raise ConnectionLost(f"the server does not speak RESP3: {error}") from error

    def _receive(self) -> list[bytes]:
        received: list[bytes] = []
        try:
            more = True
            while more:
                data = self.socket.recv(RECEIVE_SIZE)
                if not data:
                    raise ConnectionLost("the server closed the connection")
                received.append(data)
                if isinstance(self.socket, ssl.SSLSocket):
                    more = bool(
                        self.socket.pending()
                    )  # bytes that are decrypted already do not wake the selector
                else:
                    more = len(data) == RECEIVE_SIZE and len(received) < RECEIVED_AT_ONCE
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error}") from error
        return received

    def until_probe(self) -> float:
        """Return the seconds until `probe` has something to do."""
        due = self._heard_at + PROBE_AFTER if self._probed_at is None else self._probed_at + self._timeout
        return max(0.0, due - time.monotonic())

    def probe(self) -> None:
        """Ask a silent connection for an answer. Raises `ConnectionLost` if none has come in time."""
        now = time.monotonic()
        if self._probed_at is not None:
            if now >= self._probed_at + self._timeout:
                raise ConnectionLost(f"the server has not answered for {self._timeout:g} s")
        elif now >= self._heard_at + PROBE_AFTER:
            self._probed_at = now
            self.send(Request("PING", "", b"", "PING"))

    def close(self) -> None:
        # The descriptor only: a forked child closes its copy while the parent reads on.
        self.socket.close()
