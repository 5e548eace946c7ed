"""Takes the connection of a response over from the WSGI server, which then believes that it is finished.

The server's descriptor is made one end of a socket pair (dup2), so that all it still does to its connection
happens to the pair. The head of the response and its first chunk go through it as a probe: the chunk comes
out as it went in, or as an HTTP chunk, or, where something on the way rewrites or holds back the body, as
anything else. Then the connection is put back, with what the server wrote meanwhile.
"""

import _socket  # the sockets beneath, which gevent's monkey-patching leaves alone
import errno
import os
import sys
from collections.abc import Generator
from contextlib import suppress
from typing import Any, NamedTuple

LAST_CHUNK = b"0\r\n\r\n"
"""Ends a chunked response; the connection must be closed after it."""

_AT_ONCE = 65536
_KEYS = ("gunicorn.socket", "werkzeug.socket", "gunicorn.sock")
_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


def chunk(data: bytes) -> bytes:
    """Return `data`, which must not be empty, framed for a chunked response."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class TakenConnection(NamedTuple):
    """A connection that no server knows of any more.

    The socket is non-blocking, and native even under gevent: threads and greenlets may wait for it in a
    selector, and calls on it never switch. Its owner closes it, throws away what the client still sends
    (the rest of a request, or a pipelined one), and frames what it sends with `chunk` if `chunked` says so.
    """

    socket: _socket.socket
    chunked: bool
    unsent: bytes
    """What the connection did not take of the head and the first chunk: it comes before anything else."""


class Takeover:
    """What the response to one request needs to take its connection over; all in the server's own thread.

    `refusal` says why it cannot be done, and is `None` as long as it can. `exhausted` says that only a
    descriptor is missing, so that another time it can be done.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._server, self.refusal = _connection(environ)
        self._read_ahead: Any = _buffer_of_pywsgi(environ) if self._server is not None else None
        self._diversion: _Diversion | None = None
        self._taken = False
        self.exhausted = False

    def take(self, first: bytes) -> Generator[bytes, None, TakenConnection | None]:
        """Yield `first`, then return the connection, or `None` to go on as before.

        It must be the first chunk of the response, and short: the server writes it and the head into a pair
        of sockets that is only read when it asks for more. After a connection the response must end.
        """
        diversion = self._divert()
        yield first
        if diversion is None:
            return None
        came_out = diversion.read()
        body = came_out.partition(b"\r\n\r\n")[2]
        if body not in (first, chunk(first), b"%X\r\n%b\r\n" % (len(first), first)):
            self.refusal = "something between the application and the server rewrites the body"
            self._diversion = None
            diversion.put_back(came_out)
            return None
        self._taken = True
        connection, unsent = diversion.keep(came_out)
        taken = TakenConnection(connection, body != first, unsent)
        if self._read_ahead is not None:
            # Else pywsgi takes what the client sent behind its request for another one, and answers it.
            while self._read_ahead.read1(_AT_ONCE):
                pass
        return taken

    def _divert(self) -> "_Diversion | None":
        if self._server is not None:
            try:
                self._diversion = _Diversion(self._server)
            except OSError as error:  # out of descriptors, or the server has closed the connection
                self.refusal = f"the connection cannot be duplicated: {error.strerror}"
                self.exhausted = error.errno in (errno.EMFILE, errno.ENFILE)
        return self._diversion

    def close(self) -> None:
        """Let go of what the server was left with. Call it when the server closes the response."""
        diversion, self._diversion, self._server = self._diversion, None, None
        if diversion is None:
            return
        written = diversion.read()
        if self._taken:
            diversion.far_end.close()
        else:
            diversion.put_back(written)


class _Diversion:
    """The server's descriptor is one end of a pair, `far_end` the other; `client` is the connection."""

    def __init__(self, server: Any) -> None:
        self.server = server
        descriptor = server.fileno()
        self.client = _socket.socket(fileno=os.dup(descriptor))
        try:
            near_end, self.far_end = _socket.socketpair()
        except OSError:
            self.client.close()
            raise
        self.far_end.setblocking(False)
        os.set_blocking(near_end.fileno(), os.get_blocking(descriptor))
        _forget(server, descriptor)
        os.dup2(near_end.fileno(), descriptor, inheritable=False)
        near_end.close()

    def read(self) -> bytes:
        """Return what the server has written since the last call.

        A pair closed with something unread in it would show the server a reset.
        """
        written = b""
        with suppress(OSError):  # nothing more, for now or for good
            while len(part := self.far_end.recv(_AT_ONCE)) == _AT_ONCE:
                written += part
            written += part
        return written

    def keep(self, written: bytes) -> tuple[_socket.socket, bytes]:
        """Send what the server has written; return the connection, and what it did not take of that.

        Whoever waits for another request on it sees the end at once.
        """
        self.far_end.shutdown(_socket.SHUT_WR)
        self.client.setblocking(False)
        with suppress(OSError):  # a Unix socket
            self.client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        with suppress(OSError):  # full, or a client that has gone: the next send will tell
            written = written[self.client.send(written) :]
        return self.client, written

    def put_back(self, written: bytes) -> None:
        """Give the connection back to the server, and the client what the server wrote meanwhile."""
        os.dup2(self.client.fileno(), self.server.fileno(), inheritable=False)
        self.client.close()
        self.far_end.close()
        with suppress(OSError):  # a client that has gone: the server's next write finds out by itself
            self.server.sendall(written)


def close_after_response(environ: dict[str, Any]) -> None:
    """Have the server close the connection after this response, which no WSGI application may ask it for.

    A server that keeps connections finds that the client of this one has nothing more to say.
    """
    server, _ = _connection(environ)
    if server is not None:
        with suppress(OSError):  # a client that has gone
            server.shutdown(_socket.SHUT_RD)


def _connection(environ: dict[str, Any]) -> tuple[Any, str | None]:
    """Return the server's socket, or `None` and why it cannot be taken."""
    if environ["REQUEST_METHOD"] == "HEAD" or environ.get("SERVER_PROTOCOL") not in _PROTOCOLS:
        return None, "only HTTP/1 responses with a body are handed over"
    shown = [environ[key] for key in _KEYS if key in environ]
    server = shown[0] if shown else getattr(getattr(_buffer_of_pywsgi(environ), "raw", None), "_sock", None)
    if server is None:
        return None, "the server does not show its socket"
    if hasattr(server, "do_handshake"):
        return None, "the server itself encrypts the connection"
    return server, None


def _buffer_of_pywsgi(environ: dict[str, Any]) -> Any:
    """Return what gevent's pywsgi reads requests from, or `None`: it puts no socket in the environ."""
    body = environ.get("wsgi.input")
    return getattr(body, "rfile", None) if type(body).__module__ == "gevent.pywsgi" else None


def _forget(server: Any, descriptor: int) -> None:
    """Take the descriptor out of the epoll set of gevent's loop.

    libev leaves it there when nobody waits for it any more, and epoll goes by the open file, not by the
    number: the loop would wake for every byte and close of a connection that is no longer its own.
    """
    loop = getattr(getattr(server, "hub", None), "loop", None)
    polled = loop.fileno() if loop is not None else None
    if polled is None or sys.platform != "linux":
        return
    from gevent import monkey

    with suppress(OSError):  # never waited for, or the loop does not use epoll
        epoll = monkey.get_original("select", "epoll")
        with epoll.fromfd(os.dup(polled)) as watched:
            watched.unregister(descriptor)
