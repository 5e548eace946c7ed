"""Publishes the states of tasks, from whichever process they come.

| state | published by | module |
|---|---|---|
| PENDING | the process that queues the task, when the broker has the message | `queueing` |
| PENDING again | the process that runs the task, if the broker delivers it again | `execution`, `outcomes` |
| RECEIVED | the worker's main process | `main_process` |
| STARTED, SUCCESS, RETRY | the process that runs the task: under prefork, a child | `execution` |
| FAILURE | the same; the main process for a hard time limit or a lost child | `execution` |
| FAILURE | the main process, for a task that the worker does not know | `main_process` |
| IGNORED, REJECTED | the process that runs the task | `outcomes` |
| REJECTED | the main process, for a message that is no task | `main_process` |
| REVOKED | the main process | `main_process` |
| REVOKED | the process that runs the task, if the task or the worker ends it | `execution`, `outcomes` |
| STALLED | a process with viewers | `bridge.tasks.liveness` |
"""

import time

# `Any` in this module: Celery hands tasks and requests of several unrelated classes to its signals.
from typing import Any

from celery.utils.time import maybe_make_aware

from bridge.celery.apps import Installed, installed
from bridge.celery.canvas import header, reports
from bridge.celery.canvas.header import HeaderSource
from bridge.celery.publishing import publish_event
from bridge.support import tracing
from bridge.tasks import events
from bridge.tasks.event_types import State


def publish_state(
    found: Installed | None,
    state: str,
    task_id: str | None,
    retries: int | None,
    source: HeaderSource,
    **fields: Any,
) -> None:
    """Publish that a task is now in `state`.

    `retries` is `None` where it is not known. `source` names what the task belongs to.
    """
    if found is None or not task_id:
        return
    attempt = None if retries is None else retries + 1
    fields |= header.belonging(source)
    if state in ("PENDING", "STARTED"):
        fields |= header.relations(source)
    fields["traceparent"] = tracing.publish_state(events.task_topic(task_id), source, state)
    publish_event(found.publisher, State(task_id, state=state, attempt=attempt, **fields))
    reports.report(found.publisher, source, state, fields.get("name"))
    if found.on_state is not None:
        found.on_state(state, task_id, retries, source, fields)


def publish_task_state(task: Any, state: str, request: Any, **fields: Any) -> None:
    """Publish that `task` is now in `state`. `request` is the context in which it runs."""
    worker = getattr(request, "hostname", None)
    fields |= {"name": task.name, "worker": worker}
    publish_state(installed(task.app), state, request.id, request.retries, request, **fields)


def reason_of(exception: BaseException) -> str | None:
    """Return the reason that `exception` gives, or `None` if it gives none."""
    reason = getattr(exception, "reason", None) or (exception.args[0] if exception.args else None)
    return None if reason is None else events.error(Exception(reason))["message"]


def timestamp(when: Any, app: Any) -> float | None:
    """Return a countdown in seconds, or a time, as seconds since the epoch. Return `None` for others."""
    try:
        if hasattr(when, "__float__"):
            return round(time.time() + float(when), 3)
        return round(float(maybe_make_aware(when, app.timezone).timestamp()), 3)
    except Exception:
        return None
