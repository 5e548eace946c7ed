"""Flask serves the streams: `Bridge` is an extension, `Bridge.stream` the response of a route."""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from bridge.channel.channel import Channel
from bridge.channel.factory import connect
from bridge.channel.transport import Transport, transport_of
from bridge.errors import ConfigurationError, needs_extra
from bridge.streams.cursor import parse_cursor
from bridge.streams.limits import LimitReached, ViewerLimits, descriptors_for_viewers
from bridge.streams.service import COME_BACK_AFTER, Viewers
from bridge.support.validate import check_positive
from bridge.tasks import events
from bridge.tasks.snapshot import snapshot

with needs_extra("bridge.flask", "flask"):
    from flask import Flask, Response, current_app, request
    from werkzeug.exceptions import Forbidden, NotFound, ServiceUnavailable, TooManyRequests

logger = logging.getLogger("bridge.flask")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

# From the app's configuration to the options of `connect`.
_OPTIONS = (
    "NAMESPACE",
    "MAX_PAYLOAD",
    "QUEUE_SIZE",
    "TIMEOUT",
    "RETENTION_SECONDS",
    "RETENTION_MESSAGES",
    "POLL_INTERVAL",
)

# The app's own numbers, all above zero: what each counts, and what it is unless set.
_NUMBERS: dict[str, tuple[str, float | None]] = {
    "HEARTBEAT": ("seconds", 15.0),
    "VIEWER_BACKLOG": ("bytes", 1024 * 1024),
    "MAX_VIEWERS": ("viewers", None),
    "MAX_VIEWERS_PER_ADDRESS": ("viewers", None),
    "MAX_TOPICS": ("topics", 100),
}
_OWN_KEYS = ("URL", "PUBLIC", *_NUMBERS)

Authorize = Callable[[str], Any]
_F = TypeVar("_F", bound=Authorize)


class BadTopic(NotFound, ValueError):
    """A topic's name is none: in most apps a part of the URL, so that nothing is found there (404)."""


@dataclass(slots=True)
class _State:
    """What an initialised app holds."""

    channel: Channel
    viewers: Viewers
    public: bool
    max_topics: int


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
        self._may_read: Authorize | None = None
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Prepare `app`, opening nothing yet. Raises `ConfigurationError`."""
        given = {
            key.removeprefix("BRIDGE_"): app.config[key] for key in app.config if key.startswith("BRIDGE_")
        }
        unknown = sorted(set(given) - {*_OPTIONS, *_OWN_KEYS})
        if unknown:
            known = ", ".join(f"BRIDGE_{key}" for key in (*_OWN_KEYS, *_OPTIONS))
            raise ConfigurationError(f"unknown configuration BRIDGE_{unknown[0]}; known are {known}")
        if not given.get("URL"):
            raise ConfigurationError("set app.config['BRIDGE_URL'], for example to redis://localhost:6379/0")
        numbers = {key: _number(key, given.get(key)) for key in _NUMBERS}
        limits = ViewerLimits(
            numbers["MAX_VIEWERS"] or descriptors_for_viewers(), numbers["MAX_VIEWERS_PER_ADDRESS"]
        )
        options = {key.lower(): given[key] for key in _OPTIONS if key in given}
        channel = connect(given["URL"], **options)
        app.extensions["bridge"] = _State(
            channel,
            Viewers(
                transport_of(channel),
                given["URL"],
                heartbeat=numbers["HEARTBEAT"],
                backlog=numbers["VIEWER_BACKLOG"],
                limits=limits,
            ),
            given.get("PUBLIC") is True,
            numbers["MAX_TOPICS"],
        )

    def authorize(self, may_read: _F) -> _F:
        """Register the function that decides who may read: it gets a topic, and answers True or False.

        It is called within the request, for each topic, before the first byte. It may also `abort`.
        """
        self._may_read = may_read
        return may_read

    def stream(self, *topics: str, after: str | None = None) -> Response:
        """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

        It goes on where the viewer's `Last-Event-ID` header, or else the query's `last_event_id`, or else
        `after` says: an id, or `BEGINNING`. Without any, a task opens with a `snapshot`, another topic with
        what is published from now on. A cursor that is not kept any more gives a `reset` and a `snapshot`.

        The stream of a task closes after its `end`; asked for again after that, the answer is 204, upon
        which browsers stop. Raises `BadTopic` (404) for a bad topic name, `Forbidden` (403) unless reading is
        allowed, `ValueError` for no topic, and with a `Retry-After`: `TooManyRequests` (429) for more topics
        than `BRIDGE_MAX_TOPICS` or more streams of one client address than `BRIDGE_MAX_VIEWERS_PER_ADDRESS`,
        `ServiceUnavailable` (503) if the process has `BRIDGE_MAX_VIEWERS`, or few file descriptors left.
        """
        if not topics:
            raise ValueError("stream() takes at least one topic")
        state = self._state()
        topics = tuple(dict.fromkeys(topics))
        if len(topics) > state.max_topics:
            raise TooManyRequests(
                f"a stream may have {state.max_topics} topics, not {len(topics)}", retry_after=_come_back()
            )
        for topic in topics:
            self._readable(topic)
        start = parse_cursor(_cursor() or after, topics)
        if start.ended.issuperset(topics):
            return Response(status=204)
        if request.method == "HEAD":
            return Response((), headers=HEADERS, direct_passthrough=True)
        body = state.viewers.stream(request.environ, topics, start, request.remote_addr or "")
        if isinstance(body, LimitReached):
            refusal = TooManyRequests if body is LimitReached.ADDRESS else ServiceUnavailable
            raise refusal(f"{body.value}; try again later", retry_after=_come_back())
        return Response(body, headers=HEADERS, direct_passthrough=True)

    def tasks(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first.

        Raises `ConnectionLost`, and `Forbidden` (403) unless reading the feed is allowed.
        """
        states = self._readable(events.FEED).states(events.FEED, limit)
        return [snapshot(state, events.task_of(state.topic) or state.topic) for state in states]

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, `BadTopic` (404) for a bad id, and `Forbidden` (403) unless reading the
        task's topic is allowed.
        """
        topic = events.task_topic(task_id)
        states = self._readable(topic).states(topic)
        return snapshot(states[0], task_id) if states else None

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        transport_of(self.channel).backend.ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        state = self._state()
        return {**state.viewers.stats(), **transport_of(state.channel).hub.stats()}

    def why_plain(self) -> str | None:
        """Return why a stream of this process had to keep its thread or greenlet, `None` if none had to."""
        return self._state().viewers.refusal

    @property
    def channel(self) -> Channel:
        """The broadcast channel of the current app."""
        return self._state().channel

    def _readable(self, topic: str) -> Transport:
        """Return the transport if `topic` is a name and may be read in this request, else raise."""
        state = self._state()
        try:
            state.channel.topic(topic)
        except ValueError as error:
            if isinstance(topic, str):
                raise BadTopic(str(error)) from None
            raise
        if self._may_read is not None:
            if not self._may_read(topic):
                raise Forbidden("you may not read this topic")
        elif not state.public:
            logger.error(
                "refused to show %r: nothing decides who may read. Decorate a function with "
                "@bridge.authorize, or set BRIDGE_PUBLIC = True to let everyone read every topic",
                topic,
            )
            raise Forbidden("nothing decides who may read this topic; the server's log says how to allow it")
        return transport_of(state.channel)

    def _state(self) -> _State:
        try:
            state: _State = current_app.extensions["bridge"]
        except KeyError:
            raise ConfigurationError("this app has no bridge; call bridge.init_app(app) first") from None
        return state


def _cursor() -> str | None:
    """Return the cursor that the viewer names. Most name none, and parsing is dear when thousands come."""
    environ = request.environ
    named: str | None = environ.get("HTTP_LAST_EVENT_ID")
    if not named and environ.get("QUERY_STRING"):
        named = request.args.get("last_event_id")
    return named


def _number(key: str, value: Any) -> Any:
    """Return a number of the configuration, or what it is unless set. Raises `ConfigurationError`."""
    unit, default = _NUMBERS[key]
    if value is None:
        return default
    check_positive(unit=unit, whole=unit != "seconds", **{f"BRIDGE_{key}": value})
    return value


def _come_back() -> int:
    return random.randint(*COME_BACK_AFTER)
