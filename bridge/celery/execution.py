"""States of a task that runs: STARTED, SUCCESS, FAILURE and RETRY, as Celery signals them.

Celery also signals FAILURE in the worker's main process, after a hard time limit or the loss of a child.
"""

# `Any` in this module: Celery hands tasks and requests of several unrelated classes to its signals.
from typing import Any

from celery.exceptions import Reject

from bridge.celery import stored_arguments
from bridge.celery.apps import FLUSH_WITHIN, installed
from bridge.celery.main_process import PROCESS, request_of
from bridge.celery.states import publish_state, publish_task_state, reason_of, timestamp
from bridge.tasks import events
from bridge.tasks.encoding import in_text
from bridge.tasks.event_types import now

STARTED_AT = "bridge_started_at"
"""The entry of a request with the time at which this attempt has started."""


def started(task: Any, **_: Any) -> None:
    """Publish STARTED, with the main process whose heartbeats show that the task is alive."""
    found, process = installed(task.app), getattr(task.request, PROCESS, None)
    if found is not None:
        watched = {"process": process, "stalls_after": found.stalls_after} if process else {}
        at = now()
        setattr(task.request, STARTED_AT, at)
        arguments = stored_arguments.fields_of_request(task.request) if found.arguments else {}
        again = (task.request.delivery_info or {}).get("redelivered") is True or None
        publish_task_state(task, "STARTED", task.request, at=at, redelivered=again, **watched, **arguments)


def succeeded(sender: Any, result: Any, **_: Any) -> None:
    """Publish SUCCESS."""
    publish_task_state(sender, "SUCCESS", sender.request, result=result)


def failed(sender: Any, task_id: str, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    """Publish FAILURE, or REJECTED where Celery signals a rejection as a failure."""
    if isinstance(exception, Reject):
        _publish_end(sender, task_id, "REJECTED", reason=reason_of(exception))
        return
    found = installed(sender.app)
    traceback = str(einfo.traceback) if found is not None and found.tracebacks and einfo else None
    _publish_end(sender, task_id, "FAILURE", error=events.error(exception, traceback))
    if found is not None and sender.acks_late:
        found.publisher.flush(FLUSH_WITHIN)


def broke(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    """Publish FAILURE for an error of Celery itself while it runs the task."""
    _publish_end(sender, task_id, "FAILURE", error=events.error(exception))


def _publish_end(task: Any, task_id: str, state: str, **fields: Any) -> None:
    """Publish the end of a task that may not be the one that this thread runs."""
    if task.request.id == task_id:
        publish_task_state(task, state, task.request, **fields)
    else:
        request: Any = request_of(task_id)  # Celery's types leave `_context` out.
        source = {"id": task_id} if request is None else request._context
        publish_state(installed(task.app), state, task_id, None, source, name=task.name, **fields)


def retried(sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
    """Publish RETRY, with its reason and the time of the next attempt."""
    if reason is None:
        _stopped(sender, request)
        return
    cause = getattr(reason, "exc", None)
    error = events.error(cause) if isinstance(cause, BaseException) else None
    why = getattr(reason, "message", None) or (error and (error["message"] or error["type"]))
    when = timestamp(getattr(reason, "when", None), sender.app)
    why = why and in_text(why)
    started_at = getattr(request, STARTED_AT, None)
    publish_task_state(
        sender, "RETRY", request, error=error, reason=why, retry_at=when, started_at=started_at
    )


def _stopped(task: Any, request: Any) -> None:
    """Publish the state of a task that its worker has killed, because it stops or has lost the broker.

    Celery signals a retry, but nobody queues the task again: if it was acknowledged, it never runs.
    """
    if task.acks_late:
        publish_task_state(task, "PENDING", request, resumed=True, reason="requeued")
    else:
        publish_task_state(task, "REVOKED", request, reason="worker stopped")
