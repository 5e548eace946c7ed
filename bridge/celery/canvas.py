"""Groups, chains and chords as wholes: something to watch like a task, with one progress and one end.

Whoever starts a canvas writes into the headers of each of its tasks, also of those that are queued later and
elsewhere, which whole it belongs to and how many parts that has. So every part can say how far it is without
anybody having to count the others. Where a generator makes the tasks, nobody knows how many there are before
the last is sent; that is told then. Celery has no signal for the start of a canvas, so the method that starts
one is wrapped, as instrumentation does; it does nothing for apps without a bridge.
"""

import functools
import logging
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

from celery import chord, group
from celery.canvas import _chain
from celery.local import Proxy
from celery.result import AsyncResult, GroupResult
from celery.utils import uuid

from bridge.celery import tree
from bridge.celery.installation import FLUSH_WITHIN, publisher_of
from bridge.celery.marks import Start, erase_mark, keep_mark, marking, start_of, write_mark
from bridge.celery.parts import made_mark, mark_of, running
from bridge.tasks import canvas as canvas_events
from bridge.tasks import events
from bridge.tasks.publisher import BackgroundPublisher

logger = logging.getLogger("bridge.celery")

STARTS_AT_ONCE = 100
"""Starts of one chain that may be under way together."""


def canvas_id(result: Any) -> str:
    """Return the id of the whole whose parts are the tasks of a canvas, from the result of starting it.

    For a group that is the id of its result. What comes back from a chain or a chord is the result of its
    last task, which has events of its own; the whole is called after it. Watch
    `bridge.task_topic(canvas_id(result))`. Raises `TypeError` for anything but a result.
    """
    if not isinstance(result, AsyncResult | GroupResult):
        raise TypeError(
            "canvas_id() takes the result of starting a canvas, as canvas.apply_async() returns it, "
            f"not {type(result).__name__}; of a single task bridge.task_topic(task_id) is the topic"
        )
    return str(result.id) if isinstance(result, GroupResult) else f"canvas:{result.id}"


@dataclass
class _Plan:
    """How a canvas is started."""

    canvas: Any
    kwargs: Any
    options: dict[str, Any]
    body: Any = None
    """The body that a chord is started with, if it is not its own."""
    start: Start | None = None
    canvas_id: str | None = None
    size: int | None = None
    """How many tasks there are, `None` as long as a generator may make more."""

    def __post_init__(self) -> None:
        if isinstance(self.canvas, chord):
            self.body = (self.kwargs or {}).get("body")
        self.app = _app_of(self.canvas)

    def leaves(self, *, unroll: bool = False) -> Iterator[Any]:
        return tree.leaves(self.canvas, self.app, body=self.body, unroll=unroll)


def _prepare(publisher: BackgroundPublisher, plan: _Plan) -> None:
    """Settle to which whole the tasks of a canvas belong, and tell of a new one.

    There is no new one if they know theirs: the canvas is what is left of a larger one, or replaces a part.
    """
    outer, request = start_of(plan.canvas), running()
    if outer is not None:
        outer.keep(plan.canvas, plan.options)
        plan.start = outer
        return
    own = mark_of(request) if request is not None else None
    if own is not None and any(task.options.get("task_id") == request.id for task in plan.leaves()):
        plan.start = Start(own, only=request.id)
        return
    marks = [mark_of(task.options) for task in plan.leaves()]
    if any(marks):
        if all(marks):
            keep_mark(plan.canvas, plan.options, str(marks[0]))
        return
    _begin(plan)
    _declare(publisher, plan, request)


def _begin(plan: _Plan) -> None:
    """Make a whole of a canvas."""
    canvas, app, options = plan.canvas, plan.app, plan.options
    eager = app.conf.task_always_eager
    if eager or not tree.is_open(canvas, app, body=plan.body):
        plan.size = sum(1 for _ in plan.leaves(unroll=True))
    held = tree.last(plan.body or canvas, app)
    last_id = held.options.get("task_id") or options.get("task_id") or _id_of(plan) or uuid()
    plan.canvas_id = last_id if isinstance(held, group) else f"canvas:{last_id}"
    if held is canvas:
        options["task_id"] = last_id
    if isinstance(canvas, _chain):
        _drawn_for(canvas).append(last_id)
    mark = made_mark(plan.canvas_id, plan.size)
    keep_mark(canvas, options, mark)
    if eager:
        _copy(plan, mark, last_id)
    else:
        plan.start = Start(mark, last=canvas if held is canvas else None, last_id=last_id)


def _id_of(plan: _Plan) -> Any:
    """Return the id that the caller has set on the canvas itself."""
    given = plan.canvas.options.get("task_id")
    if isinstance(plan.canvas, _chain) and given in _drawn_for(plan.canvas):
        # Celery leaves the id of the last task on the chain, and would give it to this start too.
        given = plan.options["task_id"] = uuid()
    return given


def _drawn_for(canvas: Any) -> "deque[Any]":
    """Return the ids that earlier starts of a chain have drawn."""
    drawn: deque[Any] = canvas.__dict__.setdefault("bridge_drawn", deque(maxlen=STARTS_AT_ONCE))
    return drawn


def _copy(plan: _Plan, mark: str, last_id: Any) -> None:
    """Have a copy with marks started instead: in eager mode tasks get their ids when they run."""

    def write(signature: Any) -> None:
        if signature.options.get("headers") or not isinstance(signature, tree.Canvas):
            write_mark(signature.options, mark)

    written = plan.canvas
    if plan.body is not None:
        written = written.clone()
        written.kwargs["body"] = plan.body
    plan.canvas = tree.copied(written, write, plan.app)
    tree.last(plan.canvas, plan.app).options["task_id"] = last_id
    if plan.body is not None:
        plan.kwargs = {**plan.kwargs, "body": plan.canvas.body}


def _declare(publisher: BackgroundPublisher, plan: _Plan, request: Any) -> None:
    kind = next(word for word, type_ in _KINDS.items() if isinstance(plan.canvas, type_))
    names = dict.fromkeys(task.task for task in plan.leaves())
    about = {
        "canvas": kind,
        "name": ", ".join(islice(names, 3)) or None,
        "parent": request and request.id,
        "root": request and (request.root_id or request.id),
    }
    name = str(plan.canvas_id)
    publisher.put(canvas_events.declare(name, plan.size, **about))
    publisher.flush(FLUSH_WITHIN)  # before a part can say that the whole has started


_KINDS: dict[str, Any] = {"group": group, "chain": _chain, "chord": chord}


def _erase(plan: _Plan) -> None:
    """Take the marks out of the caller's tasks: some versions of Celery put their copies into the canvas."""
    if plan.canvas_id is not None and plan.start is not None:
        for task in plan.leaves():
            erase_mark(task.options, plan.start.mark)


def _settle(publisher: BackgroundPublisher, plan: _Plan) -> None:
    """Tell how many tasks there are, now that all are sent."""
    if plan.canvas_id is not None and plan.size is None:
        plan.size = sum(1 for _ in plan.leaves(unroll=True))
        publisher.put(canvas_events.settle(plan.canvas_id, plan.size))


def _give_up(publisher: BackgroundPublisher, plan: _Plan, **about: Any) -> None:
    """End a whole, unless its last part has."""
    if plan.canvas_id is not None:
        publisher.put(events.make("state", plan.canvas_id, state="FAILURE", **about))


def _app_of(canvas: Any) -> Any:
    app = canvas.app
    return app._get_current_object() if isinstance(app, Proxy) else app


def _wrap(kind: Any) -> None:
    start = kind.apply_async

    @functools.wraps(start)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        publisher = publisher_of(_app_of(self))
        if publisher is None:
            return start(self, args, kwargs, *more, **options)
        plan = _Plan(self, kwargs, options)
        with _logged(kind):
            _prepare(publisher, plan)
        try:
            with marking(plan.start):
                result = start(plan.canvas, args, plan.kwargs, *more, **options)
        except Exception as error:
            _give_up(publisher, plan, error=events.error(error))
            raise
        finally:
            with _logged(kind):
                _erase(plan)
        with _logged(kind):
            _settle(publisher, plan)
        if plan.app.conf.task_always_eager:
            _give_up(publisher, plan)  # all has run that ever will
        return result

    kind.apply_async = apply_async


@contextmanager
def _logged(kind: Any) -> Iterator[None]:
    """Log an error of the bridge: it costs the bar, and not the tasks."""
    try:
        yield
    except Exception:
        logger.exception("a %s cannot be watched as a whole", kind.__name__)


for _kind in _KINDS.values():
    _wrap(_kind)
