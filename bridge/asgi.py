"""ASGI frameworks serve the streams: FastAPI, Starlette, Litestar, Quart and any other ASGI application."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, cast  # Any: a snapshot is JSON, and an application is of any framework

from bridge.aio.executor import executor_of
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.streams.asgi import send_answer
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.service import StreamRequest, StreamService, check_decision
from bridge.streams.settings import read_settings
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send, remember_connection
from bridge.tasks import events

try:
    from starlette.requests import Request
    from starlette.responses import Response
except ImportError:  # another framework
    Request = Response = None  # type: ignore[assignment, misc]  # both are checked before they are used

ASGIApplication = Callable[[Scope, Receive, Send], Awaitable[None]]
Authorize = Callable[[Any, str], object]
"""Decides whether a topic may be read: takes the request (without Starlette, the scope) and the topic."""

_A = TypeVar("_A", bound=Authorize)
_T = TypeVar("_T")

HOW_TO_ALLOW = (
    "Give Bridge(url, authorize=function), or Bridge(url, public=True) to let everyone read every topic"
)

END_WITHIN = 1.0
"""Seconds that ending every stream may take when the application shuts down."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The stream", "content": {"text/event-stream": {"schema": {"type": "string"}}}},
    204: {"description": "The viewer has seen the end of every task: do not reconnect"},
    403: {"description": "This topic may not be read"},
    404: {"description": "The name of a topic is not valid"},
    429: {"description": "Too many topics, or too many streams of this client; see Retry-After"},
    503: {"description": "This process has as many viewers as it may; see Retry-After"},
}
"""The responses of a stream, for OpenAPI: `@app.get(path, responses=bridge.asgi.RESPONSES)`."""

_scope: ContextVar[Scope | None] = ContextVar("bridge.asgi.scope", default=None)
"""The scope of the request that is handled here."""


class Bridge:
    """Streams topics to browsers from an ASGI application. Opens nothing until it is used.

    `url` is that of `bridge.connect`. `authorize` decides who may read: a plain or a coroutine function that
    takes the request (Starlette's; without Starlette the ASGI scope) and a topic, and returns true or false.
    A plain one is called in a thread. It may raise an HTTP exception of the framework. With `public` everyone
    may read every topic where no function decides.

    Options are those of `bridge.flask.Bridge`, in lower case and without the prefix: `heartbeat` (seconds),
    `max_viewers`, `max_viewers_per_address`, `max_topics`, `viewer_backlog` (bytes), and those of
    `bridge.connect`, such as `namespace`. Raises `ConfigurationError`.
    """

    def __init__(
        self, url: str, *, authorize: Authorize | None = None, public: bool = False, **options: Any
    ) -> None:
        given = {"url": url, "public": public, **options}
        settings = read_settings(
            {name.upper(): value for name, value in given.items()}, prefix="", url_setting="Bridge(url)"
        )
        self._service = StreamService(settings, how_to_allow=HOW_TO_ALLOW)
        self._executor = executor_of(transport_of(self._service.channel))
        self._authorize = authorize

    def authorize(self, authorize: _A) -> _A:
        """Register the function that decides who may read, as the argument of that name does."""
        self._authorize = authorize
        return authorize

    def stream(self, *topics: str, after: str | None = None) -> "StreamResponse":
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It is an ASGI application, and with Starlette installed a Starlette response. Where the stream begins
        and how requests are refused is as in `bridge.flask.Bridge.stream`: 204 after the end of all tasks,
        403, 404, 429 and 503. Raises `ValueError` for no topic.
        """
        if not topics:
            raise ValueError("stream() takes at least one topic")
        return StreamResponse(self, topics, after)

    async def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, and `Refusal` if the request that is handled may not read the task.
        """
        await self._check_readable(_scope.get(), (events.task_topic(task_id),))
        return await self._in_thread(self._service.task, task_id)

    async def tasks(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first.

        Raises `ConnectionLost`, and `Refusal` if the request that is handled may not read the feed.
        """
        await self._check_readable(_scope.get(), (events.FEED,))
        return await self._in_thread(self._service.tasks, limit)

    async def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        await self._in_thread(self._service.ping)

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        return self._service.stats()

    def why_plain(self) -> str | None:
        """Return why a stream of this process had to keep its coroutine, `None` if none had to."""
        return self._service.not_taken_over

    @property
    def channel(self) -> Channel:
        """The broadcast channel."""
        return self._service.channel

    # Applications.

    def wrap(self, app: ASGIApplication) -> ASGIApplication:
        """Return `app`, wrapped: serve what this returns. Nothing else may wrap it.

        The wrapper lets connections be taken over, and ends all streams when the application shuts down.
        """

        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, _ending(receive, self.end), send)
                return
            if scope["type"] == "http":
                remember_connection(scope, receive, send)
            token = _scope.set(scope)
            try:
                await app(scope, receive, send)
            finally:
                _scope.reset(token)

        return wrapped

    def install(self, app: Any) -> None:
        """Wrap a Starlette or FastAPI application from within, outside of all its middleware.

        Raises `ConfigurationError` if it is no such application, or has answered its first request.
        """
        build = getattr(app, "build_middleware_stack", None)
        if build is None:
            raise ConfigurationError(
                f"install() takes a Starlette or FastAPI application, not {type(app).__name__}; "
                "of another one serve what wrap(app) returns"
            )
        if getattr(app, "middleware_stack", None) is not None:
            raise ConfigurationError("install() comes too late: the application has answered a request")
        app.build_middleware_stack = lambda: self.wrap(build())

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """End all streams when the application shuts down. Not needed after `install` or `wrap`."""
        try:
            yield
        finally:
            await self.end()

    async def end(self) -> None:
        """End all streams, within a second. The browsers come back at different times."""
        self._service.loop.end()
        deadline = asyncio.get_running_loop().time() + END_WITHIN
        while self.stats()["viewers"] and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)

    # Requests.

    async def respond(
        self, topics: tuple[str, ...], after: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Answer a request for a stream of `topics`. `StreamResponse` calls it."""
        if scope["type"] != "http":
            raise ConfigurationError(
                f"stream() answers HTTP requests, and this is a {scope['type']} connection; "
                "use bridge.aio for a WebSocket"
            )
        headers = dict(scope["headers"])
        last_event_id = headers.get(b"last-event-id")
        client = scope.get("client")
        asked = StreamRequest(
            scope["method"],
            None if last_event_id is None else last_event_id.decode("utf-8", "replace"),
            scope.get("query_string", b"").decode("latin-1"),
            Client(client[0] if client else ""),
        )
        try:
            topics = self._service.check_topics(topics)
            await self._check_readable(scope, topics)
            answer = self._service.answer(topics, asked, after=after)
        except Refusal as refusal:
            await _send_refusal(refusal, send)
            return
        await send_answer(self._service, answer, scope, receive, send)

    async def _check_readable(self, scope: Scope | None, topics: tuple[str, ...]) -> None:
        """Raise `Refusal` unless all topics have valid names and may be read."""
        for topic in topics:
            self._service.check_name(topic)
            if self._authorize is None:
                check_decision(self._service.allows(topic))
            elif scope is None:
                raise ConfigurationError(
                    "nobody knows which request this is for: call install(app), or serve wrap(app)"
                )
            else:
                check_decision(await self._decide(self._authorize, scope, topic))

    async def _decide(self, authorize: Authorize, scope: Scope, topic: str) -> object:
        request = scope if Request is None else Request(scope)
        if asyncio.iscoroutinefunction(authorize):
            return await cast(Awaitable[object], authorize(request, topic))  # it is a coroutine function
        decision = await asyncio.to_thread(authorize, request, topic)
        # An object whose `__call__` is a coroutine function, or a partial of one.
        return await decision if isinstance(decision, Awaitable) else decision

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.wrap_future(self._executor.submit(work, *arguments))


class StreamResponse(Response if Response is not None else object):  # type: ignore[misc]  # Starlette's, if any
    """The response of `Bridge.stream`: an ASGI application that answers one request."""

    media_type = "text/event-stream"

    def __init__(self, bridge: Bridge, topics: tuple[str, ...], after: str | None) -> None:
        # Not Starlette's: there is no body, and the headers are known when the request is.
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self._bridge, self._topics, self._after = bridge, topics, after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request of `scope`."""
        await self._bridge.respond(self._topics, self._after, scope, receive, send)


async def _send_refusal(refusal: Refusal, send: Send) -> None:
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if refusal.retry_after is not None:
        headers.append((b"retry-after", b"%d" % refusal.retry_after))
    if refusal.close_connection:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _ending(receive: Receive, end: Callable[[], Awaitable[None]]) -> Receive:
    """Return a `receive` of the lifespan that calls `end` before the application learns of the shutdown."""

    async def receive_and_end() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            await end()
        return message

    return receive_and_end
