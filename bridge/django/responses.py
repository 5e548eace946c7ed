"""The responses of `stream`.

Under WSGI the body is a plain iterable, under ASGI an asynchronous one: Django reads an iterable of the other
kind to its end before it sends anything. The request says which it is, because an async view may run under
WSGI and a plain view under ASGI.
"""

from collections.abc import AsyncIterator, Callable, ItemsView, Iterator

# `Any` in this module: Django has no types.
from typing import Any

from asgiref.sync import SyncToAsync
from django.db import connections
from django.http import JsonResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase

from bridge.errors import ConfigurationError
from bridge.streams.asgi_body import ASGIBody
from bridge.streams.refusal import Refusal
from bridge.streams.service import Answer, StreamService
from bridge.streams.takeover.wsgi import close_after_response
from bridge.streams.wsgi import WSGIStream


class StreamResponse(StreamingHttpResponse):  # type: ignore[misc]  # Django has no types
    """A stream, or the answer without a body to a request for one."""

    def __init__(self, service: StreamService, answer: Answer, request: Any) -> None:
        body = _body(service, answer, request)
        headers = {**answer.headers, **(body.headers if isinstance(body, ASGIBody) else {})}
        super().__init__(body, status=answer.status, headers=headers)
        if "Content-Type" not in answer.headers:
            del self.headers["Content-Type"]
        # GZipMiddleware leaves a response alone that has an encoding. It would hold back small events.
        self.headers["Content-Encoding"] = "identity"

    def items(self) -> ItemsView[str, str]:
        """Return the headers to send. HTTP has no encoding of that name for responses."""
        headers = {name: value for name, value in self.headers.items() if value != "identity"}
        return headers.items()


class DeferredResponse(StreamingHttpResponse):  # type: ignore[misc]  # Django has no types
    """What `stream` returns to an async view, until Django renders it as it renders templates.

    `render` runs in a thread that may use the database, or in the thread of the server under WSGI. It returns
    the response to send.
    """

    template_name = context_data = None

    def __init__(self, respond: Callable[[], HttpResponseBase]) -> None:
        super().__init__(_not_rendered())
        self._respond = respond
        self._callbacks: list[Callable[[Any], Any]] = []

    def add_post_render_callback(self, callback: Callable[[Any], Any]) -> None:
        """Call `callback` with the rendered response. Decorators of views do this."""
        self._callbacks.append(callback)

    def render(self) -> HttpResponseBase:
        """Return the response, with the headers and cookies that decorators added to this one."""
        response = self._respond()
        for name, value in self.items():
            if name != "Content-Type":
                response.headers.setdefault(name, value)
        response.cookies.update(self.cookies)
        for callback in self._callbacks:
            response = callback(response) or response
        return response


def _not_rendered() -> Iterator[bytes]:
    """Return a body that raises an error when it is read."""
    for rendered in (False,):
        if not rendered:
            raise ConfigurationError("a stream of an async view is rendered only if the view returns it")
        yield b""


def refused(refusal: Refusal, request: Any) -> HttpResponseBase:
    """Return the response that says what `refusal` says."""
    headers = dict(refusal.headers)
    response = JsonResponse({"detail": refusal.detail}, status=refusal.status, headers=headers)
    if refusal.retry_after is not None:
        # The service logs each limit once; Django would log each 503 as an error, and mail it to the admins.
        response._has_been_logged = True
    if refusal.close_connection:
        if _scope(request) is None:
            close_after_response(request.environ)
        else:
            response.headers["Connection"] = "close"
    return response


def _scope(request: Any) -> Any:
    """Return the ASGI scope of a request, `None` under WSGI."""
    return getattr(request, "scope", None)


def _body(service: StreamService, answer: Answer, request: Any) -> Any:
    scope = _scope(request)
    if answer.opening is None:
        return () if scope is None else _nothing()
    if scope is None:
        return WSGIStream(service, answer.opening, request.environ, on_fallback=close_connections)
    return ASGIBody(service, answer.opening, scope, on_fallback=_end_thread)


async def _nothing() -> AsyncIterator[bytes]:
    for chunk in list[bytes]():
        yield chunk


def close_connections() -> None:
    """Close the database connections of this thread, which has a stream for a long time.

    A test may be in a transaction, which goes on.
    """
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


def _end_thread() -> None:
    """End the thread in which this request runs plain code, after closing its database connections.

    Django keeps one per request until its response ends. asgiref has no public name for it, and starts
    another if the request needs one.
    """
    contexts: Any = getattr(SyncToAsync, "thread_sensitive_context", None)
    context = contexts.get(None) if contexts is not None else None
    if context is None:  # a test client
        return
    executor = getattr(SyncToAsync, "context_to_thread_executor", {}).pop(context, None)
    if executor is not None:
        executor.submit(close_connections)
        executor.shutdown(wait=False)
