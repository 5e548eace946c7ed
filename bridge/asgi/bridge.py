"""`Bridge`: the streams of one ASGI application, and who may read them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar  # Any: a snapshot is JSON, and a request is of any framework

from bridge.aio.executor import executor_of
from bridge.asgi import application, client
from bridge.asgi.monitor import mounted
from bridge.asgi.requests import Authorize, Requests
from bridge.asgi.response import StreamResponse
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.monitor.monitor import Monitor, Options
from bridge.streams.access.authorization import (
    HowToAllow,
)
from bridge.streams.client_files import DEFAULT_PATH, check_path
from bridge.streams.lifespan import end_streams
from bridge.streams.service import StreamService
from bridge.streams.settings import read_settings
from bridge.streams.takeover.asgi import ASGIApplication
from bridge.tasks import events

_A = TypeVar("_A", bound=Authorize)
_T = TypeVar("_T")

HOW_TO_ALLOW = HowToAllow(
    reading="Give Bridge(url, authorize=function), or Bridge(url, public=True) to let everyone read every "
    "topic",
    cancelling="Give Bridge(url, authorize_cancel=function)",
)


class Bridge:
    """Streams topics to browsers from an ASGI application. Opens nothing until it is used.

    `url` is that of `bridge.connect`; without it the environment's `BRIDGE_URL` counts, else the URL and the
    options of the Celery app, if `bridge.celery.install` was called before.

    `authorize` decides who may read: a plain or a coroutine function that
    takes the request (Starlette's; without Starlette the ASGI scope) and a topic, and returns true or false.
    A plain one is called in a thread. It may raise an HTTP exception of the framework. With `public` everyone
    may read every topic where no function decides. `authorize_cancel` decides in the same way who may cancel
    a task; it takes the request and the id of the task.

    `authorize` may return a number of seconds above zero instead of true. Then it is asked again for the open
    stream after that time, with the same request. The stream ends with the event `expired` when the answer is
    false or an HTTP error of the client. Any other exception is logged, and the stream stays open.

    Options are those of `bridge.flask.Bridge`, in lower case and without the prefix: `heartbeat` (seconds),
    `max_viewers`, `max_viewers_per_address`, `max_viewers_per_key`, `viewer_key`, `max_topics`,
    `max_stream_seconds`, `viewer_backlog` (bytes), `static_path` (where `wrap` and `install` serve
    the files of the browser client), `token_keys` and the other `token_...`, and those of `bridge.connect`,
    such as `namespace`. Raises `ConfigurationError`.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        authorize: Authorize | None = None,
        authorize_cancel: Authorize | None = None,
        public: bool = False,
        **options: Any,
    ) -> None:
        given = {"url": url, "public": public, **options}
        settings = read_settings(
            {name.upper(): value for name, value in given.items()},
            prefix="",
            url_setting="Bridge(url)",
            also=("STATIC_PATH",),
        )
        self._static_path = check_path(given.get("static_path", DEFAULT_PATH), "static_path")
        self._service = StreamService(settings, how_to_allow=HOW_TO_ALLOW)
        self._executor = executor_of(transport_of(self._service.channel))
        self._requests = Requests(self._service)
        self._requests.authorize, self._requests.authorize_cancel = authorize, authorize_cancel

    def authorize(self, authorize: _A) -> _A:
        """Register the function that decides who may read, as the argument of that name does."""
        self._requests.authorize = authorize
        return authorize

    def authorize_cancel(self, authorize_cancel: _A) -> _A:
        """Register the function that decides who may cancel, as the argument of that name does."""
        self._requests.authorize_cancel = authorize_cancel
        return authorize_cancel

    def token(
        self,
        *topics: str,
        prefix: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        expires: float = 900,
        subject: str | None = None,
        may: str | Iterable[str] = ("read",),
    ) -> str:
        """Return a signed token, as `bridge.flask.Bridge.token` does."""
        return self._service.authorizer.make_token(
            topics, prefix=prefix, tag=tag, expires=expires, subject=subject, may=may
        )

    async def revoke(
        self, *, subject: str | None = None, token_id: str | None = None, topic: str | None = None
    ) -> None:
        """Refuse tokens and end their open streams in every process, as `bridge.flask.Bridge.revoke` does."""
        revoke = partial(self._service.revoke, subject=subject, token_id=token_id, topic=topic)
        await self._in_thread(revoke)

    async def check_cancel(self, task_id: str) -> None:
        """Raise an HTTP error unless the request that is handled may cancel a task: by its token, or as the
        function of `authorize_cancel` decides.

        Raises what `task` raises: 401 or 403, and 404 for a bad id.
        """
        await self._requests.check_current_cancel(task_id)

    def stream(self, *topics: str, after: str | None = None) -> StreamResponse:
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It is an ASGI application, and with Starlette installed a Starlette response. Where the stream begins
        and how requests are refused is as in `bridge.flask.Bridge.stream`: 204 after the end of all tasks,
        401, 403, 404, 429 and 503. Its `as_tuple` is for Quart. Raises `ValueError` for no topic.
        """
        if not topics:
            raise ValueError("stream() takes at least one topic")
        return StreamResponse(self._service, partial(self._requests.answer, topics, after))

    async def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, `ConfigurationError` if `authorize` is to decide outside of a request, and
        Starlette's `HTTPException` (without Starlette, `Refusal`) if the request that is handled may not read
        the task (403), or the id is not valid (404).
        """
        await self._requests.check_current(events.task_topic(task_id))
        return await self._in_thread(self._service.task, task_id)

    async def tasks(self, limit: int = 100, *, tag: str | None = None) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, or of those with `tag`, the newest first.

        Raises what `task` raises; 403 if the request that is handled may not read the feed, which is
        `bridge.tag_topic(tag)`, or without `tag` that of all tasks.
        """
        feed = events.feed_of(tag)
        await self._requests.check_current(feed)
        return await self._in_thread(self._service.tasks, limit, feed)

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

    def _services(self) -> list[StreamService]:
        """Return what serves the streams, for `bridge.prometheus`."""
        return [self._service]

    # Applications.

    def wrap(self, app: ASGIApplication) -> ASGIApplication:
        """Return `app`, wrapped: serve what this returns. Nothing else may wrap it.

        The wrapper lets connections be taken over, serves the files of the browser client, and ends all
        streams when the application shuts down.
        """
        path = self._static_path
        return application.wrapped(app, self.end, None if path is None else client.files_below(path))

    def install(self, app: Any) -> None:
        """Wrap a Starlette or FastAPI application from within, outside of all its middleware.

        Raises `ConfigurationError` if it is no such application, or was started already.
        """
        application.install(app, self.wrap)

    def monitor(
        self,
        app: Any,
        path: str = "/monitor",
        *,
        celery: Any = None,
        run_again: bool = False,
        title: str = "Tasks",
    ) -> Any:
        """Serve the monitor of all tasks below `path` of `app`.

        A Starlette or FastAPI application gets the routes, and is returned. Of another one serve
        `streams.wrap(streams.monitor(app, "/monitor"))`. The options are those of
        `bridge.flask.Bridge.monitor`. Raises `ConfigurationError`.
        """
        checked = check_path(path, "the path of the monitor")
        if checked is None:
            raise ConfigurationError("monitor(app, path) needs a path, such as /monitor")
        monitor = Monitor(self._service, Options(title=title, celery=celery, run_again=run_again))
        return mounted(app, checked, monitor, self._service, self._requests)

    @property
    def static(self) -> ASGIApplication:
        """The files of the browser client as an application to mount, where nothing is wrapped."""
        return client.application

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """End all streams when the application shuts down. Not needed after `install` or `wrap`."""
        try:
            yield
        finally:
            await self.end()

    async def end(self) -> None:
        """End all streams, within a second. The browsers come back at different times."""
        await end_streams(self._service.loop)

    async def _in_thread(self, work: Callable[..., _T], *arguments: object) -> _T:
        return await asyncio.wrap_future(self._executor.submit(work, *arguments))
