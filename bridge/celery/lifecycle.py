"""What Celery's signals say of a task, in whichever process they come.

| state             | comes from                                                                  |
|-------------------|-----------------------------------------------------------------------------|
| PENDING           | who queues it, when the broker has taken it                                 |
| RECEIVED          | the worker's main process                                                   |
| STARTED, SUCCESS, FAILURE, RETRY, IGNORED, REJECTED | where the task runs: in prefork, a child  |
| FAILURE           | also the main process: a hard time limit, a lost child, an unknown task     |
| REJECTED          | also the main process: a message that is no task                            |
| REVOKED           | the main process; where the task runs, if it gives up by itself             |
| STALLED           | whoever watches (`bridge.tasks.liveness`)                                           |
"""

import sys
import time
import weakref
from typing import Any

from celery import signals
from celery.exceptions import Ignore, NotRegistered, Reject
from celery.utils.time import maybe_make_aware

from bridge.celery import parts
from bridge.celery.cancellation import Cancelled
from bridge.celery.installation import FLUSH_WITHIN, Installed, flush_all, installed, sending, tell
from bridge.tasks import events

_IN_A_ROW = 0.05
"""Seconds between two tasks that are queued in a row."""

_WAITED_FOR = 20
"""Tasks in a row for which the one who queues them waits until that is told: a request, but not a mass."""

_QUEUED_AT = "bridge_queued_at"
_PROCESS = "bridge_process"

_last_queued = 0.0
_in_a_row = 0

# The requests that this main process has, while it has them: some signals name only the id of a task.
_requests: "weakref.WeakValueDictionary[str, Any]" = weakref.WeakValueDictionary()


def topics_in_hand() -> list[str]:
    """Return the topics of the tasks that this main process has, and of their canvases."""
    topics: dict[str, None] = {}
    for reference in _requests.valuerefs():
        request = reference()
        if request is not None:
            topics[events.task_topic(request.id)] = None
            canvas_id = parts.canvas_of(request.request_dict)
            if canvas_id is not None:
                topics[events.task_topic(canvas_id)] = None
    return list(topics)


def _say(
    found: Installed | None,
    state: str,
    task_id: str | None,
    retries: int | None,
    source: Any,
    **fields: Any,
) -> None:
    """Publish that a task is now in `state`; `retries` is `None` where that is not known.

    What the task belongs to is in `source`, its request or the headers of its message.
    """
    if found is None or not task_id:
        return
    attempt = None if retries is None else retries + 1
    known = state in ("PENDING", "STARTED")
    fields |= parts.relations(source) if known else {"canvas_id": parts.canvas_of(source)}
    tell(found.publisher, "state", task_id, attempt, state=state, **fields)
    parts.follow(found.publisher, source, state, fields.get("name"))


def _say_of(task: Any, state: str, request: Any, **fields: Any) -> None:
    """Publish that `task`, of which `request` is the context, is now in `state`."""
    worker = getattr(request, "hostname", None)
    fields |= {"name": task.name, "worker": worker}
    _say(installed(task.app), state, request.id, request.retries, request, **fields)


def _say_end(task: Any, task_id: str, state: str, **fields: Any) -> None:
    """Publish the end of a task that may not be the one this thread runs."""
    if task.request.id == task_id:
        _say_of(task, state, task.request, **fields)
    else:
        request = _requests.get(task_id)
        source = {"id": task_id} if request is None else request._context
        _say(installed(task.app), state, task_id, None, source, name=task.name, **fields)


@signals.before_task_publish.connect
def _about_to_queue(sender: str, headers: dict[str, Any], **_: Any) -> None:
    # Another handler of this signal may have sent a task meanwhile: only the first message is the app's own.
    if sending.sender is not None and sending.headers is None:
        sending.headers = headers
        headers.setdefault(_QUEUED_AT, round(time.time(), 3))
        parts.inherit(sender, headers)


@signals.after_task_publish.connect
def _queued(sender: str, headers: dict[str, Any], **_: Any) -> None:
    global _last_queued, _in_a_row
    found = sending.sender
    # A retry is published before the attempt that asked for it has ended; RETRY will tell.
    if found is None or sending.headers is not headers or headers.get("retries"):
        return
    _say(found, "PENDING", headers.get("id"), 0, headers, name=sender)
    _in_a_row = _in_a_row + 1 if time.monotonic() - _last_queued < _IN_A_ROW else 0
    if _in_a_row < _WAITED_FOR:
        found.publisher.flush(FLUSH_WITHIN)
    _last_queued = time.monotonic()


@signals.task_received.connect
def _received(sender: Any, request: Any, **_: Any) -> None:
    found = installed(sender.app)
    if found is None:
        return
    sent = request.request_dict
    # To the pool with the message: in every kind of pool it tells STARTED who has the task.
    sent[_PROCESS] = found.process()
    who = {"name": request.name, "worker": request.hostname, "process": sent[_PROCESS]}
    when = {"queued_at": sent.get(_QUEUED_AT), "stalls_after": found.stalls_after}
    _requests[request.id] = request
    retries = sent.get("retries", 0)
    if retries and request.eta is not None:
        when["retry_at"] = _timestamp(request.eta, sender.app)
    _say(found, "RECEIVED", request.id, retries, sent, **who, **when)


@signals.task_prerun.connect
def _started(task: Any, **_: Any) -> None:
    found, process = installed(task.app), getattr(task.request, _PROCESS, None)
    if found is not None:
        watched = {"process": process, "stalls_after": found.stalls_after} if process else {}
        again = (task.request.delivery_info or {}).get("redelivered") is True or None
        _say_of(task, "STARTED", task.request, redelivered=again, **watched)


@signals.task_success.connect
def _succeeded(sender: Any, result: Any, **_: Any) -> None:
    _say_of(sender, "SUCCESS", sender.request, result=result)


@signals.task_failure.connect
def _failed(sender: Any, task_id: str, exception: BaseException, einfo: Any = None, **_: Any) -> None:
    if isinstance(exception, Reject):
        _say_end(sender, task_id, "REJECTED", reason=_words(exception))
        return
    found = installed(sender.app)
    traceback = str(einfo.traceback) if found is not None and found.tracebacks and einfo else None
    _say_end(sender, task_id, "FAILURE", error=events.error(exception, traceback))
    if found is not None and sender.acks_late:
        found.publisher.flush(FLUSH_WITHIN)


@signals.task_internal_error.connect
def _broke(sender: Any, task_id: str, exception: BaseException, **_: Any) -> None:
    _say_end(sender, task_id, "FAILURE", error=events.error(exception))


@signals.task_retry.connect
def _retried(sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
    if reason is None:
        _stop(sender, request)
        return
    cause = getattr(reason, "exc", None)
    error = events.error(cause) if isinstance(cause, BaseException) else None
    why = getattr(reason, "message", None) or (error and (error["message"] or error["type"]))
    when = _timestamp(getattr(reason, "when", None), sender.app)
    _say_of(sender, "RETRY", request, error=error, reason=why and events.in_text(why), retry_at=when)


def _stop(task: Any, request: Any) -> None:
    """Tell of a task that its worker has killed, because it stops or has lost the broker.

    Celery calls that a retry, but nobody queues the task again: if it was acknowledged, it never runs.
    """
    if task.acks_late:
        _say_of(task, "PENDING", request, resumed=True, reason="requeued")
    else:
        _say_of(task, "REVOKED", request, reason="worker stopped")


def _timestamp(when: Any, app: Any) -> float | None:
    """Return a countdown from now, or a time, in seconds since the epoch; `None` if it is neither."""
    try:
        if hasattr(when, "__float__"):
            return round(time.time() + float(when), 3)
        return round(float(maybe_make_aware(when, app.timezone).timestamp()), 3)
    except Exception:
        return None


@signals.task_revoked.connect
def _revoked(sender: Any, request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:
    reason = "expired" if expired else "terminated" if terminated else "revoked"
    _say_of(sender, "REVOKED", request, reason=reason)


@signals.task_unknown.connect
def _unknown(sender: Any, name: str, id: str, message: Any = None, **_: Any) -> None:  # noqa: A002
    error = {"type": NotRegistered.__name__, "message": f"no worker knows a task named {name!r}"}
    source = getattr(message, "headers", None) or {"id": id}
    _say(installed(sender.app), "FAILURE", id, None, source, name=name, error=error)


@signals.task_rejected.connect
def _rejected(sender: Any, message: Any, exc: BaseException | None = None, **_: Any) -> None:
    reason = "the message is no task" if exc is None else f"the message is no task: {_words(exc)}"
    headers = message.headers or {}
    _say(installed(sender.app), "REJECTED", headers.get("id"), None, headers, reason=reason)


@signals.task_postrun.connect
def _ran(task: Any, retval: Any = None, state: str | None = None, **_: Any) -> None:
    found = installed(task.app)
    if found is None:
        return
    if isinstance(retval, Reject):
        _reject(task, retval)
    elif isinstance(retval, Ignore):
        _ignore(task, retval)
    elif state is None and (task.request.is_eager or _has(found, task.request)):
        _break_out(task, sys.exc_info()[1])
    # Not acknowledged until it has returned: its end must be out by then. Else that leaves in the background.
    if task.acks_late or task.request.is_eager:
        found.publisher.flush(FLUSH_WITHIN)


def _has(found: Installed, request: Any) -> bool:
    """Whether the task runs in the very process that has received it."""
    return getattr(request, _PROCESS, None) == found.process()


def _break_out(task: Any, exception: BaseException | None) -> None:
    """Tell of an exception that is no `Exception` where there is no child to lose: Celery tells nobody.

    It does not even acknowledge the task, unless it has before.
    """
    if exception is None or isinstance(exception, Exception):
        return
    error = events.error(exception)
    if isinstance(exception, _class("greenlet", "GreenletExit")):
        _say_of(task, "REVOKED", task.request, reason="terminated")
    elif isinstance(exception, _class("gevent.timeout", "Timeout")) and _is_limited(task):
        return  # of this one Celery tells
    elif task.acks_late and not task.request.is_eager:
        reason = f"not acknowledged after {error['type']}: {error['message']}"
        _say_of(task, "PENDING", task.request, resumed=True, reason=reason)
    else:
        _say_of(task, "FAILURE", task.request, error=error)


def _class(module: str, name: str) -> Any:
    """Return the class of that name, or what no object is an instance of if the module is not in use."""
    return getattr(sys.modules.get(module), name, ())


def _is_limited(task: Any) -> bool:
    """Whether the gevent pool ends the task after some time, which it does with a `Timeout`."""
    limits = task.request.timelimit or (None,)
    return not task.request.is_eager and bool(limits[0] or task.time_limit or task.app.conf.task_time_limit)


def _reject(task: Any, exception: Any) -> None:
    # What was acknowledged before it ran cannot be queued again.
    if exception.requeue and task.acks_late:
        _say_of(task, "PENDING", task.request, resumed=True, reason="requeued")
    else:
        _say_of(task, "REJECTED", task.request, reason=_words(exception))


def _ignore(task: Any, exception: Ignore) -> None:
    if isinstance(exception, Cancelled):
        exception.record(task)
        _say_of(task, "REVOKED", task.request, reason="cancelled")
    elif exception.args != _REPLACED:  # by a task of the same id, whose end will be its end
        _say_of(task, "IGNORED", task.request, reason=_words(exception))


_REPLACED = ("Replaced by new task",)
"""How `Task.replace` ends the task that it replaces."""


def _words(exception: BaseException) -> str | None:
    """Return what `exception` says, `None` if it says nothing."""
    said = getattr(exception, "reason", None) or (exception.args[0] if exception.args else None)
    return None if said is None else events.error(Exception(said))["message"]


@signals.worker_process_shutdown.connect
@signals.worker_shutdown.connect
def _leave(**_: Any) -> None:
    """A process of the pool, or the worker, ends: what it has to say leaves before."""
    flush_all()
