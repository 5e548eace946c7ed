"""How far a task is: its parts, the percent of the task, rate, eta and the throttle. No Celery, no I/O.

For each item of a loop nothing runs here but the counting. A part holds what was said of it last; whoever
sends asks the `Meter` for news, at most once in `INTERVAL` seconds, and gets the figures of that moment.
"""

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from bridge.tasks.rate import Rate

INTERVAL = 0.1
"""Seconds between two progress events of a task."""

T = TypeVar("T")

Said = tuple[float, float | None, str | None, int]
"""What a task said: current, total, message, and the count of the loop in whose body it said so."""

here: "ContextVar[Part | None]" = ContextVar("bridge.tasks.progress.here", default=None)
"""The innermost open part of the task that runs in this context."""


class Part:
    """A part of a task's work, with the parts in it. The task's threads write it, who sends reads it."""

    def __init__(self, meter: "Meter", parent: "Part | None") -> None:
        self.meter = meter
        self.parent = parent
        self.said: Said | None = None
        self.count = 0
        self.loop: Loop | None = None
        """The loop begun last directly in this part, while it runs."""
        self.rate = Rate()
        self.closed = False
        self._outside: Part | None = None
        self.forget_steps()

    def forget_steps(self) -> None:
        """Begin to count steps anew, as each turn of a loop does."""
        self.steps_of = self.count
        self.announced = self.done = self.reserve = 0.0
        self.unbegun = self.begun = 0
        self.running: set[Step] = set()

    def figures(self) -> Said | None:
        """What is to be shown of this part itself: current, total, message, as long as it holds."""
        said = self.said
        return said if said is not None and said[3] == self.count else None

    def fraction(self) -> float | None:
        """How much of this part is done, from 0 to 1; `None` if that cannot be known."""
        return _furthest(_ratio(self.figures()), self._by_steps(), self.loop)

    def _by_steps(self) -> float | None:
        total = self.announced + self.reserve
        if self.steps_of != self.count or not total:
            return None
        running = sum(step.weight * (step.fraction() or 0.0) for step in self.running)
        return min(1.0, (self.done + running) / total)

    def enter(self) -> None:
        """Make this the innermost part, here and, in the task's own thread, for threads without a context."""
        self._outside = here.get()
        here.set(self)
        self.meter.entered(self)

    def leave(self) -> None:
        """Close this part: the one around it is the innermost again, unless others were entered since."""
        self.closed = True
        if here.get() is self:
            outside = self._outside
            while outside is not None and outside.closed:
                outside = outside._outside
            here.set(outside)
        self.meter.left(self)


class Step(Part):
    """A step with a name and a share of the part it is in. Making it announces it."""

    parent: Part

    def __init__(self, parent: Part, name: str, weight: float) -> None:
        super().__init__(parent.meter, parent)
        self.name = name
        self.weight = weight
        with self.meter.lock:
            if parent.steps_of != parent.count:
                parent.forget_steps()
            parent.announced += weight
            parent.unbegun += 1
            self._siblings_begun = parent.begun

    @property
    def path(self) -> list[str]:
        """The names of the steps around this one, from the outside, and its own."""
        return [*steps_to(self.parent), self.name]

    def begin(self) -> None:
        """Enter the step.

        One that was announced only now may not be the last: as much again is held back for what may follow.
        """
        around = self.parent
        with self.meter.lock:
            alone = around.unbegun == 1 and around.begun == self._siblings_begun
            around.reserve = self.weight if alone else 0.0
            around.unbegun -= 1
            around.begun += 1
            around.running.add(self)
        self.enter()

    def end(self) -> None:
        """Leave the step: its share is done."""
        with self.meter.lock:
            self.parent.running.discard(self)
            self.parent.done += self.weight
        if (said := self.figures()) is not None:
            self.meter.remains = (said, self.rate)
        self.leave()


class Loop(Part):
    """A loop over items. Parts within its body are parts of one item."""

    parent: Part

    def __init__(self, parent: Part, total: float | None, message: str | None) -> None:
        super().__init__(parent.meter, parent)
        self.total = total
        self.message = message

    def figures(self) -> Said:
        return self.count, self.total, self.message, 0

    def fraction(self) -> float | None:
        """The items done, and what is done of the one at hand."""
        if not self.total:
            return None
        within = _furthest(_ratio(super().figures()), self._by_steps(), self.loop) or 0.0
        return min(1.0, (self.count + within) / self.total)

    def over(self, items: Iterator[T]) -> Iterator[T]:
        """Yield the items and count those that the consumer is done with."""
        self.meter.begin_loop(self)
        self.enter()
        count = 0
        try:
            for item in items:
                yield item
                count += 1
                self.count = count
        finally:
            self.meter.end_loop(self)
            self.leave()


class Meter:
    """The progress of one run of a task, asked for news by whoever sends them.

    `waiting` says that somebody will ask. Who has said something while it is false calls `ask`, which has
    `news` called at once or at `due`, a time of `clock`, and again at each `due` while `waiting` is true.
    Threads may say, enter and leave parts at once; `news` is called by one thread at a time.
    """

    def __init__(self, ask: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.ask = ask
        self.clock = clock
        self.root = Part(self, None)
        self.top = self.latest = self.root
        self.remains: tuple[Said | None, Rate] = (None, self.root.rate)
        """What was said of the step that ended last: shown after it, until something else is said."""
        self.over = False
        self.waiting = False
        self.due = -math.inf
        self.reset_after_fork()
        self._loops: set[Loop] = set()
        self._told: dict[str, Any] = {}
        self._percent: float | None = None
        self._thread = threading.get_ident()

    def reset_after_fork(self) -> None:
        """Who was to ask is not in the child."""
        self.waiting = False
        self.lock = threading.RLock()  # guards what parts hold of their steps; for why R, see the outbox

    def entered(self, part: Part) -> None:
        """Take note of the innermost part."""
        self.latest = part
        if threading.get_ident() == self._thread:
            self.top = part
        self.heed()

    def left(self, part: Part) -> None:
        """Go back to what is around `part`, unless another was entered since."""
        around = part.parent or part
        self.latest = around if self.latest is part else self.latest
        self.top = around if self.top is part else self.top
        self.heed()

    def heed(self) -> None:
        """Have somebody ask for news."""
        if not self.waiting and not self.over:
            self.ask()

    def begin_loop(self, loop: Loop) -> None:
        """Ask again and again while `loop` runs."""
        self._loops.add(loop)
        loop.parent.loop = loop

    def end_loop(self, loop: Loop) -> None:
        """Keep the last figures of `loop`, unless it is part of an item of another."""
        self._loops.discard(loop)
        if loop.parent.loop is loop:
            loop.parent.loop = None
        if not isinstance(loop.parent, Loop):
            loop.parent.said, loop.parent.rate = loop.figures(), loop.rate

    def news(self) -> dict[str, Any] | None:
        """Return the fields of a progress event if there is anything new; sets `waiting` and `due`."""
        # First: what is said from here on is either seen below, or asks anew.
        self.waiting = False
        now = self.clock()
        latest, shown = self._shown()
        said, rate = shown.figures(), shown.rate
        if said is None and latest is self.root:
            said, rate = self.remains
        figures = self._figures(latest, said, _message(latest, shown))
        fresh = figures != self._told
        if fresh or (self._loops and not self.over):
            self.due = now + INTERVAL
            self.waiting = True
        if not fresh:
            return None
        self._told = figures
        if "current" not in figures:
            return figures
        return figures | rate.at(figures["current"], figures.get("total"), now)

    def _shown(self) -> tuple[Part, Part]:
        """Return the innermost part spoken of last, and the one around it whose figures are shown."""
        latest = self.latest
        while latest.closed and latest.parent is not None:
            latest = latest.parent
        shown = latest
        while shown.parent is not None and (
            shown.figures() is None or (isinstance(shown, Loop) and isinstance(shown.parent, Loop))
        ):
            shown = shown.parent
        return latest, shown

    def _figures(self, latest: Part, said: Said | None, message: str | None) -> dict[str, Any]:
        found: dict[str, Any] = {}
        with self.lock:
            fraction = self.root.fraction()
        if said is not None:
            found["current"] = said[0]
            if said[1] is not None and said[1] > 0:
                found["total"] = said[1]
            message = said[2] if message is None else message
        if fraction is not None:
            percent = 100.0 if fraction >= 1 else min(99.99, max(0.0, round(100 * fraction, 2)))
            self._percent = max(percent, self._percent or 0.0)
        if self._percent is not None:
            found["percent"] = self._percent
        if message is not None:
            found["message"] = message
        if steps := steps_to(latest):
            found["step"] = " / ".join(steps)
        return found


def steps_to(part: Part | None) -> list[str]:
    """Return the names of the steps that are around `part` or are it, from the outside."""
    names = []
    while part is not None:
        if isinstance(part, Step):
            names.append(part.name)
        part = part.parent
    return names[::-1]


def _message(latest: Part, shown: Part) -> str | None:
    """Return what was said last within the part shown, else of it."""
    part: Part | None = latest
    while part is not None:
        inner = Part.figures(part) if isinstance(part, Loop) else None
        for said in (inner, part.figures()):
            if said is not None and said[2] is not None:
                return said[2]
        if part is shown:
            return None
        part = part.parent
    return None


def _furthest(said: float | None, steps: float | None, loop: Loop | None) -> float | None:
    found = (said, steps, loop.fraction() if loop else None)
    return max((fraction for fraction in found if fraction is not None), default=None)


def _ratio(said: Said | None) -> float | None:
    if said is None or said[1] is None or said[1] <= 0:
        return None
    return 1.0 if said[0] >= said[1] else max(0.0, said[0] / said[1])
