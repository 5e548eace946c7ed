"""The response of a route: an ASGI application, and with Starlette installed a Starlette response.

`Any` stands for what OpenAPI says of a response.
"""

from collections.abc import Awaitable, Callable

# `Any` in this module: see the docstring.
from typing import Any

from bridge.streams.refusal import Refusal
from bridge.streams.takeover.asgi import Receive, Scope, Send

try:
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
except ImportError:  # another framework
    Response = HTTPException = None  # type: ignore[assignment, misc]  # both are checked before they are used

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "The viewer has seen the end of every task: do not reconnect"},
    403: {"description": "This topic may not be read"},
    404: {"description": "The name of a topic is not valid"},
    429: {"description": "Too many topics, or too many streams of this client; see Retry-After"},
    503: {"description": "This process has as many viewers as it may; see Retry-After"},
}
"""The responses of a stream, for OpenAPI: `@app.get(path, responses=bridge.asgi.RESPONSES)`."""

Headers = list[tuple[bytes, bytes]]
Respond = Callable[[Headers, Scope, Receive, Send], Awaitable[None]]
"""Answers a request with a stream, whose response has these headers too."""


class StreamResponse(Response if Response is not None else object):  # type: ignore[misc]  # Starlette's, if any
    """The response of `Bridge.stream`: an ASGI application that answers one request.

    As in every Starlette response, headers and cookies may be set, and `background` runs at the end. If the
    connection is taken over, the end of the response is not that of the stream.
    """

    media_type = "text/event-stream"

    def __init__(self, respond: Respond, *, status_code: int = 200) -> None:
        # Not Starlette's: there is no body, and most headers are known when the request is. The status is an
        # argument only because FastAPI's documentation of `response_class=StreamResponse` reads its default.
        self.status_code = status_code
        self.background: Callable[[], Awaitable[None]] | None = None
        self.body = b""
        self.raw_headers: Headers = []
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of `scope`."""
        await self._respond(self.raw_headers, scope, receive, send)
        if self.background is not None:
            await self.background()


def http_error(refusal: Refusal) -> Exception:
    """Return the exception that Starlette answers with what `refusal` says; without Starlette, `refusal`."""
    if HTTPException is None:
        return refusal
    return HTTPException(refusal.status, refusal.detail)
