"""Cancelling a task: asked for by anyone, seen by the task itself, confirmed by its end."""

import time
from contextlib import suppress
from typing import Any

from celery import Celery, current_app, current_task, signals
from celery.exceptions import Ignore
from celery.worker.state import revoked

from bridge.celery.installation import Installed, installed, only_installed
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.model.publication import Publication
from bridge.tasks import events

LOOK_EVERY = 0.5
"""Seconds between two looks of a running task at whether it should stop."""

_MOST_LOOKS = 1000
_TRIES = 5

_WAIT_IN_PROPORTION = 20
"""A look that failed is not repeated for so many times as long as it took, so that an outage costs little."""


class Cancelled(Ignore):
    """Raised in a task by `check_cancelled()`; it ends the task as REVOKED."""

    def __init__(self, reason: str = "cancelled") -> None:
        super().__init__(reason)

    def record(self, task: Any) -> None:
        """Tell Celery's result backend, which hears nothing of a task that ends in `Ignore`."""
        request = task.request
        ignored = task.ignore_result if request.ignore_result is None else request.ignore_result
        if not request.is_eager:
            task.backend.mark_as_revoked(request.id, str(self), request=request, store_result=not ignored)


def cancel(task_id: str, *, terminate: bool = False, app: Celery | None = None) -> bool:
    """Ask for a task to be cancelled; return whether that was still possible: `False` once it has ended.

    Viewers see at once that it was asked for, and by its end, REVOKED, that it is done: a task that is queued
    is not begun, and one that runs ends at its next `check_cancelled()`. With `terminate` the process that
    runs it is killed, which only the prefork pool can do (gevent's raises an error in the task). `app` is the
    app of the task; unless given, the current one if it is installed, else the only one of this process that
    is. Raises `ConfigurationError` if there is none, `ConnectionLost` or `PublishError` if the bridge cannot
    be reached, and what the broker raises.
    """
    celery, found = _app_to_ask(app)
    snapshot = _snapshot(found, task_id)
    if events.end_of(snapshot):
        return False
    celery.control.revoke(task_id, terminate=terminate)
    for _ in range(_TRIES):
        found.transport.publish(_asked(snapshot, terminate))
        snapshot = _snapshot(found, task_id)
        if events.end_of(snapshot) or "cancel_requested" in snapshot:
            return True
    raise PublishError(f"the task {task_id} changed too often to note that it is to be cancelled; try again")


def _app_to_ask(app: Celery | None) -> tuple[Celery, Installed]:
    # Celery keeps the current app per thread, and a greenlet is one: elsewhere it is an app without broker.
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


def _snapshot(found: Installed, task_id: str) -> dict[str, Any]:
    states = found.transport.states(events.task_topic(task_id))
    return events.snapshot(states[0] if states else None, task_id)


def _asked(snapshot: dict[str, Any], terminate: bool) -> Publication:
    """Return the event that fits the state: a later attempt than it knows would refuse it."""
    attempt = snapshot.get("attempt", 1) + (snapshot["state"] == "RETRY")
    return events.make(
        "cancel_requested", snapshot["task"], attempt=attempt, terminate=True if terminate else None
    )


@signals.worker_init.connect
@signals.worker_ready.connect  # and once more when it hears for itself
def _learn(sender: Any, **_: Any) -> None:
    """Have a worker that starts know what was asked for while it was not there to hear of it."""
    found = installed(sender.app)
    if found is None:
        return
    with suppress(ConnectionLost):  # then the revokes that reach it have to do
        for state in found.transport.states(events.FEED):
            task = events.task_of(state.topic)
            if task and "cancel_requested" in state.fields:
                revoked.add(task)


class _Look:
    """What was last seen of the task that runs here, and when to look again."""

    task_id = ""
    found = False
    again_at = 0.0


_looks: dict[str, _Look] = {}


def requested(task_id: str) -> bool:
    """Whether somebody asked for the running task `task_id` to be cancelled.

    Asks the bridge twice a second at most, however often it is called; while the bridge cannot be reached
    the answer is `False`.
    """
    look = _looks.get(task_id)
    if look is None:
        if len(_looks) > _MOST_LOOKS:
            _looks.clear()
        look = _looks.setdefault(task_id, _Look())
    if not look.found and time.monotonic() >= look.again_at:
        _look(look, task_id)
    return look.found


def _look(look: _Look, task_id: str) -> None:
    task: Any = current_task
    found = installed(task.app) if task else None
    began = time.monotonic()
    look.again_at = began + LOOK_EVERY
    if found is None or found.publisher.down:
        return
    try:
        look.found = found.transport.backend.field(events.task_topic(task_id), "cancel_requested") is not None
    except ConnectionLost:
        look.again_at = began + max(LOOK_EVERY, _WAIT_IN_PROPORTION * (time.monotonic() - began))


def check_cancelled() -> None:
    """End the running task here if somebody asked for it: raises `Cancelled`, else does nothing.

    Let it through: a task that catches it must raise it again, or goes on. Costs under a microsecond between
    two looks. Outside a task it does nothing.
    """
    task: Any = current_task
    if task and task.request.id is not None and requested(task.request.id):
        raise Cancelled
