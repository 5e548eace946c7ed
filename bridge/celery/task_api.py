"""The functions that a task calls to publish something. Only bad arguments raise."""

import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType

# `Any` in this module: a task may publish any value, and iterate over anything.
from typing import Any, ParamSpec, TypeVar, cast

from bridge.celery.arguments import MOST, checked, length, number
from bridge.celery.task_run import TaskRun, innermost
from bridge.tasks import events
from bridge.tasks.encoding import in_text, in_words, well_formed
from bridge.tasks.event_types import Custom, Event, Log
from bridge.tasks.spans import Span, TrackedLoop, TrackedStep, here

logger = logging.getLogger("bridge.celery")

T = TypeVar("T")
P = ParamSpec("P")


def progress(current: float, total: float | None = None, message: str | None = None) -> None:
    """Publish how far the running task is: `current` of `total`, and a `message` about what it is doing.

    `current` and `total` are in any unit, for example rows or bytes. `total` may change; `None`, zero or less
    means that it is unknown. Call this as often as you like: viewers get the first call, the last, and
    between them the latest ten times a second, with a smoothed rate per second and the seconds left. The
    percentage that they get is of the entire task, and never goes back. In the body of a `track()` loop, the
    progress is that of the current item.

    Raises `ValueError` if `current` or `total` is no finite number, or beyond 1e100. Threads that the task
    starts may call it at any time: in the prefork and solo pools as they are, in other pools in a copy of the
    task's context (`contextvars.copy_context`). Outside a task it does nothing.
    """
    if not (
        type(current) is int
        and -MOST < current < MOST
        and (total is None or (type(total) is int and -MOST < total < MOST))
        and (message is None or type(message) is str)
    ):
        current, total, message = checked("progress", current, total, message)
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
    """Yield the items of `iterable`. Publish how many are done, how many per second, and the seconds left.

    `total` is the number of items. By default it is the length of the iterable, or unknown if that has none.
    `message` describes the loop. An item is done when the next one is requested. A loop that is left
    early stays where it was. Loops may be nested: an inner loop is the progress of one item of the outer
    loop. An item costs less than 0.1 microseconds.

    Raises `ValueError` if `total` is no finite number. What the iterable raises passes through. One thread
    iterates; several threads of a task may each have a loop. Outside a task it only iterates.
    """
    if total is None:
        total = length(iterable)
    _, total, message = checked("track", 0, total, message)
    items = iter(iterable)
    span = innermost()
    if span is None:
        _outside_a_task("track")
        return items
    return TrackedLoop(span, total, message).iterate(items)


class step:  # noqa: N801
    """A step of the running task: `with step("parse"): ...`, or `@step("parse")` on a function.

    Viewers see that it starts, and that it succeeds or, if it raises, fails. While it is open they see its
    name beside the progress in it. Steps may be nested.

    `weight` is its share of the work, in proportion to the weights of the other steps at its level. The task
    knows a step as soon as `step()` is called. So create all steps first, and the percentage is right from
    the beginning:

        parse, index = step("parse", weight=1), step("index", weight=3)
        with parse: ...
        with index: ...      # begins at 25 percent

    If a step is created only where it begins, nobody knows what follows. Then the same share again is
    reserved for that: the percentage slows down instead of going back. As a decorator, `step` creates one
    such step at each call.

    Raises `ValueError` if `name` is empty, longer than 100 characters or not printable, or if `weight` is
    negative or no finite number. Several threads of a task may be in steps at once. Outside a task it does
    nothing.
    """

    def __init__(self, name: str, weight: float = 1) -> None:
        name = well_formed(name) if isinstance(name, str) else name
        if not isinstance(name, str) or not 1 <= len(name) <= 100 or not name.isprintable():
            raise ValueError(
                f"step: the name must be a str of 1 to 100 printable characters, not {in_words(name)}"
            )
        self._name = name
        self._weight = number("step: weight", weight)
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
        _run_of(announced).publish_step(announced, "started")
        announced.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = self._open.pop()
        if entered is not None:
            entered.end()
            _run_of(entered).publish_step(entered, "succeeded" if kind is None else "failed")

    def __call__(self, function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def within(*args: P.args, **kwargs: P.kwargs) -> T:
            with step(self._name, self._weight):
                return function(*args, **kwargs)

        return within


def log(message: str, level: str = "info") -> None:
    """Add a line to the log that the viewers of the running task see.

    Other values than a `str` are converted to text. A text is cut after 10,000 characters. A snapshot holds
    the newest 1,000 lines and events of a task.

    Raises `ValueError` unless `level` is debug, info, warning, error or critical. Threads: see
    `progress`. Outside a task it does nothing.
    """
    if level not in events.LEVELS:
        raise ValueError(f"log: level must be one of {', '.join(events.LEVELS)}, not {in_words(level)}")
    _publish("log", Log, level=level, message=in_text(message))


def publish(type: str, data: Any = None) -> None:  # noqa: A002
    """Publish an event of the running task with a `type` of your own and JSON `data`.

    The event is sent in the background. If a task publishes more events than can be sent, the older ones are
    left out, and a log event of the task contains how many. Data that JSON cannot express, or that exceeds
    the channel's `max_payload`, is sent as its `repr`, cut after 10,000 characters.

    Raises `ValueError` if `type` is empty, longer than 100 characters, not printable, or a type that the
    bridge uses itself. Threads: see `progress`. Outside a task it does nothing.
    """
    _publish("publish", Custom, type=events.check_type(type), data=data)


def _publish(caller: str, event_type: Callable[..., Event], **fields: Any) -> None:
    span = innermost()
    if span is None:
        _outside_a_task(caller)
    else:
        _run_of(span).publish(event_type, **fields)


def _run_of(span: Span) -> TaskRun:
    return cast(TaskRun, span.tree)  # `innermost` returns no spans of other trees


def _outside_a_task(caller: str) -> None:
    logger.debug(
        "%s outside a task of an installed app: nothing to publish",
        caller,
        extra={"event": "outside_a_task", "caller": caller},
    )
