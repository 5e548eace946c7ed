"""One viewer as raw as it comes, for the tests of what is sent to it."""

import re
import socket
import struct
from collections.abc import Callable

SECONDS = 20


def body_of(received: bytes) -> bytes:
    """Return the body of a chunked response, as far as whole chunks of it have come."""
    chunks, at = [], received.find(b"\r\n\r\n") + 4
    while (end := received.find(b"\r\n", at)) > 0 and (size := int(received[at:end], 16)):
        start, at = end + 2, end + 4 + size
        if at > len(received):
            break
        chunks.append(received[start : start + size])
    return b"".join(chunks)


class Listener:
    """A browser's connection. `received` is all that came over it: the head, and the chunks with their sizes.

    A large text comes in several chunks, so any word in it may be cut in two. `until_body` looks at the text.
    """

    def __init__(
        self, address: str, topic: str, receive_buffer: int | None = None, also: bytes = b""
    ) -> None:
        """Ask for the stream, and send `also` in the same breath."""
        host, port = re.findall(r"//(.*):(\d+)", address)[0]
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(SECONDS)
        self.socket.connect((host, int(port)))
        self.socket.sendall(f"GET /stream?topic={topic} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode() + also)
        self.received = b""

    def until(self, word: bytes) -> bytes:
        """Receive until `word` comes; return all that was received so far."""
        at = 0
        while self.received.find(word, at) < 0:
            at = max(0, len(self.received) - len(word))
            self._receive()
        return self.received

    def until_body(self, satisfies: Callable[[bytes], bool]) -> bytes:
        """Receive until the body, without the sizes of its chunks, `satisfies`; return it."""
        while not satisfies(body := body_of(self.received)):
            self._receive()
        return body

    def _receive(self) -> None:
        data = self.socket.recv(1 << 20)
        assert data, f"closed too early, after {self.received[-300:]!r}"
        self.received += data

    def rest(self) -> bytes:
        """Receive until the server closes."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def reset(self) -> None:
        """Vanish."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
