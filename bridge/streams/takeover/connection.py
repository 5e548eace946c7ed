"""A connection that was taken over from a web server, and how a chunked response is framed on it."""

import _socket  # the sockets beneath `socket`, which gevent's monkey-patching does not change
import re
from typing import NamedTuple

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked response; the connection must be closed after it."""


def chunk(data: bytes) -> bytes:
    """Return `data`, which must not be empty, framed for a chunked response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_CONNECTION = re.compile(rb"\r\nconnection:[^\r]*", re.IGNORECASE)


def closing(written: bytes) -> bytes:
    """Return a response, or the start of one, whose head says that the connection closes at its end.

    Otherwise a client that keeps connections open may send its next request on one that is being closed.
    """
    head, _, rest = written.partition(b"\r\n\r\n")
    return b"%b\r\nConnection: close\r\n\r\n%b" % (_CONNECTION.sub(b"", head), rest)


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
