"""A connection that was taken over from a web server, and how a chunked response is framed on it."""

import _socket  # the sockets beneath `socket`, which gevent's monkey-patching does not change
from typing import NamedTuple

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked response; the connection must be closed after it."""


def chunk(data: bytes) -> bytes:
    """Return `data`, which must not be empty, framed for a chunked response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class TakenConnection(NamedTuple):
    """A connection that no web server uses any more.

    The socket does not block, and is native even under gevent: threads and greenlets may wait for it in a
    selector, and calls on it never switch to another greenlet. The owner closes it, discards what the client
    still sends (the rest of a request, or a pipelined one), and frames the data with `chunk` if `chunked`.
    """

    socket: _socket.socket
    chunked: bool
    unsent: bytes
    """What the connection did not take of the head and the first chunk. It is sent before anything else."""
