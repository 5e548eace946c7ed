"""Takes the connection of a response over from uvicorn, which then believes that the client has left.

The outermost ASGI application calls `remember_connection`. It leaves in the scope what serves the request:
uvicorn's `send` is a method of the object that has the transport. While the head of the response and its
first chunk are sent, a recorder stands in for that transport. The chunk comes out unchanged, or framed as an
HTTP chunk, or changed by a middleware that rewrites or holds back the body. In the first two cases the socket
is duplicated and the transport aborted, which closes only the server's descriptor.
"""

import _socket  # the loop serves native sockets
import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress

# `Any` in this module: the values of an ASGI scope and message, and objects of uvicorn.
from typing import Any

from bridge.streams.takeover.connection import TakenConnection, chunk
from bridge.support.fork import CAN_FORK
from bridge.support.server import watch_server

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]

SEND_WITHIN = 1.0
"""Seconds in which the first chunk must have left the server. Usually it leaves at once."""

_KEY = "bridge.connection"


def remember_connection(scope: Scope, receive: Receive, send: Send) -> None:
    """Leave in the scope of a request what serves it. The outermost application calls it."""
    extensions = scope["extensions"] = dict(scope.get("extensions") or {})
    extensions[_KEY] = (getattr(send, "__self__", None), receive)


class Takeover:
    """What the response to one request needs to take its connection over.

    `refusal` says why it cannot be done, and is `None` as long as it can.
    """

    def __init__(self, scope: Scope, receive: Receive | None = None, send: Send | None = None) -> None:
        """`receive` and `send` are those of the application, if its framework shows them."""
        found = (scope.get("extensions") or {}).get(_KEY)
        self._cycle: Any = found[0] if found else getattr(send, "__self__", None)
        self._receive: Receive | None = found[1] if found else receive
        self._recorder: _Recorder | None = None
        self.refusal = _why_not(scope, self._cycle, wrapped=found is not None)
        if self.refusal is not None:
            _watch_hypercorn(self._cycle)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers that the head needs if the connection is taken over, which closes at the end.

        Otherwise a client may send its next request on the connection that is about to be closed.
        """
        return [] if self.refusal is not None else [(b"connection", b"close")]

    async def take(self, send: Send, head: Message, first: bytes) -> TakenConnection | None:
        """Send `head` and `first`; return the connection, or `None` to go on as before.

        `first` must be short. After a connection, the application waits for `disconnected` and returns.
        `None` without a `refusal` says that the client has left.
        """
        body: Message = {"type": "http.response.body", "body": first, "more_body": True}
        if self.refusal is not None:
            await send(head)
            await send(body)
            return None
        self.record()
        try:
            await send(head)
            await send(body)
            return await self.recorded(first)
        finally:
            self.stop_recording()

    def record(self) -> None:
        """Record what the server writes from now on, until `stop_recording`. Needs no `refusal`."""
        self._recorder = self._cycle.transport = _Recorder(self._cycle.transport)

    def stop_recording(self) -> None:
        """Undo `record`. May be called again."""
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.flush()
            self._cycle.transport = recorder.transport

    async def recorded(self, first: bytes) -> TakenConnection | None:
        """Return the connection once `first` was sent, or `None` to go on as before.

        `first` is sent after `record`, and the head before or after. For the rest see `take`.
        """
        recorder = self._recorder
        if recorder is None:
            return None
        chunked = await recorder.has_sent(first)
        self.stop_recording()
        transport = recorder.transport
        if transport.is_closing():  # the client has left
            return None
        if chunked is None:
            self.refusal = (
                "something between the application and the server rewrites the body or holds it back"
            )
            return None
        return self._duplicate(transport, chunked)

    def _duplicate(self, transport: asyncio.Transport, chunked: bool) -> TakenConnection | None:
        original = transport.get_extra_info("socket")
        try:
            descriptor = os.dup(original.fileno())
        except OSError as error:  # no descriptor is left
            self.refusal = f"the connection cannot be duplicated: {error.strerror}"
            return None
        transport.abort()
        # What uvicorn does itself soon after: the request need not stay open until then.
        self._cycle.disconnected = True
        # Without these the kernel would be asked for each of them.
        kind = original.family, original.type, original.proto
        return TakenConnection(_socket.socket(*kind, fileno=descriptor), chunked, b"")

    async def disconnected(self) -> None:
        """Wait until the server has noticed that the connection is no longer its own."""
        if self._cycle.disconnected:
            return
        while self._receive is not None and (await self._receive())["type"] != "http.disconnect":
            pass

    def abort(self) -> bool:
        """Close the connection to a client that does not read; return whether that is possible here."""
        if not _is_of_uvicorn(self._cycle):
            return False
        self._cycle.transport.abort()
        return True


class _Recorder:
    """Stands in for a transport, and keeps what is written to it.

    The head of the response waits for what follows it, because one write costs much less than two.
    """

    __slots__ = ("_changed", "_unsent", "_written", "transport")

    def __init__(self, transport: Any) -> None:
        self.transport = transport
        self._written = b""
        self._unsent = b""
        self._changed: asyncio.Event | None = None  # where `has_sent` waits

    def __getattr__(self, name: str) -> Any:
        return getattr(self.transport, name)

    def write(self, data: bytes) -> None:
        self._written += data
        self._unsent += data
        if self._body():
            self.flush()
        if self._changed is not None:
            self._changed.set()

    def flush(self) -> None:
        """Write what waits, unless the client has left: uvloop raises an error then."""
        unsent, self._unsent = self._unsent, b""
        if unsent and not self.transport.is_closing():
            self.transport.write(unsent)

    async def has_sent(self, first: bytes) -> bool | None:
        """Wait until `first` has left; return whether it left as a chunk, `None` if it did not leave."""
        framed = chunk(first)
        # This is how it usually is, and a timeout for each viewer is expensive.
        if (body := self._body()) in (first, framed) and not self.transport.get_write_buffer_size():
            return body == framed
        self._changed = asyncio.Event()
        with suppress(TimeoutError):
            async with asyncio.timeout(SEND_WITHIN):
                while (body := self._body()) not in (first, framed):
                    if not (first.startswith(body) or framed.startswith(body)):
                        return None
                    self._changed.clear()
                    await self._changed.wait()
                while self.transport.get_write_buffer_size():
                    await asyncio.sleep(0.01)
                return body == framed
        return None

    def _body(self) -> bytes:
        """Return what was written of the body. The head may have been written before."""
        written = self._written
        return written.partition(b"\r\n\r\n")[2] if written.startswith(b"HTTP/") else written


def _is_of_uvicorn(cycle: Any) -> bool:
    """Whether `cycle` is the object of uvicorn that answers one request."""
    transport = getattr(cycle, "transport", None)
    return type(cycle).__module__.startswith("uvicorn.") and hasattr(transport, "get_extra_info")


def _watch_hypercorn(cycle: Any) -> None:
    """End all streams when hypercorn is ending, if `cycle` is its object: it waits for them."""
    ended = getattr(getattr(cycle, "context", None), "terminated", None)
    if callable(is_ending := getattr(ended, "is_set", None)):
        watch_server(is_ending)


def _why_not(scope: Scope, cycle: Any, *, wrapped: bool) -> str | None:
    """Return why the connection cannot be taken over, `None` if it can."""
    if not _is_of_uvicorn(cycle):
        if wrapped:
            return "the server is not uvicorn, or something wraps the application once more"
        return "the application is not wrapped: call install(app), or serve wrap(app)"
    if not CAN_FORK:
        return "connections are taken over only on POSIX systems"
    if scope.get("http_version") not in ("1.0", "1.1") or scope["method"] == "HEAD":
        return "only HTTP/1 responses with a body are taken over"
    transport = cycle.transport
    if transport.get_extra_info("sslcontext") is not None:
        return "the server itself encrypts the connection"
    if transport.get_extra_info("socket") is None:
        return "the server does not show its socket"
    return None
