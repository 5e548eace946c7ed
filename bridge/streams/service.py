"""StreamService: decides about requests for streams, whatever framework they come from.

An adapter translates a request into these calls, in this order, and each result or `Refusal` into a
response: `check_topics`, `authorizer.permit`, `answer`. The answer holds an `Opening` if a stream is to
begin; `wsgi.py` makes it the body of a response.
"""

import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

# `Any` in this module: the values of a snapshot are JSON, and a request is of any framework.
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from bridge.channel.factory import connect
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError, ConnectionLost
from bridge.streams.access.authorization import Authorizer, Decide, HowToAllow, Permission
from bridge.streams.access.grant import Grant
from bridge.streams.access.revocations import Revocations
from bridge.streams.access.tokens import LONGEST_LIFE
from bridge.streams.availability import BackendAvailability
from bridge.streams.cursor import parse_cursor
from bridge.streams.kept_tasks import KeptTasks
from bridge.streams.limits import (
    FEW_DESCRIPTORS,
    LimitReached,
    ViewerLimits,
    descriptors_for_viewers,
    per_address,
    per_key,
)
from bridge.streams.loop import Loop
from bridge.streams.opening import Opening
from bridge.streams.refusal import Refusal, come_back_after
from bridge.streams.request import StreamRequest
from bridge.streams.revoking import RevokedStreams
from bridge.streams.settings import Settings
from bridge.support.memory import BUDGET
from bridge.support.validate import check_name
from bridge.tasks import events
from bridge.tasks.heartbeats import WORKERS, decode_heartbeat
from bridge.tasks.liveness import LivenessMonitor
from bridge.tasks.snapshot import snapshot

logger = logging.getLogger("bridge.streams.service")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",
}
"""The response headers of a stream."""

LONGEST_KEY = 255
"""Characters of a viewer's key."""

STREAM_SECONDS = (0.8, 1.0)
"""A stream ends after a random part, between these, of the longest time. So not all come back at once."""


class Answer(NamedTuple):
    """The answer to a request. Without `opening` it has no body."""

    status: int
    headers: Mapping[str, str]
    opening: Opening | None = None


class StreamService:
    """The streams of one application. Opens nothing until it is used. Threads and greenlets may share it."""

    def __init__(self, settings: Settings, *, how_to_allow: HowToAllow) -> None:
        """Raises `ConfigurationError`."""
        self.settings = settings
        self.channel = connect(settings.url, **settings.channel_options)
        transport = self._transport = transport_of(self.channel)
        logger.info(
            "streams read %s (from %s)",
            transport.location,
            settings.origin,
            extra={"event": "streams_start", "location": transport.location, "origin": settings.origin},
        )
        lifetime = LONGEST_LIFE if settings.tokens is None else settings.tokens.lifetime
        self._revocations = Revocations(transport, lifetime=lifetime)
        self.authorizer = Authorizer(
            settings, self.check_name, how_to_allow=how_to_allow, revocations=self._revocations
        )
        """Decides who may read and cancel."""
        limits = ((per_address, settings.max_viewers_per_address), (per_key, settings.max_viewers_per_key))
        key_limits = [limit(most) for limit, most in limits if most is not None]
        self._limits = ViewerLimits(settings.max_viewers or descriptors_for_viewers(), key_limits)
        self.viewer_key = settings.viewer_key if settings.max_viewers_per_key is not None else None
        """Returns the key of a request of the framework; an adapter gives the result to `answer`."""
        self._availability = BackendAvailability(transport, settings.url)
        self.loop = Loop(
            transport, heartbeat=settings.heartbeat, backlog=settings.viewer_backlog, limits=self._limits
        )
        self.liveness = self.loop.observer = LivenessMonitor(transport, self.loop.thread.do)
        self.kept_tasks = KeptTasks(transport, self._require_revocations)
        """Reads all tasks, and the workers."""
        RevokedStreams(self.loop, self._revocations)
        self.not_taken_over: str | None = None
        """Why a stream of this process kept its thread, greenlet or coroutine, `None` if none had to."""
        self._logged: set[LimitReached] = set()
        self._feed_off = False  # whether it was logged

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

    def check_name(self, topic: str) -> None:
        """Raise `Refusal` (404) if `topic` is no topic name, and `ValueError` if it is no `str`."""
        try:
            check_name(topic, "a topic name")
        except ValueError as error:
            if isinstance(topic, str):
                raise Refusal(404, str(error)) from None
            raise

    # Streams.

    def answer(
        self,
        topics: Sequence[str],
        request: StreamRequest,
        permission: Permission,
        *,
        key: object = None,
        remember: Callable[[], Decide] | None = None,
        after: str | None = None,
        decided: Sequence[str] | None = None,
    ) -> Answer:
        """Answer a request for a stream of `topics`, which are checked, and which `permission` allows.

        `key` is the result of `viewer_key`. `remember` keeps the request, if the function that decided is to
        be asked again; it returns a function that any thread may call later. The stream begins after the
        cursor in the `Last-Event-ID` header, or else in `last_event_id` of the query, or else `after`.
        `decided` are the topics that were decided about, if others than `topics`. Raises `Refusal` (429 or
        503) if a limit is reached.
        """
        cursor, counts = parse_cursor(_cursor_text(request) or after, topics), self.loop.counts
        if cursor.ended.issuperset(topics):
            counts.count(counts.replays, "ended")
            return _ENDED
        if request.method == "HEAD":
            return _HEAD
        client = request.client
        if self.viewer_key is not None:
            client = client._replace(key=_checked_key(key))
        elif permission.claims is not None:
            client = client._replace(key=permission.claims.subject)
        self._revocations.join()
        grant = self._grant(decided or topics, permission, remember)
        reached = self._limits.acquire(client)
        if reached is not None:
            raise self._refusal(reached)
        if cursor.lost:
            counts.count(counts.replays, "lost")
        replays = self._transport.backend.replays
        opening = Opening(self.loop, self._availability, topics, cursor, client, replays=replays, grant=grant)
        return Answer(200, HEADERS, opening)

    def _grant(
        self, topics: Sequence[str], permission: Permission, remember: Callable[[], Decide] | None
    ) -> Grant | None:
        """Return what allows a stream to go on, `None` if it may go on for ever."""
        (claims, ask_after), longest = permission, self.settings.max_stream_seconds
        if claims is None and ask_after is None and longest is None:
            return None
        now, grant = time.monotonic(), Grant()
        if longest is not None:
            grant.leave_at = now + longest * random.uniform(*STREAM_SECONDS)
        if claims is not None:
            grant.subject, grant.token_id, grant.issued_at = claims.subject, claims.token_id, claims.issued_at
            grant.expires_at = now + claims.expires_at - time.time()
        elif ask_after is not None and remember is not None:
            grant.ask = partial(self.authorizer.ask, topics, remember())
            grant.ask_after, grant.ask_at = ask_after, now + ask_after
        return grant

    def revoke(
        self, *, subject: str | None = None, token_id: str | None = None, topic: str | None = None
    ) -> None:
        """Revoke, as the `revoke` of each adapter does."""
        self._revocations.revoke(subject=subject, token_id=token_id, topic=topic)

    def _refusal(self, reached: LimitReached) -> Refusal:
        """Return the answer to a viewer over a limit. Logs each limit once."""
        if reached not in self._logged:
            self._logged.add(reached)
            logger.warning(
                "a stream was refused: %s; %s. Further ones are only counted",
                reached.detail,
                reached.remedy,
                extra={"event": "viewer_refused", "reason": reached.reason},
            )
        return Refusal(
            reached.status,
            f"{reached.detail}; try again later",
            retry_after=come_back_after(),
            # A connection that stays open holds one of the few descriptors.
            close_connection=reached is FEW_DESCRIPTORS,
            reason=reached.reason,
        )

    def note_not_taken_over(self, reason: str | None) -> None:
        """Note why a stream keeps a thread, greenlet or coroutine. Logs the first."""
        if self.not_taken_over is None:
            self.not_taken_over = reason or "unknown"
            logger.warning(
                "connections cannot be taken over, so each stream keeps a thread, greenlet or coroutine: %s",
                self.not_taken_over,
                extra={"event": "not_taken_over", "reason": self.not_taken_over},
            )

    # Snapshots.

    def tasks(self, limit: int, feed: str = events.FEED) -> list[dict[str, Any]]:
        """Return the snapshots of the last `limit` tasks of a feed, the newest first.

        Raises `ConnectionLost`.
        """
        self._require_revocations()
        states = self._transport.states(feed, limit)
        if not states and feed == events.FEED and not self._feed_off:
            self._check_feed()
        return [snapshot(state, events.task_of(state.topic) or state.topic) for state in states]

    def _check_feed(self) -> None:
        """Log once that the list of all tasks is empty because the workers leave the feed out."""
        messages = self._transport.backend.history(WORKERS, 20) if self._transport.backend.replays else []
        heartbeats = [found for message in messages if (found := decode_heartbeat(message)) and found.worker]
        if heartbeats and not any(heartbeat.feed for heartbeat in heartbeats):
            self._feed_off = True
            logger.warning(
                "the list of all tasks is empty, because the workers have install(..., feed=False): list the "
                "tasks of a tag with tasks(tag=...), or remove feed=False in the app of the workers",
                extra={"event": "feed_off"},
            )

    def task(self, task_id: str) -> dict[str, Any] | None:
        """Return the snapshot of a task, or `None` if nothing is known of it. Raises `ConnectionLost`."""
        self._require_revocations()
        states = self._transport.states(events.task_topic(task_id))
        return snapshot(states[0], task_id) if states else None

    def _require_revocations(self) -> None:
        """Raise `ConnectionLost` while it is not known which tokens are revoked."""
        if self.authorizer.tokens is not None and self._revocations.missing:
            raise ConnectionLost("the backend has not answered yet which tokens are revoked; try again later")

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        self._transport.backend.ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts, by name."""
        return {**self.loop.stats(), **self._transport.hub.stats(), **BUDGET.stats()}


_ENDED = Answer(204, {})
_HEAD = Answer(200, HEADERS)


def _checked_key(key: object) -> str:
    """Return the key of a viewer; an empty one is not limited. Raises `ConfigurationError` if it is none."""
    if key is None:
        return ""
    if not isinstance(key, str) or len(key) > LONGEST_KEY:
        what = f"{len(key)} characters" if isinstance(key, str) else type(key).__name__
        raise ConfigurationError(
            f"the function of BRIDGE_VIEWER_KEY must return a str of at most {LONGEST_KEY} characters, "
            f"not {what}"
        )
    return key


def _cursor_text(request: StreamRequest) -> str | None:
    """Return the cursor that a request names. Most name none, and parsing a query takes time."""
    if request.last_event_id or not request.query_string:
        return request.last_event_id
    query = parse_qs(request.query_string, keep_blank_values=True)
    return query.get("last_event_id", [None])[0]
