"""The parts of a task's work: steps and loops within each other, and how much of each is done. No I/O.

For each item of a loop only a counter runs here. A span has the last report about it. From these,
`bridge.tasks.progress` makes progress events.
"""

import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple, TypeVar

from bridge.tasks.rate import Rate

T = TypeVar("T")


Report = tuple[float, float | None, str | None, int]
"""What a task reports of a span: the figures, and the item of the loop in whose body it reports them.

A plain tuple, because each call of `progress()` makes one.
"""


class Figures(NamedTuple):
    """What is shown of a span."""

    current: float
    total: float | None
    message: str | None

    def fraction(self) -> float | None:
        """How much is done, from 0 to 1; `None` if the total is unknown."""
        if self.total is None or self.total <= 0:
            return None
        return 1.0 if self.current >= self.total else max(0.0, self.current / self.total)


here: "ContextVar[Span | None]" = ContextVar("bridge.tasks.spans.here", default=None)
"""The innermost open span of the task that runs in this context."""


class Span:
    """A part of a task's work, with the spans in it. The task's threads write it, the publisher reads it."""

    def __init__(self, tree: "SpanTree", parent: "Span | None") -> None:
        self.tree = tree
        self.parent = parent
        self.reported: Report | None = None
        self.count = 0
        """The items of a loop that are done."""
        self.loop: TrackedLoop | None = None
        """The loop begun last directly in this span, while it runs."""
        self.rate = Rate()
        self.closed = False
        self._outside: Span | None = None
        self.forget_steps()

    def forget_steps(self) -> None:
        """Start the count of steps again, as each item of a loop does."""
        self.steps_of = self.count
        self.announced = self.done = self.reserve = 0.0
        self.not_begun = self.begun = 0
        self.running: set[TrackedStep] = set()

    def figures(self) -> Figures | None:
        """Return the figures of this span itself, while its current item lasts."""
        if self.reported is None:
            return None
        current, total, message, item = self.reported
        return Figures(current, total, message) if item == self.count else None

    def fraction(self) -> float | None:
        """Return how much of this span is done, from 0 to 1; `None` if that cannot be known."""
        return self._furthest(self.figures())

    def _furthest(self, figures: Figures | None) -> float | None:
        """Return the largest fraction of the figures, the steps and the loop in this span."""
        found = (
            figures.fraction() if figures else None,
            self._by_steps(),
            self.loop.fraction() if self.loop else None,
        )
        return max((fraction for fraction in found if fraction is not None), default=None)

    def _by_steps(self) -> float | None:
        total = self.announced + self.reserve
        if self.steps_of != self.count or not total:
            return None
        running = sum(step.weight * (step.fraction() or 0.0) for step in self.running)
        return min(1.0, (self.done + running) / total)

    def enter(self) -> None:
        """Make this the innermost span, here and, in the task's own thread, for threads without a context."""
        self._outside = here.get()
        here.set(self)
        self.tree.entered(self)

    def leave(self) -> None:
        """Close this span: the one around it is the innermost again, unless others were entered since."""
        self.closed = True
        if here.get() is self:
            outside = self._outside
            while outside is not None and outside.closed:
                outside = outside._outside
            here.set(outside)
        self.tree.left(self)


class TrackedStep(Span):
    """A step with a name and a share of the span around it. Making it announces it."""

    parent: Span

    def __init__(self, parent: Span, name: str, weight: float) -> None:
        super().__init__(parent.tree, parent)
        self.name = name
        self.weight = weight
        with self.tree.lock:
            if parent.steps_of != parent.count:
                parent.forget_steps()
            parent.announced += weight
            parent.not_begun += 1
            self._siblings_begun = parent.begun

    @property
    def path(self) -> list[str]:
        """The names of the steps around this one, from the outside, and its own."""
        return [*steps_to(self.parent), self.name]

    def begin(self) -> None:
        """Enter the step.

        A step that was announced only now may not be the last: as much again is held back for others.
        """
        around = self.parent
        with self.tree.lock:
            alone = around.not_begun == 1 and around.begun == self._siblings_begun
            around.reserve = self.weight if alone else 0.0
            around.not_begun -= 1
            around.begun += 1
            around.running.add(self)
        self.enter()

    def end(self) -> None:
        """Leave the step: its share is done."""
        with self.tree.lock:
            self.parent.running.discard(self)
            self.parent.done += self.weight
        figures = self.figures()
        if figures is not None:
            self.tree.last_step = figures, self.rate
        self.leave()


class TrackedLoop(Span):
    """A loop over items. Spans within its body are parts of one item."""

    parent: Span

    def __init__(self, parent: Span, total: float | None, message: str | None) -> None:
        super().__init__(parent.tree, parent)
        self.total = total
        self.message = message

    def figures(self) -> Figures:
        return Figures(self.count, self.total, self.message)

    def item_figures(self) -> Figures | None:
        """Return the figures of the current item."""
        return super().figures()

    def fraction(self) -> float | None:
        """Return the share of the items that are done, including the part of the current item."""
        if not self.total:
            return None
        within = self._furthest(self.item_figures()) or 0.0
        return min(1.0, (self.count + within) / self.total)

    def iterate(self, items: Iterator[T]) -> Iterator[T]:
        """Yield the items and count those that the consumer is done with."""
        self.tree.begin_loop(self)
        self.enter()
        count = 0
        try:
            for item in items:
                yield item
                count += 1
                self.count = count
        finally:
            self.tree.end_loop(self)
            self.leave()


class SpanTree:
    """All spans of one run of a task, and which of them is the innermost.

    While `waiting` is true, the publisher will read the tree. A report while it is false calls `ask`, so that
    the publisher does. Threads may report, enter and leave spans at once.
    """

    def __init__(self, ask: Callable[[], None]) -> None:
        self.ask = ask
        self.root = Span(self, None)
        self.top = self.latest = self.root
        """The innermost span of the task's own thread, and the span with the last entry or report."""
        self.last_step: tuple[Figures | None, Rate] = (None, self.root.rate)
        """The figures of the step that ended last: shown after it, until something else is reported."""
        self.loops: set[TrackedLoop] = set()
        self.finished = False
        """Whether the run has ended: nothing more is reported."""
        self._thread = threading.get_ident()
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Note, in a forked child, that no publisher reads the tree."""
        self.waiting = False
        # Guards the counts of steps in each span. The garbage collector closes generators, which may end a
        # loop in a thread that holds the lock already.
        self.lock = threading.RLock()

    def entered(self, span: Span) -> None:
        """Note the innermost span."""
        self.latest = span
        if threading.get_ident() == self._thread:
            self.top = span
        self.changed()

    def left(self, span: Span) -> None:
        """Go back to what is around `span`, unless another was entered since."""
        around = span.parent or span
        self.latest = around if self.latest is span else self.latest
        self.top = around if self.top is span else self.top
        self.changed()

    def changed(self) -> None:
        """Request that the publisher reads the tree."""
        if not self.waiting and not self.finished:
            self.ask()

    def begin_loop(self, loop: TrackedLoop) -> None:
        """Note that `loop` runs. The publisher reads the tree regularly until it ends."""
        self.loops.add(loop)
        loop.parent.loop = loop

    def end_loop(self, loop: TrackedLoop) -> None:
        """Keep the last figures of `loop`, unless it is part of an item of another."""
        self.loops.discard(loop)
        if loop.parent.loop is loop:
            loop.parent.loop = None
        if not isinstance(loop.parent, TrackedLoop):
            loop.parent.reported, loop.parent.rate = (*loop.figures(), 0), loop.rate


def steps_to(span: Span | None) -> list[str]:
    """Return the names of the steps that are around `span` or are it, from the outside."""
    names = []
    while span is not None:
        if isinstance(span, TrackedStep):
            names.append(span.name)
        span = span.parent
    return names[::-1]
