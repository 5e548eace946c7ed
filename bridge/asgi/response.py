"""The response of a route: an ASGI application, and with Starlette installed a Starlette response.

`Any` stands for what OpenAPI says of a response.
"""

import asyncio
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import suppress

# `Any` in this module: see the docstring.
from typing import Any

from bridge.streams.asgi import Headers, refusal_content, send_answer, send_refusal
from bridge.streams.asgi_body import ASGIBody
from bridge.streams.opening import Opening
from bridge.streams.refusal import Refusal
from bridge.streams.service import Answer, StreamService
from bridge.streams.takeover.asgi import Receive, Scope, Send

try:
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
except ImportError:  # another framework
    Response = HTTPException = None  # type: ignore[assignment, misc]  # both are checked before they are used

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "The viewer has seen the end of every task: do not reconnect"},
    401: {"description": "A token is needed, or the one that was sent is not valid"},
    403: {"description": "This topic may not be read"},
    404: {"description": "The name of a topic is not valid"},
    429: {"description": "Too many topics, or too many streams of this client; see Retry-After"},
    503: {"description": "This process has as many viewers as it may; see Retry-After"},
}
"""The responses of a stream, for OpenAPI: `@app.get(path, responses=bridge.asgi.RESPONSES)`."""

AnswerRequest = Callable[[Scope], Awaitable[Answer]]
"""Decides what the answer to a request is. Raises `Refusal`."""


class StreamResponse(Response if Response is not None else object):  # type: ignore[misc]  # Starlette's, if any
    """The response of `Bridge.stream`: an ASGI application that answers one request.

    As in every Starlette response, headers and cookies may be set, and `background` runs at the end. If the
    connection is taken over, the end of the response is not that of the stream.
    """

    media_type = "text/event-stream"

    def __init__(
        self, service: StreamService, answer_request: AnswerRequest, *, status_code: int = 200
    ) -> None:
        # Not Starlette's: there is no body, and most headers are known when the request is. The status is an
        # argument only because FastAPI's documentation of `response_class=StreamResponse` reads its default.
        self.status_code = status_code
        self.background: Callable[[], Awaitable[None]] | None = None
        self.body = b""
        self.raw_headers: Headers = []
        self._service = service
        self._answer_request = answer_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of `scope`."""
        try:
            with self._service.loop.counts.request():
                answer = await self._answer_request(scope)
        except Refusal as refusal:
            await send_refusal(refusal, self.raw_headers, send)
        else:
            await send_answer(self._service, answer, self.raw_headers, scope, receive, send)
        if self.background is not None:
            await self.background()

    async def as_tuple(
        self, scope: Scope
    ) -> tuple[AsyncIterable[bytes] | Iterable[bytes], int, dict[str, str]]:
        """Return the body, the status and the headers of the answer to the request of `scope`.

        For a framework that takes no ASGI application as a response and sends responses itself, as Quart
        does. The body may be iterated over once, in the event loop of the server. Headers and `background`
        of this object do not count.
        """
        try:
            with self._service.loop.counts.request():
                answer = await self._answer_request(scope)
        except Refusal as refusal:
            body, headers = refusal_content(refusal)
            return (body,), refusal.status, headers
        if answer.opening is None:
            return (), answer.status, dict(answer.headers)
        stream = ASGIBody(self._service, answer.opening, scope)
        # The framework may be cancelled before it starts the body: then nothing else ends the stream.
        event_loop = asyncio.get_running_loop()
        weakref.finalize(stream, _close_soon, event_loop, answer.opening).atexit = False
        return stream, answer.status, {**answer.headers, **stream.headers}


def _close_soon(event_loop: asyncio.AbstractEventLoop, opening: Opening) -> None:
    """Close `opening` in the event loop: the garbage collector calls this, maybe while a lock is held."""
    with suppress(RuntimeError):  # the event loop is closed, and with it every stream
        event_loop.call_soon_threadsafe(opening.close)


def http_error(refusal: Refusal) -> Exception:
    """Return the exception that Starlette answers with what `refusal` says; without Starlette, `refusal`."""
    if HTTPException is None:
        return refusal
    return HTTPException(refusal.status, refusal.detail, headers=dict(refusal.headers) or None)


def http_status(error: Exception) -> int | None:
    """Return the HTTP status of an exception of a framework: of Starlette, Litestar, Quart and others."""
    status = getattr(error, "status_code", None)
    if status is None and callable(getattr(error, "get_response", None)):
        status = getattr(error, "code", None)
    return status if isinstance(status, int) else None
