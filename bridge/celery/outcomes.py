"""Ends of a task for which Celery has no signal: `Ignore`, `Reject`, and exceptions such as `SystemExit`."""

import sys

# `Any` in this module: Celery hands tasks of several unrelated classes to its signals.
from typing import Any

from celery.exceptions import Ignore, Reject

from bridge.celery.apps import FLUSH_WITHIN, Installed, installed
from bridge.celery.cancellation import Cancelled
from bridge.celery.main_process import PROCESS
from bridge.celery.states import publish_task_state, reason_of
from bridge.tasks import events

_REPLACED = ("Replaced by new task",)
"""The arguments of the `Ignore` with which `Task.replace` ends the task that it replaces."""


def returned(task: Any, retval: Any = None, state: str | None = None, **_: Any) -> None:
    """Publish the end of a task that has returned, if Celery has not signalled it."""
    found = installed(task.app)
    if found is None:
        return
    if isinstance(retval, Reject):
        _rejected(task, retval)
    elif isinstance(retval, Ignore):
        _ignored(task, retval)
    elif state is None and (task.request.is_eager or _received_here(found, task.request)):
        _broken_out(task, sys.exc_info()[1])
    # A task with `acks_late` is acknowledged after this: its end must be sent before. Other ends are sent in
    # the background.
    if task.acks_late or task.request.is_eager:
        found.publisher.flush(FLUSH_WITHIN)


def _received_here(found: Installed, request: Any) -> bool:
    """Whether the task runs in the process that has received it."""
    return getattr(request, PROCESS, None) == found.process()


def _broken_out(task: Any, exception: BaseException | None) -> None:
    """Publish the state after an exception that is no `Exception`, where there is no child to lose.

    Celery signals nothing then. It does not acknowledge the task either, unless it has done so before.
    """
    if exception is None or isinstance(exception, Exception):
        return
    error = events.error(exception)
    if isinstance(exception, _class("greenlet", "GreenletExit")):
        publish_task_state(task, "REVOKED", task.request, reason="terminated")
    elif isinstance(exception, _class("gevent.timeout", "Timeout")) and _has_time_limit(task):
        return  # Celery signals this failure.
    elif task.acks_late and not task.request.is_eager:
        reason = f"not acknowledged after {error['type']}: {error['message']}"
        publish_task_state(task, "PENDING", task.request, resumed=True, reason=reason)
    else:
        publish_task_state(task, "FAILURE", task.request, error=error)


def _class(module: str, name: str) -> Any:
    """Return a class of a module. If it is not loaded, return `()`: no object is an instance of that."""
    return getattr(sys.modules.get(module), name, ())


def _has_time_limit(task: Any) -> bool:
    """Whether the gevent pool ends the task after some time, with a `Timeout`."""
    limits = task.request.timelimit or (None,)
    return not task.request.is_eager and bool(limits[0] or task.time_limit or task.app.conf.task_time_limit)


def _rejected(task: Any, exception: Any) -> None:
    # A message that was acknowledged before the task ran cannot be queued again.
    if exception.requeue and task.acks_late:
        publish_task_state(task, "PENDING", task.request, resumed=True, reason="requeued")
    else:
        publish_task_state(task, "REJECTED", task.request, reason=reason_of(exception))


def _ignored(task: Any, exception: Ignore) -> None:
    if isinstance(exception, Cancelled):
        exception.record(task)
        publish_task_state(task, "REVOKED", task.request, reason="cancelled")
    elif (
        exception.args != _REPLACED
    ):  # The task that replaces this one has the same id, and publishes the end.
        publish_task_state(task, "IGNORED", task.request, reason=reason_of(exception))
