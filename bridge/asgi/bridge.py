"""`Bridge`: the streams of one ASGI application, and who may read them."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, cast  # Any: a snapshot is JSON, and a request is of any framework

from bridge.aio.executor import executor_of
from bridge.asgi import application
from bridge.asgi.application import ASGIApplication, current_scope
from bridge.asgi.response import StreamResponse, http_error
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.streams.asgi import read_request
from bridge.streams.refusal import Refusal
from bridge.streams.service import Answer, StreamService, check_decision
from bridge.streams.settings import read_settings
from bridge.streams.takeover.asgi import Scope
from bridge.tasks import events

try:
    from starlette.requests import HTTPConnection, Request
except ImportError:  # another framework
    HTTPConnection = Request = None  # type: ignore[assignment, misc]  # checked before they are used

Authorize = Callable[[Any, str], object]
"""Decides whether a topic may be read: takes the request (without Starlette, the scope) and the topic."""

_A = TypeVar("_A", bound=Authorize)
_T = TypeVar("_T")

HOW_TO_ALLOW = (
    "Give Bridge(url, authorize=function), or Bridge(url, public=True) to let everyone read every topic"
)

END_WITHIN = 1.0
"""Seconds that ending every stream may take when the application shuts down."""


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

    def stream(self, *topics: str, after: str | None = None) -> StreamResponse:
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It is an ASGI application, and with Starlette installed a Starlette response. Where the stream begins
        and how requests are refused is as in `bridge.flask.Bridge.stream`: 204 after the end of all tasks,
        403, 404, 429 and 503. Its `as_tuple` is for Quart. Raises `ValueError` for no topic.
        """
        if not topics:
            raise ValueError("stream() takes at least one topic")
        return StreamResponse(self._service, partial(self._answer, topics, after))

    async def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, `ConfigurationError` if `authorize` is to decide outside of a request, and
        Starlette's `HTTPException` (without Starlette, `Refusal`) if the request that is handled may not read
        the task (403), or the id is not valid (404).
        """
        await self._check_current(events.task_topic(task_id))
        return await self._in_thread(self._service.task, task_id)

    async def tasks(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first.

        Raises what `task` raises; 403 if the request that is handled may not read the feed.
        """
        await self._check_current(events.FEED)
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
        return application.wrapped(app, self.end)

    def install(self, app: Any) -> None:
        """Wrap a Starlette or FastAPI application from within, outside of all its middleware.

        Raises `ConfigurationError` if it is no such application, or was started already.
        """
        application.install(app, self.wrap)

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

    async def _answer(self, topics: tuple[str, ...], after: str | None, scope: Scope) -> Answer:
        """Return the answer to a request for a stream of `topics`. Raises `Refusal`."""
        asked = read_request(scope)
        topics = self._service.check_topics(topics)
        await self._check_readable(scope, topics)
        return self._service.answer(topics, asked, after=after)

    async def _check_current(self, topic: str) -> None:
        """Raise an HTTP error unless the request that is handled may read `topic`."""
        try:
            await self._check_readable(current_scope.get(), (topic,))
        except Refusal as refusal:
            raise http_error(refusal) from None

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
                check_decision(await _decide(self._authorize, scope, topic))

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.wrap_future(self._executor.submit(work, *arguments))


async def _decide(authorize: Authorize, scope: Scope, topic: str) -> object:
    """Return what `authorize` decides, a plain function in a thread."""
    request = _request_of(scope)
    if inspect.iscoroutinefunction(authorize):
        return await cast(Awaitable[object], authorize(request, topic))  # it is a coroutine function
    decision = await asyncio.to_thread(_call, authorize, request, topic)
    # An object whose `__call__` is a coroutine function, or a function that returns a coroutine.
    return await decision if isinstance(decision, Awaitable) else decision


def _request_of(scope: Scope) -> Any:
    """Return what `authorize` gets: Starlette's request, without Starlette the scope."""
    if Request is None:
        return scope
    return Request(scope) if scope["type"] == "http" else HTTPConnection(scope)


def _call(authorize: Authorize, request: Any, topic: str) -> object:
    try:
        return authorize(request, topic)
    except StopIteration as error:  # no future takes it: who waits for the thread would wait for ever
        raise RuntimeError("authorize raised StopIteration") from error
