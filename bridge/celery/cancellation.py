"""Cancels tasks: anyone requests it, the task itself sees the request, and its end confirms it."""

import time
from contextlib import suppress
from dataclasses import dataclass

# `Any` in this module: Celery's own types leave out what is used here.
from typing import Any

from celery import Celery, current_app, current_task
from celery.exceptions import Ignore
from celery.worker.state import revoked

from bridge.celery.apps import Installed, installed, only_installed
from bridge.celery.canvas import cancelling
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.model.publication import Publication
from bridge.support.recent import Recent
from bridge.tasks import events
from bridge.tasks.changes import publication
from bridge.tasks.event_types import CancelRequested, Snapshot
from bridge.tasks.feed_limit import leave_feed
from bridge.tasks.snapshot import read_snapshot

LOOK_EVERY = 0.5
"""Seconds between two checks of the bridge for a request to cancel the running task."""

_TRIES = 5
"""How often `cancel` publishes the request if the state of the task changes meanwhile."""

_WAIT_IN_PROPORTION = 20
"""A check that fails is not repeated for so many times as long as it took, so that an outage costs little."""


class Cancelled(Ignore):
    """Raised in a task by `check_cancelled()`. It ends the task as REVOKED."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)

    def record(self, task: Any) -> None:
        """Store the end in Celery's result backend, which gets nothing from a task that ends in `Ignore`."""
        request = task.request
        ignored = task.ignore_result if request.ignore_result is None else request.ignore_result
        if not request.is_eager:
            task.backend.mark_as_revoked(request.id, str(self), request=request, store_result=not ignored)


def cancel(task_id: str, *, terminate: bool = False, app: Celery | None = None) -> bool:
    """Request the cancellation of a task. Return `False` if it has already ended, otherwise `True`.

    Viewers see the request at once as `cancel_requested`, and later the end of the task, REVOKED. A task that
    is queued does not start. A running task ends at its next call of `check_cancelled()`. With `terminate`
    the process that runs the task is killed. Only the prefork pool can do that; the gevent pool raises an
    exception in the task. Of a group, chain or chord all tasks are cancelled that have not ended.

    `app` is the Celery app of the task. The default is the current app if it has the bridge, otherwise the
    only app of this process that has it.

    Raises `ConfigurationError` if there is no such app, `ConnectionLost` or `PublishError` if the bridge
    cannot be reached, and whatever Celery raises if the broker cannot be reached. May be called in any
    thread.
    """
    celery, found = app_to_ask(app)
    snapshot = _snapshot(found, task_id)
    if snapshot.ended:
        return False
    if snapshot.parts is None:
        celery.control.revoke(task_id, terminate=terminate)
    else:
        about = {"canvas_id": task_id, "terminate": terminate}
        celery.control.broadcast(cancelling.COMMAND, arguments=about)
    for _ in range(_TRIES):
        request = _request(snapshot, terminate)
        if not found.feed:
            leave_feed(request)
        found.transport.publish(request)
        snapshot = _snapshot(found, task_id)
        if snapshot.ended or snapshot.cancel_requested is not None:
            return True
    raise PublishError(f"the task {task_id} changed too often to note that it is to be cancelled; try again")


def app_to_ask(app: Celery | None) -> tuple[Celery, Installed]:
    """Return the app to ask and its bridge: `app`, else the current one, else the only one with a bridge.

    Raises `ConfigurationError` if there is none.
    """
    # Celery keeps the current app per thread or greenlet. In other threads it is an app without a broker.
    # Celery's types say that it is an app; it is a proxy, which has this method.
    asked: Celery = app or current_app._get_current_object()  # type: ignore[attr-defined]
    found = installed(asked)
    if found is not None:
        return asked, found
    only = only_installed() if app is None else None
    if only is None:
        raise ConfigurationError(
            f"cancel() needs a Celery app with the bridge, which {asked.main or 'the current app'!r} is not: "
            "call install(app, url) first, or name the app of the task with cancel(task_id, app=app)"
        )
    return only


def _snapshot(found: Installed, task_id: str) -> Snapshot:
    states = found.transport.states(events.task_topic(task_id))
    return read_snapshot(states[0] if states else None, task_id)


def _request(snapshot: Snapshot, terminate: bool) -> Publication:
    """Return the event for the attempt that the state shows. The state refuses that of an earlier one."""
    attempt = (snapshot.attempt or 1) + (snapshot.state == "RETRY")
    event = CancelRequested(
        snapshot.task,
        terminate=True if terminate else None,
        canvas_id=snapshot.canvas_id,
        tags=snapshot.tags,
    )
    return publication(event, attempt)


def learn_requests(sender: Any, **_: Any) -> None:
    """Have a worker that starts revoke the tasks whose cancellation was requested before it started."""
    found = installed(sender.app)
    if found is None:
        return
    with suppress(ConnectionLost):  # The worker then knows only the revokes that it receives itself.
        for state in found.transport.states(events.FEED):
            task = events.task_of(state.topic)
            if task and "cancel_requested" in state.fields:
                revoked.add(task)
                if state.counts is not None:
                    cancelling.remember(task)


@dataclass(slots=True)
class _Check:
    """The last check for a request to cancel a task that runs here."""

    requested: bool = False
    again_at: float = 0.0
    """When to check again, by `time.monotonic`."""


_checks: Recent[str, _Check] = Recent(1000)
"""The checks of the tasks that run in this process, by id."""


def requested(task_id: str) -> bool:
    """Return whether the cancellation of the running task `task_id` was requested.

    However often it is called, it asks the bridge twice a second at most. While the bridge cannot be reached,
    it returns `False`.
    """
    check = _checks.get(task_id)
    if check is None:
        check = _checks[task_id] = _Check()
    if not check.requested and time.monotonic() >= check.again_at:
        _ask(check, task_id)
    return check.requested


def _ask(check: _Check, task_id: str) -> None:
    """Ask the bridge whether there is a request."""
    found = installed(current_task.app) if current_task else None
    began = time.monotonic()
    check.again_at = began + LOOK_EVERY
    if found is None or found.publisher.down:
        return
    try:
        check.requested = (
            found.transport.backend.field(events.task_topic(task_id), "cancel_requested") is not None
        )
    except ConnectionLost:
        check.again_at = began + max(LOOK_EVERY, _WAIT_IN_PROPORTION * (time.monotonic() - began))


def check_cancelled() -> None:
    """End the running task here, by raising `Cancelled`, if its cancellation was requested.

    Otherwise it does nothing. A task that catches `Cancelled` must raise it again; if it does not, it goes
    on. The bridge is asked twice a second at most; other calls take less than a microsecond. A request is
    therefore seen after up to 0.5 seconds. While the bridge cannot be reached, no request is seen.

    Call it in the thread that runs the task. Outside a task it does nothing.
    """
    task = current_task
    if task and task.request.id is not None and requested(task.request.id):
        raise Cancelled
