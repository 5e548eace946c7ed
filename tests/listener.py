"""One viewer as raw as it comes, for the tests of what is sent to it."""

import re
import socket
import struct

SECONDS = 20


class Listener:
    """A browser's connection, as raw as it comes: chunked transfer coding taken off, nothing else."""

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
            data = self.socket.recv(1 << 20)
            assert data, f"closed before {word!r}: {self.received[-300:]!r}"
            self.received += data
        return self.received

    def rest(self) -> bytes:
        """Receive until the server closes."""
        while data := self.socket.recv(65536):
            self.received += data
        return self.received

    def reset(self) -> None:
        """Vanish."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()
