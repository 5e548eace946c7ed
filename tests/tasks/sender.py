"""Asks for progress as the background publisher does."""

from collections.abc import Generator
from typing import Any

from bridge.tasks.progress import Meter
from bridge.tasks.spans import TrackedLoop, TrackedStep, here


class Sender:
    """Asks a meter for news as the background publisher does, on a clock that only `wait` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.meter = Meter(self.ask, clock=lambda: self.now)

    def ask(self) -> None:
        if self.meter.due <= self.now:
            self.take()
        else:
            self.meter.waiting = True

    def take(self) -> None:
        news = self.meter.news()
        if news is not None:
            self.sent.append((self.now, news))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.meter.waiting and self.meter.due <= until:
            self.now = self.meter.due
            self.take()
        self.now = until

    def say(self, current: float, total: float | None = None, message: str | None = None) -> None:
        span = here.get() or self.meter.root
        span.reported = (current, total, message, span.count)
        self.meter.latest = span
        self.meter.changed()

    def step(self, name: str, weight: float = 1) -> TrackedStep:
        return TrackedStep(here.get() or self.meter.root, name, weight)

    def loop(self, total: float | None, message: str | None = None) -> TrackedLoop:
        return TrackedLoop(here.get() or self.meter.root, total, message)

    def items(self, total: int | None, count: int) -> Generator[int]:
        """Return a loop over `count` items that may be closed before its end."""
        items = self.loop(total).iterate(iter(range(count)))
        assert isinstance(items, Generator)
        return items

    @property
    def last(self) -> dict[str, Any]:
        """The newest figures, whatever the throttle says."""
        self.take()
        return self.sent[-1][1]
