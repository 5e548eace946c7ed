"""The Flask extension `Bridge`. `Bridge.stream` is the response of a route."""

import io
from collections.abc import Iterable
from functools import partial

# `Any` in this module: a snapshot is JSON, and the values of a WSGI environ have many types.
from typing import Any, TypeVar
from weakref import WeakSet

from bridge import __version__
from bridge.channel.channel import Channel
from bridge.errors import ConfigurationError, needs_extra
from bridge.flask.errors import BadTopic, http_error
from bridge.flask.monitor import Deciding, mount
from bridge.flask.requests import asked_by_request
from bridge.monitor.monitor import Monitor, Options
from bridge.streams.access.authorization import Decide, HowToAllow
from bridge.streams.client_files import DEFAULT_PATH, check_path, client_file
from bridge.streams.kept_request import ends_stream, kept_environ, not_allowed_any_more
from bridge.streams.refusal import Refusal
from bridge.streams.service import StreamService
from bridge.streams.settings import read_settings
from bridge.streams.wsgi import WSGIStream
from bridge.tasks import events

with needs_extra("bridge.flask", "flask"):
    from flask import Flask, Response, current_app, has_app_context, request
    from werkzeug.exceptions import HTTPException, NotFound

_F = TypeVar("_F", bound=Decide)

HOW_TO_ALLOW = HowToAllow(
    reading="Decorate a function with @bridge.authorize, or set BRIDGE_PUBLIC = True to let everyone read "
    "every topic",
    cancelling="Decorate a function with @bridge.authorize_cancel",
)


class Bridge:
    """Streams topics to browsers. One object may serve several apps.

    Configuration: `BRIDGE_URL`, as for `bridge.connect` (without it the variable of that name in the
    environment counts, else the URL and the options of the Celery app, if `bridge.celery.install` was called
    before); `BRIDGE_PUBLIC = True` to let everyone read every
    topic; `BRIDGE_HEARTBEAT`, seconds of silence before a comment is sent (15); the limits
    `BRIDGE_MAX_VIEWERS` of a process (as many as it has descriptors for, less a tenth),
    `BRIDGE_MAX_VIEWERS_PER_ADDRESS` (none), `BRIDGE_MAX_VIEWERS_PER_KEY` (none) with `BRIDGE_VIEWER_KEY`, a
    function of the request that returns a `str`, `BRIDGE_MAX_TOPICS` of a stream (100),
    `BRIDGE_MAX_STREAM_SECONDS` of a stream (none) and `BRIDGE_VIEWER_BACKLOG`, bytes that may wait for a
    viewer (1 MiB); `BRIDGE_STATIC_PATH`, where the files of the browser client are served ("/bridge"; `None`
    for nowhere); the keys of tokens, `BRIDGE_TOKEN_KEYS` and `BRIDGE_TOKEN_JWKS_URL`, and what else is
    asked of tokens: `BRIDGE_TOKEN_AUDIENCE`, `_ISSUER`, `_COOKIE`, `_IN_QUERY` and `_MAX_SECONDS`; and the
    options of `connect` in capitals, such as `BRIDGE_NAMESPACE`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._may_read: Decide | None = None
        self._may_cancel: Decide | None = None
        self._served: WeakSet[StreamService] = WeakSet()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Prepare `app`, opening nothing yet. Raises `ConfigurationError`."""
        settings = read_settings(
            app.config, prefix="BRIDGE_", url_setting="app.config['BRIDGE_URL']", also=("STATIC_PATH",)
        )
        path = check_path(app.config.get("BRIDGE_STATIC_PATH", DEFAULT_PATH), "BRIDGE_STATIC_PATH")
        service = app.extensions["bridge"] = StreamService(settings, how_to_allow=HOW_TO_ALLOW)
        self._served.add(service)
        if path is not None:
            app.add_url_rule(f"{path}/<path:name>", "bridge_client", _client_file)

    def authorize(self, may_read: _F) -> _F:
        """Register the function that decides who may read: it gets a topic, and answers True or False.

        It is called within the request, for each topic, before the first byte. It may also `abort`. A token
        decides in its place. It may answer a number of seconds above zero instead of True. Then it is asked
        again for the open stream after that time, in another thread and a context of the same request, after
        the functions of `before_request`. The stream ends with the event `expired` when the answer is false
        or an HTTP error of the client. Any other exception is logged, and the stream stays open.
        """
        self._may_read = may_read
        return may_read

    def authorize_cancel(self, may_cancel: _F) -> _F:
        """Register the function that decides who may cancel: it gets the id of a task, as `authorize` does a
        topic. The right to read never includes the right to cancel.
        """
        self._may_cancel = may_cancel
        return may_cancel

    def token(
        self,
        *topics: str,
        prefix: str | Iterable[str] | None = None,
        tag: str | Iterable[str] | None = None,
        expires: float = 900,
        subject: str | None = None,
        may: str | Iterable[str] = ("read",),
    ) -> str:
        """Return a signed token for `topics`, for all topics that begin with `prefix`, and for the feed of
        `tag`, of each one or several. It counts for `expires` seconds.

        `subject` says whose it is: streams are limited and revoked by it. `may` is "read", "cancel" or both.
        Raises `ValueError` for a bad argument, and `ConfigurationError` without a key that signs.
        """
        return _service().authorizer.make_token(
            topics, prefix=prefix, tag=tag, expires=expires, subject=subject, may=may
        )

    def revoke(
        self, *, subject: str | None = None, token_id: str | None = None, topic: str | None = None
    ) -> None:
        """Refuse tokens until they would have expired, and end their streams, in every process: by `subject`
        and `topic` those that were issued until now, by `token_id` the one with that `jti`. `topic` ends
        streams without a token too. Raises `PublishError` if the backend did not take it.
        """
        _service().revoke(subject=subject, token_id=token_id, topic=topic)

    def check_cancel(self, task_id: str) -> None:
        """Raise an HTTP error unless this request may cancel a task: by its token, or as the function of
        `authorize_cancel` decides: `Unauthorized` (401), `Forbidden` (403), `BadTopic` (404), or
        `ServiceUnavailable` (503).
        """
        authorizer = _service().authorizer
        try:
            authorizer.check_cancel(task_id, authorizer.claims(asked_by_request()), self._may_cancel)
        except Refusal as refusal:
            raise http_error(refusal) from None

    def stream(self, *topics: str, after: str | None = None) -> Response:
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It continues where the viewer's `Last-Event-ID` header, or else the query's `last_event_id`, or else
        `after` says: an id, or `BEGINNING`. Without any, a task opens with a `snapshot`, another topic with
        what is published from now on. A cursor that is not kept any more gives a `reset` and a `snapshot`.

        The stream of a task closes after its `end`. A later request with that id is answered 204, and
        browsers stop. A stream ends with the event `expired` when the token that allowed it does.

        Raises `BadTopic` (404) for a bad topic name, `Unauthorized` (401) for a token that is not valid,
        `Forbidden` (403) unless reading is allowed, `BadTopic` also for no topic, and with a `Retry-After`:
        `TooManyRequests` (429) for more topics than `BRIDGE_MAX_TOPICS` or more streams of one client than
        `BRIDGE_MAX_VIEWERS_PER_ADDRESS` or `BRIDGE_MAX_VIEWERS_PER_KEY`, `ServiceUnavailable` (503) if the
        process has `BRIDGE_MAX_VIEWERS`, or few file descriptors left.
        """
        service, asked = _service(), asked_by_request()
        if not topics:
            raise BadTopic("stream() takes at least one topic, for example ?topic=task:ID of the query")
        try:
            with service.loop.counts.request():
                topics = service.check_topics(topics)
                permission = service.authorizer.permit(topics, asked, self._may_read)
                key = service.viewer_key(request) if service.viewer_key is not None else None
                answer = service.answer(
                    topics, asked, permission, key=key, remember=self._remember, after=after
                )
        except Refusal as refusal:
            raise http_error(refusal) from None
        body = () if answer.opening is None else WSGIStream(service, answer.opening, request.environ)
        return Response(body, answer.status, answer.headers, direct_passthrough=True)

    def monitor(
        self,
        app: Flask,
        path: str = "/monitor",
        *,
        celery: Any = None,
        run_again: bool = False,
        title: str = "Tasks",
    ) -> None:
        """Serve the monitor of all tasks below `path` of `app`, on which `init_app` was called.

        Who may read the topic `bridge.FEED` may see it, and who may cancel a task may do so there. `celery`
        is the Celery app of the tasks; without it, it is found as in `bridge.celery.cancel`. With `run_again`
        a task may be run again by whoever may cancel it, if its arguments are stored: see
        `bridge.celery.install`. `title` is the heading. Raises `ConfigurationError`.
        """
        checked = check_path(path, "the path of the monitor")
        if checked is None or "bridge" not in app.extensions:
            raise ConfigurationError("monitor(app, path) needs a path, and bridge.init_app(app) first")
        service: StreamService = app.extensions["bridge"]
        options = Options(title=title, celery=celery, run_again=run_again)
        deciding = Deciding(lambda: self._may_read, lambda: self._may_cancel, self._remember)
        mount(app, checked, Monitor(service, options), service, deciding)

    def tasks(self, limit: int = 100, *, tag: str | None = None) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, or of those with `tag`, the newest first.

        Raises `ConnectionLost`, `BadTopic` (404) for a bad tag, and `Forbidden` (403) unless reading the feed
        is allowed: `bridge.tag_topic(tag)`, or without `tag` the feed of all tasks.
        """
        feed = events.feed_of(tag)
        return self._readable(feed).tasks(limit, feed)

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, `BadTopic` (404) for a bad id, and `Forbidden` (403) unless reading the
        task's topic is allowed.
        """
        return self._readable(events.task_topic(task_id)).task(task_id)

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        _service().ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        return _service().stats()

    def why_plain(self) -> str | None:
        """Return why a stream of this process had to keep its thread or greenlet, `None` if none had to."""
        return _service().not_taken_over

    @property
    def channel(self) -> Channel:
        """The broadcast channel of the current app."""
        return _service().channel

    def _services(self) -> list[StreamService]:
        """Return what serves the streams, for `bridge.prometheus`: of the current app, else of all apps."""
        found = current_app.extensions.get("bridge") if has_app_context() else None
        return list(self._served) if found is None else [found]

    def _readable(self, topic: str) -> StreamService:
        """Return the service if `topic` may be read in this request. Raises an HTTP error."""
        service = _service()
        try:
            service.authorizer.permit((topic,), asked_by_request(), self._may_read)
        except Refusal as refusal:
            raise http_error(refusal) from None
        return service

    def _remember(self) -> Decide:
        """Keep this request; return what asks about it again."""
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # a proxy has it
        return partial(_ask_again, app, kept_environ(request.environ), self._may_read)


def _ask_again(app: Flask, environ: dict[str, Any], may_read: Decide | None, topic: str) -> object:
    """Return what `may_read` answers now, in a context of a request that was answered before."""
    with app.request_context({**environ, "wsgi.input": io.BytesIO()}):
        try:
            # The function may need what these functions prepare, and one that answers itself refuses.
            if may_read is None or app.preprocess_request() is not None:
                return False
            return may_read(topic)
        except HTTPException as error:
            if ends_stream(error.code or 0):
                raise not_allowed_any_more() from None
            raise


def _client_file(name: str) -> Response:
    """Return a file of the browser client."""
    answer = client_file(name, request.headers.get("If-None-Match"), version=__version__)
    if answer is None:
        raise NotFound
    return Response(answer.body, answer.status, answer.headers)


def _service() -> StreamService:
    """Return the service of the current app. Raises `ConfigurationError`."""
    try:
        service: StreamService = current_app.extensions["bridge"]
    except KeyError:
        raise ConfigurationError("this app has no bridge; call bridge.init_app(app) first") from None
    return service
