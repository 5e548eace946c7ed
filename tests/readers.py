"""Many viewers of one topic in one thread, each of which counts what it gets and keeps nothing else."""

import re
import selectors
import socket
import time
from collections.abc import Iterable

# A large text comes in several chunks: where the next one begins, its size stands in the middle of a number.
_CHUNK_SIZE = rb"\r\n[0-9a-f]+\r\n"
_NUMBER = re.compile(rb"#((?:\d|%b)+)#" % _CHUNK_SIZE)


class Reader:
    """A viewer of messages that begin with `#0#`, `#1#`, …; it notes the first that is not the next one."""

    def __init__(self, port: int, path: str, header: str = "", receive_buffer: int | None = None) -> None:
        self.next = 0
        self.wrong: int | None = None
        self.closed = False
        self.bytes = 0
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        self.socket.connect(("127.0.0.1", port))
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n".encode())
        self.socket.setblocking(False)
        self._end = b""

    def read(self) -> None:
        """Read what there is."""
        data = self.socket.recv(1 << 20)
        self.closed = not data
        self.bytes += len(data)
        whole = self._end + data
        at = 0
        for found in _NUMBER.finditer(whole):
            at = found.end()
            number = int(re.sub(_CHUNK_SIZE, b"", found[1]))
            if number != self.next and self.wrong is None:
                self.wrong = number
            self.next += 1
        self._end = whole[at:][-40:]


def read_until(readers: Iterable[Reader], count: int, within: float) -> None:
    """Have all of them read until each has got so many messages; fail if one is closed or late."""
    deadline = time.monotonic() + within
    with selectors.DefaultSelector() as selector:
        for reader in readers:
            selector.register(reader.socket, selectors.EVENT_READ, reader)
        while selector.get_map():
            assert time.monotonic() < deadline, [key.data.next for key in selector.get_map().values()]
            for key, _ in selector.select(1):
                reader = key.data
                reader.read()
                assert reader.wrong is None, f"{reader.wrong} came in place of {reader.next}"
                assert not reader.closed, f"closed after {reader.next} messages"
                if reader.next >= count:
                    selector.unregister(reader.socket)
