"""What a task calls to say something. Only bad arguments raise."""

import functools
import logging
import math
import operator
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from bridge.celery.running import Run, innermost
from bridge.tasks import events
from bridge.tasks.encoding import in_text, in_words, well_formed
from bridge.tasks.event_types import Custom, Event, Log
from bridge.tasks.spans import Span, TrackedLoop, TrackedStep, here

logger = logging.getLogger("bridge.celery")

T = TypeVar("T")
P = ParamSpec("P")

_MOST = 1e100


def progress(current: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the running task is: `current` of `total`, in any unit, and what it is doing.

    May be called as often as one likes: viewers get the first call, the last, and between them the latest ten
    times a second, with a smoothed rate and the time left. A `total` that is zero or less counts as unknown;
    it may change. The percent that viewers get is of the whole task and never goes back. Within the body of a
    `track()` it is the progress of the item at hand. Outside a task it does nothing. Raises `ValueError` if a
    number is none or not finite.
    """
    if not (
        type(current) is int
        and -_MOST < current < _MOST
        and (total is None or (type(total) is int and -_MOST < total < _MOST))
        and (message is None or type(message) is str)
    ):
        current, total, message = _checked("progress", current, total, message)
    span = here.get()
    if span is None or span.tree.finished:
        span = innermost()
        if span is None:
            _outside_a_task("progress")
            return
    span.reported = (current, total, message, span.count)
    tree = span.tree
    tree.latest = span
    if not tree.waiting:
        tree.ask()


def track(iterable: Iterable[T], total: float | None = None, message: str | None = None) -> Iterator[T]:
    """Yield the items of `iterable`, and tell viewers how many are done, how fast, and how long it takes.

    `total` is taken from the iterable where it knows its length. An item counts as done when the next is
    asked for; a loop that is left early stays where it was. Loops may be nested: an inner one is the progress
    of one item of the outer. Costs a few dozen nanoseconds an item. What the iterable raises passes through.
    Outside a task it only iterates. Raises `ValueError` if `total` is no finite number.
    """
    if total is None:
        total = _length(iterable)
    _, total, message = _checked("track", 0, total, message)
    items = iter(iterable)
    span = innermost()
    if span is None:
        _outside_a_task("track")
        return items
    return TrackedLoop(span, total, message).iterate(items)


class step:  # noqa: N801
    """A step of the running task: `with step("parse"): ...`, or `@step("parse")` on a function.

    Viewers see it started, then succeeded or failed, and its name beside the progress within it. Steps may be
    nested, and be run by several threads at once.

    `weight` is its share of the whole beside the other steps around it. A step is known from when `step()` is
    called, so make all of them first if the bar is to be right from the beginning:

        parse, index = step("parse", weight=1), step("index", weight=3)
        with parse: ...
        with index: ...      # begins at 25 percent

    Of a step that is made only where it begins, nobody can know what follows: as much again is held back for
    that, and the bar slows down rather than going back. As a decorator, each call is such a step. Outside a
    task it does nothing. Raises `ValueError` for a name that is empty, longer than 100 characters or not
    printable, and for a weight that is negative or no finite number.
    """

    def __init__(self, name: str, weight: float = 1) -> None:
        name = well_formed(name) if isinstance(name, str) else name
        if not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable():
            raise ValueError(
                f"step: the name must be a str of 1 to 100 printable characters, not {in_words(name)}"
            )
        self._name = name
        self._weight = _number("step: weight", weight)
        if self._weight < 0:
            raise ValueError(f"step: weight must not be negative, not {self._weight!r}")
        span = innermost()
        self._announced = None if span is None else TrackedStep(span, name, self._weight)
        self._open: list[TrackedStep | None] = []

    def __enter__(self) -> None:
        announced, self._announced = self._announced, None
        span = innermost()
        if announced is None and span is not None:
            announced = TrackedStep(span, self._name, self._weight)
        self._open.append(announced)
        if announced is None:
            _outside_a_task("step")
            return
        _run_of(announced).say_step(announced, "started")
        announced.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._open.pop()
        if entered is not None:
            entered.end()
            _run_of(entered).say_step(entered, "succeeded" if kind is None else "failed")

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> T:
            with step(self._name, self._weight):
                return function(*args, **kwargs)

        return within


def log(message: str, level: str = "info") -> None:
    """Add a line to what the viewers of the running task see. Outside a task it does nothing.

    Raises `ValueError` unless `level` is one of debug, info, warning, error and critical.
    """
    if level not in events.LEVELS:
        raise ValueError(f"log: level must be one of {', '.join(events.LEVELS)}, not {in_words(level)}")
    _say("log", Log, level=level, message=in_text(message))


def publish(type: str, data: Any = None) -> None:  # noqa: A002
    """Publish an event of your own: a type and JSON data. Outside a task it does nothing.

    Nothing is throttled, but of more events than can be sent the older ones are left out, and a line in the
    log of the task says how many and where. Raises `ValueError` for a type that is empty, longer than 100
    characters, reserved or not printable. What JSON cannot express, and data for which the channel's
    `max_payload` is too small, is sent as its `repr`, cut with a mark after 10,000 characters.
    """
    _say("publish", Custom, kind=events.check_type(type), data=data)


def _say(caller: str, event_type: Callable[..., Event], **fields: Any) -> None:
    span = innermost()
    if span is None:
        _outside_a_task(caller)
    else:
        _run_of(span).say(event_type, **fields)


def _run_of(span: Span) -> Run:
    return cast(Run, span.tree)


def _outside_a_task(caller: str) -> None:
    logger.debug("%s outside a task of an installed app: nothing to publish", caller)


def _checked(
    who: str, current: float, total: float | None, message: object
) -> tuple[float, float | None, str | None]:
    return (
        _number(f"{who}: current", current),
        None if total is None else _number(f"{who}: total", total),
        None if message is None else in_text(message),
    )


def _number(what: str, value: object) -> float:
    """Return `value` as an `int` or `float`; raise `ValueError` if it is none or beyond 1e100."""
    number: float = math.nan
    try:
        if hasattr(value, "__index__"):
            number = operator.index(value)
        elif hasattr(value, "__float__"):
            number = float(value)
    except Exception:  # noqa: S110  # its own methods may raise anything
        pass
    if not -_MOST < number < _MOST:
        raise ValueError(f"{what} must be a finite number, not {in_words(value)}")
    return number


def _length(iterable: Iterable[Any]) -> int | None:
    """Return how many items `iterable` says it has, `None` if it does not know or cannot tell."""
    try:
        return operator.length_hint(iterable) or None
    except Exception:
        return None
