"""Groups, chains and chords as wholes: something to watch like a task, with one progress and one end.

Whoever starts a canvas writes into the headers of each of its tasks, also of those that are queued later and
elsewhere, which whole it belongs to and how many parts that has. So every part can say how far it is without
anybody having to count the others. Celery has no signal for the start of a canvas, so the method that starts
one is wrapped, as instrumentation does; it does nothing for apps without a bridge.
"""

import functools
import logging
from collections.abc import Callable
from itertools import islice
from typing import Any

from celery import chord, group
from celery.canvas import _chain
from celery.local import Proxy
from celery.result import GroupResult
from celery.utils import uuid

from bridge import events, wholes
from bridge.celery import tree
from bridge.celery.outboxes import FLUSH_WITHIN, outbox_of
from bridge.celery.parts import HEADER, mark_of, running
from bridge.outbox import Outbox

logger = logging.getLogger("bridge.celery")


def whole(result: Any) -> str:
    """Return the id of the whole whose parts are the tasks of a canvas, from the result of starting it.

    For a group that is the id of its result. What comes back from a chain or a chord is the result of its
    last task, which has events of its own; the whole is called after it. Watch
    `bridge.task_topic(whole(result))`.
    """
    return str(result.id) if isinstance(result, GroupResult) else f"whole:{result.id}"


def _marker(mark: str, only: str | None = None) -> Callable[[Any], None]:
    """Return what writes the mark into a signature: each task, or only that of one id."""

    def write(signature: Any) -> None:
        headers = signature.options.get("headers")
        if only is not None and signature.options.get("task_id") != only:
            return
        # A canvas hands its own headers to its tasks, over theirs.
        if headers or not isinstance(signature, tree.Canvas):
            signature.options["headers"] = {**(headers or {}), HEADER: mark}

    return write


def _as_whole(outbox: Outbox, canvas: Any, options: dict[str, Any]) -> tuple[Any, str | None]:
    """Return a copy of `canvas` whose tasks know their whole, and its id.

    There is none if they know it already: `canvas` is what is left of a larger one, or replaces a part.
    """
    if any(mark_of(task.options) for task in islice(tree.leaves(canvas), 1)):
        return canvas, None
    tasks = list(tree.leaves(canvas))
    request = running()
    own = mark_of(request) if request is not None else None
    if own is not None and any(task.options.get("task_id") == request.id for task in tasks):
        return tree.copied(canvas, _marker(own, only=request.id)), None
    held = tree.last(canvas)
    held_id = held.options.get("task_id") or options.get("task_id") or canvas.options.get("task_id") or uuid()
    name = held_id if isinstance(held, group) else f"whole:{held_id}"
    if held is canvas:
        options["task_id"] = held_id
    mark = f"{len(tasks)} {name}"
    if options.get("headers"):
        options["headers"] = {**options["headers"], HEADER: mark}
    copy = tree.copied(canvas, _marker(mark))
    tree.last(copy).options["task_id"] = held_id
    _declare(outbox, canvas, name, tasks, request)
    return copy, name


def _declare(outbox: Outbox, canvas: Any, name: str, tasks: list[Any], request: Any) -> None:
    kind = next(word for word, type_ in _KINDS.items() if isinstance(canvas, type_))
    about = {
        "canvas": kind,
        "name": ", ".join(list(dict.fromkeys(task.task for task in tasks))[:3]) or None,
        "parent": request and request.id,
        "root": request and (request.root_id or request.id),
    }
    outbox.put(events.task_topic(name), *wholes.declare(name, len(tasks), **about))
    outbox.flush(FLUSH_WITHIN)  # before a part can say that the whole has started


_KINDS: dict[str, Any] = {"group": group, "chain": _chain, "chord": chord}


def _give_up(outbox: Outbox, name: str | None, **about: Any) -> None:
    """End a whole, unless its last part has."""
    if name is not None:
        outbox.put(events.task_topic(name), *events.make("state", name, state="FAILURE", **about))


def _app_of(canvas: Any) -> Any:
    app = canvas.app
    return app._get_current_object() if isinstance(app, Proxy) else app


def _wrap(kind: Any) -> None:
    start = kind.apply_async

    @functools.wraps(start)
    def apply_async(self: Any, args: Any = None, kwargs: Any = None, *more: Any, **options: Any) -> Any:
        outbox = outbox_of(_app_of(self))
        if outbox is None:
            return start(self, args, kwargs, *more, **options)
        canvas, name = self, None
        try:
            if isinstance(self, chord) and (kwargs or {}).get("body"):
                canvas = self.clone()
                kwargs = dict(kwargs)
                canvas.kwargs["body"] = kwargs.pop("body")
            canvas, name = _as_whole(outbox, canvas, options)
        except Exception:
            logger.exception("a %s cannot be watched as a whole", kind.__name__)
        try:
            result = start(canvas, args, kwargs, *more, **options)
        except Exception as error:
            _give_up(outbox, name, error=events.error(error))
            raise
        if canvas.app.conf.task_always_eager:
            _give_up(outbox, name)  # all has run that ever will
        return result

    kind.apply_async = apply_async


for _kind in _KINDS.values():
    _wrap(_kind)
