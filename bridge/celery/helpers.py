"""What a task calls to say something. Only bad arguments raise."""

import logging
import math
from typing import Any

from celery import current_task

from bridge import events
from bridge.celery.outboxes import outbox_of, post

logger = logging.getLogger("bridge.celery")


def progress(current: float, total: float | None = None, message: str | None = None) -> None:
    """Say how far the running task is: `current` of `total`, in any unit, and what it is doing.

    Outside a task it does nothing. Raises `ValueError` if a number is none or not finite.
    """
    for name, value in (("current", current), ("total", total)):
        if not (value is None and name == "total") and not _is_number(value):
            raise ValueError(f"progress: {name} must be a finite number, not {value!r}")
    percent = None
    if total is not None and total > 0:
        percent = round(min(100.0, max(0.0, 100.0 * current / total)), 2)
    text = None if message is None else events.cut(str(message))
    _say("progress", current=current, total=total, percent=percent, message=text)


def log(message: str, level: str = "info") -> None:
    """Add a line to what the viewers of the running task see. Outside a task it does nothing.

    Raises `ValueError` unless `level` is one of debug, info, warning, error and critical.
    """
    if level not in events.LEVELS:
        raise ValueError(f"log: level must be one of {', '.join(events.LEVELS)}, not {level!r}")
    _say("log", level=level, message=events.cut(str(message)))


def publish(type: str, data: Any = None) -> None:  # noqa: A002
    """Publish an event of your own: a type and JSON data. Outside a task it does nothing.

    Raises `ValueError` for a type that is empty, too long, reserved or holds a line break, and for data
    larger than the channel's `max_payload`. What JSON cannot express is sent as its `repr`.
    """
    _say(events.check_type(type), data=data)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _say(kind: str, **fields: Any) -> None:
    """Publish an event of the task that is running in this thread, if one is."""
    task: Any = current_task
    if task and task.request.id is None:
        task = task.app.current_worker_task  # called as a function by a task
    outbox = outbox_of(task.app) if task and task.request.id else None
    if outbox is None:
        logger.debug("%s event outside a task of an installed app: nothing to publish", kind)
        return
    post(outbox, kind, task.request.id, task.request.retries, **fields)
