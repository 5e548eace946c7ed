"""StreamTraces: the spans of a stream. One for what it gets when it opens, and one for the end of a task.

No span lasts as long as a stream.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bridge.backends.base import Item, States
from bridge.streams.viewer import Viewer
from bridge.support import tracing
from bridge.support.tracing import TRACEPARENT
from bridge.tasks import events
from bridge.tasks.event_types import State
from bridge.tasks.snapshot import current_state

if TYPE_CHECKING:
    from opentelemetry.trace import Span

MOST_LINKS = 100
"""Tasks to which a span links: a stream of the feed may get thousands."""


class _Replay:
    """The span of a stream that opens."""

    def __init__(self, span: "Span") -> None:
        self.span = span
        self.links = 0
        self.last_at: int | None = None
        """When something was last sent, in nanoseconds since the epoch."""

    def link(self, traceparent: str | None) -> None:
        if traceparent is not None and self.links < MOST_LINKS:
            self.links += 1
            tracing.link(self.span, traceparent)


class StreamTraces:
    """The spans of the streams of a process, where the application uses OpenTelemetry."""

    def __init__(self) -> None:
        self._replays: dict[Viewer, _Replay] = {}

    def reset_after_fork(self) -> None:
        """The viewers stayed in the parent."""
        self._replays.clear()

    @property
    def waits(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._replays)

    def opened(self, viewer: Viewer, *, resumes: bool) -> None:
        """Begin the span of a stream, in the thread of its request. `resumes` says that it has a cursor."""
        span = tracing.replay(viewer.topics)
        if span is not None:
            span.set_attribute("bridge.resumes", resumes)
            self._replays[viewer] = _Replay(span)

    # The loop's thread.

    def delivered(self, viewers: Sequence[Viewer], items: Sequence[Item]) -> None:
        """Note what was sent: the state of tasks to streams that open, and the ends of tasks."""
        if self._replays:
            opening = [replay for viewer in viewers if (replay := self._replays.get(viewer)) is not None]
            if opening:
                self._replayed(opening, items)
        for item in items:
            if not isinstance(item, States) and item.type == "state" and events.task_of(item.topic):
                event = _traced(item)
                if event is not None and event.ended and event.traceparent is not None:
                    tracing.deliver_end(item.topic, event.traceparent, len(viewers))

    def _replayed(self, replays: Sequence[_Replay], items: Sequence[Item]) -> None:
        for item in items:
            found = map(current_state, item.states) if isinstance(item, States) else (_traced(item),)
            for event in found:
                for replay in replays:
                    replay.link(None if event is None else event.traceparent)
        for replay in replays:
            replay.last_at = time.time_ns()

    def settle(self) -> None:
        """End the spans of the streams that have what they missed. Call it once a second."""
        for viewer, replay in list(self._replays.items()):
            if viewer.established or viewer.closed:
                del self._replays[viewer]
                replay.span.end(replay.last_at)


def _traced(payload: bytes) -> State | None:
    """Return the state that a message tells, if it is a part of a trace."""
    if TRACEPARENT.encode() not in payload:
        return None
    event = events.decode(payload)
    return event if isinstance(event, State) else None
