"""Flask serves the streams: `Bridge` is an extension, `Bridge.stream` the response of a route."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from flask import Flask, Response, current_app, request
from werkzeug.exceptions import Forbidden

from bridge import events
from bridge.connect import Channel, connect
from bridge.errors import ConfigurationError
from bridge.script import start_at
from bridge.viewers import Viewers

logger = logging.getLogger("bridge.flask")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}

# From the app's configuration to the options of `connect`.
_OPTIONS = ("NAMESPACE", "MAX_PAYLOAD", "QUEUE_SIZE", "TIMEOUT", "RETENTION_SECONDS", "RETENTION_MESSAGES")
_OWN_KEYS = ("URL", "PUBLIC", "HEARTBEAT", "VIEWER_BACKLOG")

Authorize = Callable[[str], Any]
_F = TypeVar("_F", bound=Authorize)


@dataclass(slots=True)
class _State:
    """What an initialised app holds."""

    channel: Channel
    viewers: Viewers
    public: bool


class Bridge:
    """Streams topics to browsers. One object may serve several apps.

    Configuration: `BRIDGE_URL`, as for `bridge.connect`; `BRIDGE_PUBLIC = True` to let everyone read every
    topic; `BRIDGE_HEARTBEAT`, seconds of silence before a comment is sent (15); and the options of
    `connect` in capitals, such as `BRIDGE_NAMESPACE`.
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
        heartbeat = given.get("HEARTBEAT", 15.0)
        if not isinstance(heartbeat, int | float) or heartbeat <= 0:
            raise ConfigurationError(f"BRIDGE_HEARTBEAT must be seconds above zero, not {heartbeat!r}")
        backlog = given.get("VIEWER_BACKLOG", 1024 * 1024)
        if not isinstance(backlog, int) or backlog <= 0:
            raise ConfigurationError(f"BRIDGE_VIEWER_BACKLOG must be bytes above zero, not {backlog!r}")
        options = {key.lower(): given[key] for key in _OPTIONS if key in given}
        channel = connect(given["URL"], **options)
        app.extensions["bridge"] = _State(
            channel,
            Viewers(channel, heartbeat=float(heartbeat), backlog=backlog),
            given.get("PUBLIC") is True,
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
        which browsers stop. Raises `Forbidden` (403) unless reading is allowed, and
        `ValueError` for a bad topic name or none.
        """
        if not topics:
            raise ValueError("stream() takes at least one topic")
        state = self._state()
        for topic in topics:
            self._readable(topic)
        topics = tuple(dict.fromkeys(topics))
        cursor = request.headers.get("Last-Event-ID") or request.args.get("last_event_id") or after
        start = start_at(cursor, topics)
        if start.ended.issuperset(topics):
            return Response(status=204)
        body = () if request.method == "HEAD" else state.viewers.stream(request.environ, topics, start)
        return Response(body, headers=HEADERS, direct_passthrough=True)

    def tasks(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first.

        Raises `ConnectionLost`, and `Forbidden` (403) unless reading the feed is allowed.
        """
        states = self._readable(events.FEED).states(events.FEED)[:limit]
        return [events.snapshot(state, events.task_of(state.topic) or state.topic) for state in states]

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it.

        Raises `ConnectionLost`, and `Forbidden` (403) unless reading the task's topic is allowed.
        """
        topic = events.task_topic(task_id)
        states = self._readable(topic).states(topic)
        return events.snapshot(states[0], task_id) if states else None

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        self._state().channel.ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        state = self._state()
        return {
            **state.viewers.stats(),
            **state.channel.stats(),
        }

    def why_plain(self) -> str | None:
        """Return why a stream of this process had to keep its thread or greenlet, `None` if none had to."""
        return self._state().viewers.refusal

    @property
    def channel(self) -> Channel:
        """The broadcast channel of the current app."""
        return self._state().channel

    def _readable(self, topic: str) -> Channel:
        """Return the channel if `topic` is a name and may be read in this request, else raise."""
        state = self._state()
        state.channel.topic(topic)
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
        return state.channel

    def _state(self) -> _State:
        try:
            state: _State = current_app.extensions["bridge"]
        except KeyError:
            raise ConfigurationError("this app has no bridge; call bridge.init_app(app) first") from None
        return state
