"""Celery tasks speak: lifecycle events by themselves, the rest through `progress`, `log` and `publish`.

Nothing here fails or stalls a task: events leave through an outbox, and only bad arguments raise.
"""

import atexit
import logging
import math
import weakref
from typing import Any

from celery import Celery, current_app, current_task, signals

from bridge import events
from bridge.connect import connect
from bridge.errors import ConfigurationError
from bridge.outbox import Outbox

logger = logging.getLogger("bridge.celery")

FLUSH_WITHIN = 1.0
"""Seconds a task's end, or the one who queues a task, waits at most for its events to leave."""

_outboxes: "weakref.WeakKeyDictionary[Celery, Outbox]" = weakref.WeakKeyDictionary()


def install(app: Celery, url: str, **options: Any) -> None:
    """Have the tasks of `app` publish their events on the channel of `url`; `options` are those of `connect`.

    Call it once where the app is made, so that workers and those who queue tasks both run it; a second
    call replaces the first. Opens nothing and starts no thread until there is an event to send. Raises
    `ConfigurationError`.
    """
    if not isinstance(app, Celery):
        raise ConfigurationError(f"install() takes a Celery app, not {type(app).__name__}")
    outbox = Outbox(connect(url, **options))
    previous = _outboxes.get(app)
    _outboxes[app] = outbox
    if previous is not None:
        previous.close()
    atexit.register(outbox.flush, FLUSH_WITHIN)


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
    outbox = _outboxes.get(task.app) if task and task.request.id else None
    if outbox is None:
        logger.debug("%s event outside a task of an installed app: nothing to publish", kind)
        return
    _post(outbox, kind, task.request.id, task.request.retries, **fields)


def _say_state(state: str, task: Any, request: Any, **fields: Any) -> None:
    """Publish that `task` is now in `state`."""
    outbox = _outboxes.get(task.app)
    if outbox is None or not request.id:
        return
    fields |= {"state": state, "name": task.name, "worker": getattr(request, "hostname", None)}
    try:
        _post(outbox, "state", request.id, request.retries, **fields)
    except ValueError:
        fields["result"] = events.in_words(fields.get("result"))
        _post(outbox, "state", request.id, request.retries, **fields)


def _post(outbox: Outbox, kind: str, task_id: str, retries: int | None, **fields: Any) -> None:
    payload, change = events.make(kind, task_id, attempt=(retries or 0) + 1, **fields)
    outbox.put(events.task_topic(task_id), payload, change)


@signals.before_task_publish.connect
def _queued(sender: str, headers: dict[str, Any], **_: Any) -> None:
    outbox = _outboxes.get(current_app._get_current_object())  # type: ignore[attr-defined]
    if outbox is None and len(_outboxes) == 1:
        outbox = next(iter(_outboxes.values()))
    task_id = headers.get("id")
    # A retry is published before the attempt that asked for it has ended; RETRY will tell.
    if outbox is None or task_id is None or headers.get("retries"):
        return
    _post(outbox, "state", task_id, 0, state="PENDING", name=sender)
    outbox.flush(FLUSH_WITHIN)


@signals.task_prerun.connect
def _started(task: Any, **_: Any) -> None:
    _say_state("STARTED", task, task.request)


@signals.task_success.connect
def _succeeded(sender: Any, result: Any, **_: Any) -> None:
    _say_state("SUCCESS", sender, sender.request, result=result)


@signals.task_failure.connect
def _failed(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    _say_state("FAILURE", sender, sender.request, error=events.error(exception))


@signals.task_retry.connect
def _retried(sender: Any, request: Any, reason: BaseException, **_: Any) -> None:
    _say_state("RETRY", sender, request, error=events.error(reason))


@signals.task_revoked.connect
def _revoked(sender: Any, request: Any, **_: Any) -> None:
    _say_state("REVOKED", sender, request)


@signals.task_postrun.connect
def _ended(task: Any, **_: Any) -> None:
    outbox = _outboxes.get(task.app)
    if outbox is not None:
        outbox.flush(FLUSH_WITHIN)
