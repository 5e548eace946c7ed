"""The outermost layer of an application: it sees the server, each request, and the shutdown."""

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

# `Any` in this module: an application of any framework.
from typing import Any

from bridge.errors import ConfigurationError
from bridge.streams.lifespan import End, Lifespan
from bridge.streams.takeover.asgi import ASGIApplication, Receive, Scope, Send, remember_connection

Files = Callable[[Scope, Send], Awaitable[bool]]

current_scope: ContextVar[Scope | None] = ContextVar("bridge.asgi.scope", default=None)
"""The scope of the request that is handled here, `None` outside of a request and without the wrapper."""


def wrapped(app: ASGIApplication, end: End, files: Files | None) -> ASGIApplication:
    """Return `app` with a layer around it. `end` is called when the application shuts down.

    `files` answers a request for a file of the browser client, and returns whether it did.
    """

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Lifespan(receive, send, end).run(app, scope)
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
