"""StreamCounts: what happened to the viewers of a process, for metrics. Counting costs next to nothing."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from bridge.backends.base import Item, States
from bridge.model.message import Gap
from bridge.streams.refusal import Refusal, reason_of_status
from bridge.support.fork import reset_in_child
from bridge.tasks.events import decode

SAMPLE_EVERY = 0.05
"""Seconds between two deliveries whose lag is measured, at least."""


class Returning(Protocol):
    """What is asked of a viewer that comes back with a cursor."""

    closed: bool

    @property
    def established(self) -> bool:
        """Whether nothing more can be missed."""
        ...


class Metrics:
    """What the metrics of this process want to be told. Without metrics both are `None`."""

    observe_lag: Callable[[float], None] | None = None
    """Takes the seconds from publish to send of some deliveries, in the thread of a loop."""
    on_change: Callable[[], None] | None = None
    """Called when a stream begins or ends, is refused or resumes, in any thread."""


METRICS = Metrics()


class StreamCounts:
    """The numbers only grow. Threads may share it; each method says if it is for the loop's thread only."""

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        """Requests that got no stream, by reason."""
        self.closed: Counter[str] = Counter()
        """Streams that ended, by reason."""
        self.replays: Counter[str] = Counter()
        """Requests with a cursor, by result."""
        self.opened = 0
        """Streams that began."""
        self.deliveries = 0
        """Messages and states that viewers were given, each as often as it has viewers."""
        self.bytes = 0
        """Bytes of their text, without the framing of HTTP."""
        self._returning: set[Returning] = set()
        self._sample_at = 0.0
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The viewers stayed in the parent."""
        self._lock = threading.Lock()  # Guards the counters: an addition of two threads may lose one.
        self._returning.clear()

    def count(self, counter: Counter[str], name: str) -> None:
        """Add one to a number of `refused`, `closed` or `replays`."""
        with self._lock:
            counter[name] += 1
        if METRICS.on_change is not None:
            METRICS.on_change()

    def note_opened(self) -> None:
        """Count a stream that begins."""
        self.opened += 1
        if METRICS.on_change is not None:
            METRICS.on_change()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count the request that is decided within as refused if that raises."""
        try:
            yield
        except Refusal as refusal:
            self.count(self.refused, refusal.reason)
            raise
        except Exception as error:
            # The HTTP exception of a framework, which the function that decides has raised.
            status = getattr(error, "status_code", None) or getattr(error, "code", None)
            self.count(self.refused, reason_of_status(status))
            raise

    # Replays.

    def returns(self, viewer: Returning) -> None:
        """Note that a viewer has come back with a cursor. What becomes of it is counted later."""
        self._returning.add(viewer)

    def settle(self) -> None:
        """Count the viewers that have got all that they missed. For the loop's thread."""
        for viewer in list(self._returning):
            if viewer.established or viewer.closed:
                self._returning.discard(viewer)
                if viewer.established:
                    self.count(self.replays, "resumed")

    @property
    def waits(self) -> bool:
        """Whether `settle` has something to do."""
        return bool(self._returning)

    def _lost(self, viewers: Iterable[Returning]) -> None:
        for viewer in viewers:
            if viewer in self._returning:
                self._returning.discard(viewer)
                self.count(self.replays, "lost")

    # Deliveries, in the loop's thread.

    def delivered(
        self, viewers: Sequence[Returning], items: Sequence[Item], size: int, now: float, *, live: bool
    ) -> None:
        """Count `items` that were given to `viewers` with `size` bytes in all.

        `now` is the loop's time. `live` says that nothing of it is history.
        """
        self.deliveries += len(viewers) * len(items)
        self.bytes += size
        if self._returning and isinstance(items[0], Gap):
            self._lost(viewers)
        if METRICS.observe_lag is not None and live and now >= self._sample_at:
            published = _published_at(items[0])
            if published is not None:
                self._sample_at = now + SAMPLE_EVERY
                METRICS.observe_lag(max(0.0, time.time() - published))


def _published_at(item: Item) -> float | None:
    """Return when a message was published, in seconds since the epoch; `None` if it does not say.

    The mark of a position is that time in milliseconds by the clock of the backend. Where the backend keeps
    no messages, a task event has the time at which the task published it.
    """
    if isinstance(item, States | Gap):
        return None
    position = item.position
    if position is not None and position.mark:
        return position.mark / 1000
    event = decode(item)
    return None if event is None else event.at
