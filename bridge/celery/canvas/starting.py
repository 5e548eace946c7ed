"""Publishes that a canvas is started, and with it the number of its tasks.

The process that starts a canvas knows all its tasks; no other process ever does, because the links of a chain
are queued one by one. So it writes into the header of each task the id of the canvas and the number of tasks.
Then every task can report to the canvas without counting the others. Where a generator makes the tasks, their
number is published when all are sent. Celery has no signal for the start of a canvas, so `apply_async` of its
classes is wrapped. The wrapper does nothing for apps without the bridge.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice

# `Any` in this module: Celery's signatures hold what the caller puts into them, and their classes share no
# types.
from typing import Any

from celery import chord, group
from celery.canvas import _chain

from bridge.celery.apps import FLUSH_WITHIN, publisher_of
from bridge.celery.canvas.header import current_request
from bridge.celery.canvas.marking import marking, wrap_id_methods
from bridge.celery.canvas.plan import Plan, app_of
from bridge.tasks import canvas as canvas_events
from bridge.tasks import events
from bridge.tasks.changes import publication
from bridge.tasks.event_types import State
from bridge.tasks.publisher import BackgroundPublisher

logger = logging.getLogger("bridge.celery")

_KINDS: dict[str, type[Any]] = {"group": group, "chain": _chain, "chord": chord}


def wrap_canvas_classes() -> None:
    """Wrap the methods that start a canvas, and those that give its tasks their ids."""
    wrap_id_methods()
    for kind in _KINDS.values():
        _wrap(kind)


def _wrap(kind: type[Any]) -> None:
    start: Callable[..., Any] = kind.apply_async

    @functools.wraps(start)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        publisher = publisher_of(app_of(self))
        if publisher is None:
            return start(self, args, kwargs, *more, **options)
        plan = Plan(self, kwargs, options)
        with _watched(kind, publisher, plan):
            return start(plan.canvas, args, plan.kwargs, *more, **options)

    kind.apply_async = apply_async


@contextmanager
def _watched(kind: type[Any], publisher: BackgroundPublisher, plan: Plan) -> Iterator[None]:
    """Publish what is known of a canvas before it is started in this block, and after that."""
    with _logged(kind):
        plan.prepare()
        _declare(publisher, plan)
    try:
        with marking(plan.start):
            yield
    except Exception as error:
        _fail(publisher, plan, error=events.error(error))
        raise
    finally:
        with _logged(kind):
            plan.erase_headers()
    with _logged(kind):
        _settle(publisher, plan)
    if plan.is_eager:
        _fail(publisher, plan)  # All tasks have run that ever will. A canvas that has ended stays as it is.


@contextmanager
def _logged(kind: type[Any]) -> Iterator[None]:
    """Log an error of the bridge. Its tasks run, but nobody sees their progress together."""
    try:
        yield
    except Exception:
        logger.exception(
            "the tasks of a %s cannot be watched together",
            kind.__name__,
            extra={"event": "canvas_failed", "canvas": kind.__name__},
        )


def _declare(publisher: BackgroundPublisher, plan: Plan) -> None:
    """Publish that the canvas is queued, before any of its tasks can report."""
    if plan.canvas_id is None:
        return
    request = current_request()
    names = dict.fromkeys(task.task for task in plan.leaves())
    about = {
        "canvas": next(word for word, kind in _KINDS.items() if isinstance(plan.canvas, kind)),
        "name": ", ".join(islice(names, 3)) or None,
        "parent": request and request.id,
        "root": request and (request.root_id or request.id),
        "tags": plan.tags or None,
    }
    publisher.put(canvas_events.declare(plan.canvas_id, plan.size, **about))
    publisher.flush(FLUSH_WITHIN)


def _settle(publisher: BackgroundPublisher, plan: Plan) -> None:
    """Publish the number of tasks, now that all are sent, unless it was known before."""
    if plan.canvas_id is not None and plan.size is None:
        publisher.put(canvas_events.settle(plan.canvas_id, plan.count(), plan.tags))


def _fail(publisher: BackgroundPublisher, plan: Plan, **about: Any) -> None:
    """End the canvas in FAILURE, unless its last task has ended it."""
    if plan.canvas_id is not None:
        publisher.put(
            publication(State(plan.canvas_id, state="FAILURE", attempt=1, tags=plan.tags or None, **about))
        )
