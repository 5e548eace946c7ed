"""Takes the connection of a response over from a WSGI server, which then regards the response as finished.

The server's descriptor becomes one end of a socket pair (`dup2`), so that whatever the server does to its
connection happens to the pair. The head of the response and its first chunk go through the pair as a probe.
The chunk comes out unchanged, or framed as an HTTP chunk, or changed by something that rewrites or holds back
the body. In the last case the connection is given back to the server, with what the server wrote meanwhile.

`Any` stands for the server's socket and the values of a WSGI environ: each server has its own types.
"""

import _socket  # the sockets beneath `socket`, which gevent's monkey-patching does not change
import errno
import os
from collections.abc import Generator
from contextlib import suppress

# `Any` in this module: the server's socket and the values of a WSGI environ, whose types depend on the
# server.
from typing import Any

from bridge.streams.takeover import gevent_server
from bridge.streams.takeover.connection import TakenConnection, chunk, closing
from bridge.support.fork import CAN_FORK

READ_SIZE = 65536
"""Bytes that are read from a socket with one call."""

_SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket", "gunicorn.sock")
_PROTOCOLS = ("HTTP/1.0", "HTTP/1.1")


class Takeover:
    """Takes over the connection of one response. All methods run in the server's own thread.

    `refusal` is the reason why the connection cannot be taken over, or `None`. `exhausted` says that
    only a file descriptor is missing, so that another attempt may succeed.
    """

    def __init__(self, environ: dict[str, Any]) -> None:
        self._server, self.refusal = _server_socket(environ)
        self._read_ahead: Any = gevent_server.request_buffer(environ) if self._server is not None else None
        self._diversion: _Diversion | None = None
        self._taken = False
        self.exhausted = False

    def take(self, first: bytes) -> Generator[bytes, None, TakenConnection | None]:
        """Yield `first`, then return the connection, or `None` if the response goes on as before.

        `first` must be the first chunk of the response, and short: the server writes it and the head into the
        socket pair, which is read only when the server asks for more. Once a connection is returned, the
        response must end.
        """
        diversion = self._divert()
        yield first
        if diversion is None:
            return None
        written = diversion.read()
        body = written.partition(b"\r\n\r\n")[2]
        if body not in (first, chunk(first), b"%X\r\n%b\r\n" % (len(first), first)):
            self.refusal = "something between the application and the server rewrites the body"
            self._diversion = None
            diversion.put_back(written)
            return None
        self._taken = True
        connection, unsent = diversion.keep(closing(written))
        if self._read_ahead is not None:
            # Otherwise pywsgi answers what the client sent after its request as another request.
            while self._read_ahead.read1(READ_SIZE):
                pass
        return TakenConnection(connection, body != first, unsent)

    def _divert(self) -> "_Diversion | None":
        if self._server is not None:
            try:
                self._diversion = _Diversion(self._server)
            except OSError as error:  # no descriptor is left, or the server has closed the connection
                self.refusal = f"the connection cannot be duplicated: {error.strerror}"
                self.exhausted = error.errno in (errno.EMFILE, errno.ENFILE)
        return self._diversion

    def close(self) -> None:
        """Release the socket pair. Call it when the server closes the response."""
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
        gevent_server.stop_polling(server, descriptor)
        os.dup2(near_end.fileno(), descriptor, inheritable=False)
        near_end.close()

    def read(self) -> bytes:
        """Return what the server has written since the last call.

        Read before closing: a pair that is closed with unread data shows the server a reset.
        """
        written = b""
        with suppress(OSError):  # nothing more is there, for now or at all
            while len(part := self.far_end.recv(READ_SIZE)) == READ_SIZE:
                written += part
            written += part
        return written

    def keep(self, written: bytes) -> tuple[_socket.socket, bytes]:
        """Send what the server has written; return the connection, and the part of `written` it did not take.

        A server that waits for another request on its descriptor sees the end of the connection at once.
        """
        self.far_end.shutdown(_socket.SHUT_WR)
        self.client.setblocking(False)
        with suppress(OSError):  # a Unix socket
            self.client.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        with suppress(OSError):  # full, or the client has left, which the next send finds out
            written = written[self.client.send(written) :]
        return self.client, written

    def put_back(self, written: bytes) -> None:
        """Give the connection back to the server, and send the client what the server wrote meanwhile."""
        os.dup2(self.client.fileno(), self.server.fileno(), inheritable=False)
        self.client.close()
        self.far_end.close()
        with suppress(OSError):  # the client has left, which the server's next write finds out
            self.server.sendall(written)


def close_after_response(environ: dict[str, Any]) -> None:
    """Make the server close the connection after this response. WSGI has no way to ask for it.

    A server that keeps connections open then finds that the client sends nothing more on this one.
    """
    server, _ = _server_socket(environ)
    if server is not None:
        with suppress(OSError):  # the client has left
            server.shutdown(_socket.SHUT_RD)


def _server_socket(environ: dict[str, Any]) -> tuple[Any, str | None]:
    """Return the server's socket, or `None` and why it cannot be taken over."""
    if not CAN_FORK:
        return None, "connections are taken over only on POSIX systems"
    if environ["REQUEST_METHOD"] == "HEAD" or environ.get("SERVER_PROTOCOL") not in _PROTOCOLS:
        return None, "only HTTP/1 responses with a body are handed over"
    server = next((environ[key] for key in _SOCKET_KEYS if key in environ), None)
    if server is None:
        server = gevent_server.socket_behind(gevent_server.request_buffer(environ))
    if server is None:
        return None, "the server does not show its socket"
    if hasattr(server, "do_handshake"):
        return None, "the server itself encrypts the connection"
    return server, None
