"""A crowd: many viewers of one topic whose messages are numbers, in one thread, on raw sockets.

Each does what a browser does: it reconnects when its stream has ended, with the last id it saw, after the
time that the stream's last `retry` told it, of which it waits only the part `HURRY`.
"""

import re
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import Any, NamedTuple, Self

from tests.faults.viewer import HURRY

_FIELDS = re.compile(rb"retry: (\d+)\n|id: (\S+)\ndata: (\d+)\n\n")


class End(NamedTuple):
    """When a stream ended, and the seconds after which it told its viewer to come back."""

    at: float
    retry: float


class Member:
    """One viewer: what it was told, over all its connections."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.last_id = b""
        self.ends: list[End] = []
        self.refused: list[bytes] = []
        """Answers that were no stream."""
        self.socket: socket.socket | None = None
        self.connect_at = 0.0
        self._retry = 2.0
        self._received = b""

    def feed(self, data: bytes) -> None:
        received = self._received + data
        if not self._received and not data.startswith(b"HTTP/1.1 200 "):
            self.refused.append(data)
        at = 0
        for found in _FIELDS.finditer(received):
            at = found.end()
            retry, message_id, number = found.groups()
            if retry is None:
                self.last_id = message_id
                self.numbers.append(int(number))
            else:
                self._retry = int(retry) / 1000
        self._received = received[at:] or b"\n"

    def end(self, now: float) -> None:
        """The stream has ended, or could not begin; what came of an event that is not whole is forgotten."""
        if self._received:
            self.ends.append(End(now, self._retry))
        self._received = b""
        self.connect_at = now + self._retry * HURRY


class Crowd:
    """`with Crowd(port, path, count) as crowd:` opens the viewers and has them follow until its end."""

    def __init__(self, port: int, path: str, count: int) -> None:
        self.members = [Member() for _ in range(count)]
        self._request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n".encode()
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._leaving = False
        self._thread = threading.Thread(target=self._run, name="crowd")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._leaving = True
        self._thread.join()
        for member in self.members:
            if member.socket is not None:
                member.socket.close()
        self._selector.close()

    def have(self, number: int) -> bool:
        """Whether everyone has been told this number."""
        return all(member.numbers and member.numbers[-1] >= number for member in self.members)

    def ends(self, since: float) -> list[End]:
        """The first end of a stream that each has seen since then; nothing while that is not everyone."""
        firsts = [next((end for end in member.ends if end.at >= since), None) for member in self.members]
        seen = [end for end in firsts if end is not None]
        return seen if len(seen) == len(firsts) else []

    def _run(self) -> None:
        while not self._leaving:
            now = time.monotonic()
            for member in self.members:
                if member.socket is None and member.connect_at <= now:
                    self._connect(member)
            for key, mask in self._selector.select(0.02):
                self._serve(key.data, key.fileobj, mask)

    def _connect(self, member: Member) -> None:
        member.socket = socket.socket()
        member.socket.setblocking(False)
        with suppress(BlockingIOError):
            member.socket.connect(("127.0.0.1", self._port))
        self._selector.register(member.socket, selectors.EVENT_WRITE, member)

    def _serve(self, member: Member, connection: Any, mask: int) -> None:
        try:
            if mask & selectors.EVENT_WRITE:
                cursor = b"Last-Event-ID: %b\r\n" % member.last_id if member.last_id else b""
                connection.sendall(self._request + cursor + b"\r\n")
                self._selector.modify(connection, selectors.EVENT_READ, member)
                return
            data = connection.recv(65536)
        except OSError:  # refused, or reset
            data = b""
        if data:
            member.feed(data)
        else:
            self._selector.unregister(connection)
            connection.close()
            member.socket = None
            member.end(time.monotonic())
