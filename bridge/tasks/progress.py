"""What viewers see of a task's progress: percent, figures, rate and eta, at most every 0.1 s. No I/O.

`bridge.tasks.spans` holds what the task reports. The background publisher asks the `Meter` for news, and gets
the figures of that moment.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from bridge.tasks.rate import Rate
from bridge.tasks.spans import Figures, Span, SpanTree, TrackedLoop, steps_to

# Any: the values of the fields of a progress event.

INTERVAL = 0.1
"""Seconds between two progress events of a task."""


class Meter(SpanTree):
    """The progress of one run of a task.

    `ask` requests a call of `news`, at once or at `due`, a time of `clock`. It is called again at each `due`
    while `waiting` is true. One thread at a time calls `news`.
    """

    def __init__(self, ask: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(ask)
        self.clock = clock
        self.due = -math.inf
        self._sent: dict[str, Any] = {}
        self._percent: float | None = None

    def news(self) -> dict[str, Any] | None:
        """Return the fields of a `Progress` event if there is anything new; set `waiting` and `due`."""
        # First, so that a later report is either read below or calls `ask` again.
        self.waiting = False
        now = self.clock()
        latest, shown = self._shown()
        figures, rate = self._figures(latest, shown)
        fields = self._fields(latest, shown, figures)
        fresh = fields != self._sent
        if fresh or (self.loops and not self.finished):
            self.due = now + INTERVAL
            self.waiting = True
        if not fresh:
            return None
        self._sent = fields
        if figures is None:
            return fields
        return fields | rate.at(figures.current, fields.get("total"), now)

    def _shown(self) -> tuple[Span, Span]:
        """Return the innermost span with the last report, and the one around it whose figures are shown."""
        latest = self.latest
        while latest.closed and latest.parent is not None:
            latest = latest.parent
        shown = latest
        while shown.parent is not None and (
            shown.figures() is None
            or (isinstance(shown, TrackedLoop) and isinstance(shown.parent, TrackedLoop))
        ):
            shown = shown.parent
        return latest, shown

    def _figures(self, latest: Span, shown: Span) -> tuple[Figures | None, Rate]:
        """Return the figures that are shown, and the rate that belongs to them."""
        figures = shown.figures()
        if figures is None and latest is self.root:
            return self.last_step
        return figures, shown.rate

    def _fields(self, latest: Span, shown: Span, figures: Figures | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        message = _message(latest, shown)
        if figures is not None:
            found["current"] = figures.current
            if figures.total is not None and figures.total > 0:
                found["total"] = figures.total
            message = figures.message if message is None else message
        percent = self._next_percent()
        if percent is not None:
            found["percent"] = percent
        if message is not None:
            found["message"] = message
        if steps := steps_to(latest):
            found["step"] = " / ".join(steps)
        return found

    def _next_percent(self) -> float | None:
        """Return the percent of the task. It never decreases, and is 100 only when everything is done."""
        with self.lock:
            fraction = self.root.fraction()
        if fraction is not None:
            percent = 100.0 if fraction >= 1 else min(99.99, max(0.0, round(100 * fraction, 2)))
            self._percent = max(percent, self._percent or 0.0)
        return self._percent


def _message(latest: Span, shown: Span) -> str | None:
    """Return the last message within the span shown, or else its own."""
    span: Span | None = latest
    while span is not None:
        inner = span.item_figures() if isinstance(span, TrackedLoop) else None
        for figures in (inner, span.figures()):
            if figures is not None and figures.message is not None:
                return figures.message
        if span is shown:
            return None
        span = span.parent
    return None
