"""The outermost layer of an application: it sees the server, each request, and the shutdown."""

import logging
from collections.abc import Awaitable, Callable
from contextvars import ContextVar

# `Any` in this module: an application of any framework.
from typing import Any

from bridge.errors import ConfigurationError
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send, remember_connection

logger = logging.getLogger("bridge.asgi")

ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
End = Callable[[], Awaitable[None]]
Files = Callable[[Scope, Send], Awaitable[bool]]

current_scope: ContextVar[Scope | None] = ContextVar("bridge.asgi.scope", default=None)
"""The scope of the request that is handled here, `None` outside of a request and without the wrapper."""


def wrapped(app: ASGIApplication, end: End, files: Files | None) -> ASGIApplication:
    """Return `app` with a layer around it. `end` is called when the application shuts down.

    `files` answers a request for a file of the browser client, and returns whether it did.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _Lifespan(receive, send, end).run(app, scope)
            return
        if scope["type"] == "http":
            if files is not None and await files(scope, send):
                return
            remember_connection(scope, receive, send)
        token = current_scope.set(scope)
        try:
            await app(scope, receive, send)
        finally:
            current_scope.reset(token)

    return application


def install(app: Any, wrap: Callable[[ASGIApplication], ASGIApplication]) -> None:
    """Have a Starlette or FastAPI application call `wrap` with all of its middleware.

    Raises `ConfigurationError` if it is no such application, or has answered its first request.
    """
    build = getattr(app, "build_middleware_stack", None)
    if build is None:
        raise ConfigurationError(
            f"install() takes a Starlette or FastAPI application, not {type(app).__name__}; "
            "of another one serve what wrap(app) returns"
        )
    if getattr(app, "middleware_stack", None) is not None:
        raise ConfigurationError("install() comes too late: the application has been started")
    app.build_middleware_stack = lambda: wrap(build())


class _Lifespan:
    """The lifespan of an application, with `end` called before the application learns of the shutdown.

    An application that does not support lifespans gets one: uvicorn ends its process soon after it, too soon
    for the thread that looks whether the server is ending.
    """

    def __init__(self, receive: Receive, send: Send, end: End) -> None:
        self._receive_from_server = receive
        self._send_to_server = send
        self._end = end
        self._started = False
        self._supported = False

    async def run(self, app: ASGIApplication, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            if self._supported:
                raise
            logger.debug("the application does not support lifespans", exc_info=True)
        if not self._supported:
            if not self._started:
                await self._receive()
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _receive(self) -> Message:
        message = await self._receive_from_server()
        self._started = True
        if message["type"] == "lifespan.shutdown":
            await self._end()
        return message

    async def _send(self, message: Message) -> None:
        self._supported = True
        await self._send_to_server(message)
