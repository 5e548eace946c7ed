"""The Flask extension `Bridge`. `Bridge.stream` is the response of a route."""

# `Any` in this module: a snapshot is JSON, and a view's arguments are its own.
from typing import Any, TypeVar

from bridge.channel.channel import Channel
from bridge.errors import ConfigurationError, needs_extra
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.service import MayRead, StreamRequest, StreamService
from bridge.streams.settings import read_settings
from bridge.streams.takeover.wsgi import close_after_response
from bridge.streams.wsgi import WSGIStream
from bridge.tasks import events

with needs_extra("bridge.flask", "flask"):
    from flask import Flask, Response, current_app, request
    from werkzeug.exceptions import Forbidden, HTTPException, NotFound, ServiceUnavailable, TooManyRequests

_F = TypeVar("_F", bound=MayRead)

HOW_TO_ALLOW = (
    "Decorate a function with @bridge.authorize, or set BRIDGE_PUBLIC = True to let everyone read every topic"
)


class BadTopic(NotFound, ValueError):
    """The name of a topic is not valid: in most apps a part of the URL, so that the answer is 404."""


class Bridge:
    """Streams topics to browsers. One object may serve several apps.

    Configuration: `BRIDGE_URL`, as for `bridge.connect`; `BRIDGE_PUBLIC = True` to let everyone read every
    topic; `BRIDGE_HEARTBEAT`, seconds of silence before a comment is sent (15); the limits
    `BRIDGE_MAX_VIEWERS` of a process (as many as it has descriptors for, less a tenth),
    `BRIDGE_MAX_VIEWERS_PER_ADDRESS` (none), `BRIDGE_MAX_TOPICS` of a stream (100) and
    `BRIDGE_VIEWER_BACKLOG`, bytes that may wait for a viewer (1 MiB); and the options of `connect` in
    capitals, such as `BRIDGE_NAMESPACE`.
    """

    def __init__(self, app: Flask | None = None) -> None:
        self._may_read: MayRead | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Prepare `app`, opening nothing yet. Raises `ConfigurationError`."""
        settings = read_settings(app.config, prefix="BRIDGE_", url_setting="app.config['BRIDGE_URL']")
        app.extensions["bridge"] = StreamService(settings, how_to_allow=HOW_TO_ALLOW)

    def authorize(self, may_read: _F) -> _F:
        """Register the function that decides who may read: it gets a topic, and answers True or False.

        It is called within the request, for each topic, before the first byte. It may also `abort`.
        """
        self._may_read = may_read
        return may_read

    def stream(self, *topics: str, after: str | None = None) -> Response:
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It continues where the viewer's `Last-Event-ID` header, or else the query's `last_event_id`, or else
        `after` says: an id, or `BEGINNING`. Without any, a task opens with a `snapshot`, another topic with
        what is published from now on. A cursor that is not kept any more gives a `reset` and a `snapshot`.

        The stream of a task closes after its `end`. A later request with that id is answered 204, and
        browsers stop. Raises `BadTopic` (404) for a bad topic name, `Forbidden` (403) unless reading is
        allowed, `ValueError` for no topic, and with a `Retry-After`: `TooManyRequests` (429) for more topics
        than `BRIDGE_MAX_TOPICS` or more streams of one client address than `BRIDGE_MAX_VIEWERS_PER_ADDRESS`,
        `ServiceUnavailable` (503) if the process has `BRIDGE_MAX_VIEWERS`, or few file descriptors left.
        """
        service = _service()
        environ = request.environ
        last_event_id, query = environ.get("HTTP_LAST_EVENT_ID"), environ.get("QUERY_STRING", "")
        asked = StreamRequest(request.method, last_event_id, query, Client(request.remote_addr or ""))
        try:
            topics = service.check_topics(topics)
            service.check_readable(topics, self._may_read)
            answer = service.answer(topics, asked, after=after)
        except Refusal as refusal:
            raise _http_error(refusal) from None
        body = () if answer.opening is None else WSGIStream(service, answer.opening, environ)
        return Response(body, answer.status, answer.headers, direct_passthrough=True)

    def tasks(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first.

        Raises `ConnectionLost`, and `Forbidden` (403) unless reading the feed is allowed.
        """
        return self._readable(events.FEED).tasks(limit)

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

    def _readable(self, topic: str) -> StreamService:
        """Return the service if `topic` may be read in this request. Raises an HTTP error."""
        service = _service()
        try:
            service.check_readable((topic,), self._may_read)
        except Refusal as refusal:
            raise _http_error(refusal) from None
        return service


def _service() -> StreamService:
    """Return the service of the current app. Raises `ConfigurationError`."""
    try:
        service: StreamService = current_app.extensions["bridge"]
    except KeyError:
        raise ConfigurationError("this app has no bridge; call bridge.init_app(app) first") from None
    return service


def _http_error(refusal: Refusal) -> HTTPException:
    """Return the exception that Flask answers with what `refusal` says."""
    if refusal.close_connection:
        close_after_response(request.environ)
    match refusal.status:
        case 404:
            return BadTopic(refusal.detail)
        case 403:
            return Forbidden(refusal.detail)
        case 429:
            return TooManyRequests(refusal.detail, retry_after=refusal.retry_after)
        case _:
            return ServiceUnavailable(refusal.detail, retry_after=refusal.retry_after)
