"""States that only the worker's main process knows: RECEIVED, REVOKED, unknown tasks, refused messages."""

import weakref

# `Any` in this module: Celery hands consumers, tasks and messages of several unrelated classes to its
# signals.
from typing import TYPE_CHECKING, Any

from celery.exceptions import NotRegistered

from bridge.celery.apps import installed
from bridge.celery.canvas import cancelling, header
from bridge.celery.queueing import QUEUED_AT
from bridge.celery.states import publish_state, publish_task_state, reason_of, timestamp
from bridge.tasks import events

if TYPE_CHECKING:  # A process that only queues tasks does not load Celery's worker.
    from celery.worker.request import Request

PROCESS = "bridge_process"
"""The entry of a request that names the main process that has received the task."""

# The requests that this process has, as long as it has them: some signals name only the id of a task.
_requests: "weakref.WeakValueDictionary[str, Request]" = weakref.WeakValueDictionary()


def request_of(task_id: str) -> "Request | None":
    """Return the request of a task, or `None` if this main process does not have the task."""
    return _requests.get(task_id)


def requests_in_hand() -> "list[Request]":
    """Return the requests of the tasks that this main process has."""
    found = (reference() for reference in _requests.valuerefs())
    return [request for request in found if request is not None]


def topics_in_hand() -> list[str]:
    """Return the topics of the tasks that this main process has, of their canvases and of their tags."""
    topics: dict[str, None] = {}
    for request in requests_in_hand():
        topics[events.task_topic(request.id)] = None
        canvas = header.membership(request.request_dict)
        if canvas is not None:
            topics[events.task_topic(canvas.canvas_id)] = None
        for tag in (*header.tags_of(request.request_dict), *(canvas.tags if canvas else ())):
            topics[events.tag_topic(tag)] = None
    return list(topics)


def received(sender: Any, request: "Request", **_: Any) -> None:
    """Publish RECEIVED, and give the name of this process to the process that runs the task."""
    found = installed(sender.app)
    if found is None:
        return
    sent = request.request_dict
    # The message goes to the pool in every kind of pool, and with it the name of this process.
    sent[PROCESS] = found.process()
    who = {"name": request.name, "worker": request.hostname, "process": sent[PROCESS]}
    when = {"queued_at": sent.get(QUEUED_AT), "stalls_after": found.stalls_after}
    _requests[request.id] = request
    cancelling.revoke_if_cancelled(request)
    retries = sent.get("retries", 0)
    if retries and request.eta is not None:
        when["retry_at"] = timestamp(request.eta, sender.app)
    publish_state(found, "RECEIVED", request.id, retries, sent, **who, **when)


def revoked(sender: Any, request: Any, terminated: bool = False, expired: bool = False, **_: Any) -> None:
    """Publish REVOKED for a task that was revoked, terminated, or expired before it ran."""
    reason = "expired" if expired else "terminated" if terminated else "revoked"
    publish_task_state(sender, "REVOKED", request, reason=reason)


def unknown(sender: Any, name: str, id: str, message: Any = None, **_: Any) -> None:  # noqa: A002
    """Publish FAILURE for a task that this worker does not know."""
    error = {"type": NotRegistered.__name__, "message": f"no worker knows a task named {name!r}"}
    source = getattr(message, "headers", None) or {"id": id}
    publish_state(installed(sender.app), "FAILURE", id, None, source, name=name, error=error)


def rejected(sender: Any, message: Any, exc: BaseException | None = None, **_: Any) -> None:
    """Publish REJECTED for a message that is no task."""
    reason = "the message is no task" if exc is None else f"the message is no task: {reason_of(exc)}"
    headers = message.headers or {}
    publish_state(installed(sender.app), "REJECTED", headers.get("id"), None, headers, reason=reason)
