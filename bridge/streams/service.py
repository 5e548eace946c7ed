"""StreamService: decides about requests for streams, whatever framework they come from.

An adapter translates a request into these calls, in this order, and each result or `Refusal` into a response:
`check_topics`, `check_readable`, `answer`. The answer holds an `Opening` if a stream is to begin; `wsgi.py`
makes it the body of a response.
"""

import logging
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)

# `Any` in this module: the values of a snapshot are JSON.
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from bridge.streams.availability import BackendAvailability
from bridge.streams.cursor import parse_cursor
from bridge.streams.limits import (
    FEW_DESCRIPTORS,
    Client,
    LimitReached,
    ViewerLimits,
    descriptors_for_viewers,
    per_address,
)
from bridge.streams.loop import Loop
from bridge.streams.opening import Opening
from bridge.streams.refusal import Refusal, come_back_after
from bridge.streams.settings import Settings
from bridge.tasks import events
from bridge.tasks.liveness import LivenessMonitor
from bridge.tasks.snapshot import snapshot

logger = logging.getLogger("bridge.streams.service")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""The response headers of a stream."""

MayRead = Callable[[str], object]
"""Decides whether a topic may be read: true or false."""


class StreamRequest(NamedTuple):
    """The parameters of a requested stream, from an HTTP request."""

    method: str
    last_event_id: str | None
    """The `Last-Event-ID` header."""
    query_string: str
    """The part of the URL after `?`, not decoded."""
    client: Client


class Answer(NamedTuple):
    """The answer to a request. Without `opening` it has no body."""

    status: int
    headers: Mapping[str, str]
    opening: Opening | None = None


class StreamService:
    """The streams of one application. Opens nothing until it is used. Threads and greenlets may share it."""

    def __init__(self, settings: Settings, *, how_to_allow: str) -> None:
        """`how_to_allow` tells an operator how to allow reading, for the log. Raises `ConfigurationError`."""
        self.settings = settings
        self._how_to_allow = how_to_allow
        self.channel = connect(settings.url, **settings.channel_options)
        transport = self._transport = transport_of(self.channel)
        most, of_address = settings.max_viewers, settings.max_viewers_per_address
        key_limits = [per_address(of_address)] if of_address is not None else []
        self._limits = ViewerLimits(most or descriptors_for_viewers(), key_limits)
        self._availability = BackendAvailability(transport, settings.url)
        self.loop = Loop(
            transport, heartbeat=settings.heartbeat, backlog=settings.viewer_backlog, limits=self._limits
        )
        self.loop.observer = LivenessMonitor(transport, self.loop.thread.do)
        self.not_taken_over: str | None = None
        """Why a stream of this process kept its thread, greenlet or coroutine, `None` if none had to."""
        self._logged: set[LimitReached] = set()

    # What may be read.

    def check_topics(self, topics: Iterable[str]) -> tuple[str, ...]:
        """Return `topics`, each once. Raises `ValueError` for none and `Refusal` (429) for too many."""
        topics = tuple(dict.fromkeys(topics))
        if not topics:
            raise ValueError("stream() takes at least one topic")
        most = self.settings.max_topics
        if len(topics) > most:
            detail = f"a stream may have {most} topics, not {len(topics)}"
            raise Refusal(429, detail, retry_after=come_back_after())
        return topics

    def check_readable(self, topics: Iterable[str], may_read: MayRead | None) -> None:
        """Check the name of each topic and whether it may be read; without `may_read` the settings decide.

        Raises `Refusal` (404 for a bad name, 403), `ValueError` for a topic that is no `str`, and what
        `may_read` raises. An adapter that awaits its decision calls `check_name`, `allows` and
        `check_decision` itself.
        """
        decide = may_read if may_read is not None else self.allows
        for topic in topics:
            self.check_name(topic)
            check_decision(decide(topic))

    def check_name(self, topic: str) -> None:
        """Raise `Refusal` (404) if `topic` is no topic name, and `ValueError` if it is no `str`."""
        try:
            self.channel.topic(topic)
        except ValueError as error:
            if isinstance(topic, str):
                raise Refusal(404, str(error)) from None
            raise

    def allows(self, topic: str) -> bool:
        """Return `True` if the settings let everyone read, else log how to allow it and raise `Refusal`."""
        if not self.settings.public:
            logger.error("refused to show %r: nothing decides who may read. %s", topic, self._how_to_allow)
            detail = "nothing decides who may read this topic; the server's log says how to allow it"
            raise Refusal(403, detail)
        return True

    # Streams.

    def answer(self, topics: Sequence[str], request: StreamRequest, *, after: str | None = None) -> Answer:
        """Answer a request for a stream of `topics`, which are checked, and may be read.

        The stream begins after the cursor in the `Last-Event-ID` header, or else in `last_event_id` of the
        query, or else `after`. Raises `Refusal` (429 or 503) if a limit is reached.
        """
        cursor = parse_cursor(_cursor_text(request) or after, topics)
        if cursor.ended.issuperset(topics):
            return _ENDED
        if request.method == "HEAD":
            return _HEAD
        reached = self._limits.acquire(request.client)
        if reached is not None:
            raise self._refusal(reached)
        replays = self._transport.backend.replays
        opening = Opening(self.loop, self._availability, topics, cursor, request.client, replays=replays)
        return Answer(200, HEADERS, opening)

    def _refusal(self, reached: LimitReached) -> Refusal:
        """Return the answer to a viewer over a limit. Logs each limit once."""
        if reached not in self._logged:
            self._logged.add(reached)
            logger.warning(
                "a stream was refused: %s; %s. Further ones are only counted", reached.detail, reached.remedy
            )
        return Refusal(
            reached.status,
            f"{reached.detail}; try again later",
            retry_after=come_back_after(),
            # A connection that stays open holds one of the few descriptors.
            close_connection=reached is FEW_DESCRIPTORS,
        )

    def note_not_taken_over(self, reason: str | None) -> None:
        """Note why a stream keeps a thread, greenlet or coroutine. Logs the first."""
        if self.not_taken_over is None:
            self.not_taken_over = reason or "unknown"
            logger.warning(
                "connections cannot be taken over, so each stream keeps a thread, greenlet or coroutine: %s",
                self.not_taken_over,
            )

    # Snapshots.

    def tasks(self, limit: int) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks, the newest first. Raises `ConnectionLost`."""
        states = self._transport.states(events.FEED, limit)
        return [snapshot(state, events.task_of(state.topic) or state.topic) for state in states]

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it. Raises `ConnectionLost`."""
        states = self._transport.states(events.task_topic(task_id))
        return snapshot(states[0], task_id) if states else None

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        self._transport.backend.ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        return {**self.loop.stats(), **self._transport.hub.stats()}


_ENDED = Answer(204, {})
_HEAD = Answer(200, HEADERS)


def check_decision(allowed: object) -> None:
    """Raise `Refusal` (403) unless `allowed`, the result of `MayRead`, is true.

    Raises `ConfigurationError` for a coroutine or a generator: it is true, but nothing has decided.
    """
    if isinstance(allowed, Generator | AsyncGenerator):
        raise ConfigurationError(
            "the function that decides who may read is a generator: it has a `yield`; return the decision"
        )
    if isinstance(allowed, Awaitable):
        if isinstance(allowed, Coroutine):
            allowed.close()  # otherwise Python warns that nothing awaited it
        raise ConfigurationError(
            "the function that decides who may read is a coroutine function, which this framework does not "
            "await; use a plain function"
        )
    if not allowed:
        raise Refusal(403, "you may not read this topic")


def _cursor_text(request: StreamRequest) -> str | None:
    """Return the cursor that a request names. Most name none, and parsing a query takes time."""
    if request.last_event_id or not request.query_string:
        return request.last_event_id
    query = parse_qs(request.query_string, keep_blank_values=True)
    return query.get("last_event_id", [None])[0]
