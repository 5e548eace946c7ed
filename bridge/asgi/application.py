"""The outermost layer of an application: it sees the server, each request, and the shutdown."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any  # an application of any framework

from bridge.errors import ConfigurationError
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send, remember_connection

ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
End = Callable[[], Awaitable[None]]

current_scope: ContextVar[Scope | None] = ContextVar("bridge.asgi.scope", default=None)
"""The scope of the request that is handled here, `None` outside of a request and without the wrapper."""


def wrapped(app: ASGIApplication, end: End) -> ASGIApplication:
    """Return `app` with a layer around it. `end` is called when the application shuts down."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await app(scope, _ending(receive, end), send)
            return
        if scope["type"] == "http":
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


def _ending(receive: Receive, end: End) -> Receive:
    """Return a `receive` of the lifespan that calls `end` before the application learns of the shutdown."""

    async def receive_and_end() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await end()
        return message

    return receive_and_end
