"""What Celery's signals say of a task, in whichever process they come."""

from typing import Any

from celery import current_app, signals

from bridge import events
from bridge.celery import parts
from bridge.celery.outboxes import FLUSH_WITHIN, only_outbox, outbox_of, post


def _say_state(state: str, task: Any, request: Any, **fields: Any) -> None:
    """Publish that `task` is now in `state`."""
    outbox = outbox_of(task.app)
    if outbox is None or not request.id:
        return
    fields |= {"state": state, "name": task.name, "worker": getattr(request, "hostname", None)}
    fields |= parts.relations(request) if state == "STARTED" else {"whole": parts.whole_of(request)}
    try:
        post(outbox, "state", request.id, request.retries, **fields)
    except ValueError:
        fields["result"] = events.in_words(fields.get("result"))
        post(outbox, "state", request.id, request.retries, **fields)
    parts.follow(outbox, request, state, task.name)


@signals.before_task_publish.connect
def _queued(sender: str, headers: dict[str, Any], **_: Any) -> None:
    outbox = outbox_of(current_app._get_current_object()) or only_outbox()  # type: ignore[attr-defined]
    task_id = headers.get("id")
    # A retry is published before the attempt that asked for it has ended; RETRY will tell.
    if outbox is None or task_id is None or headers.get("retries"):
        return
    parts.inherit(sender, headers)
    post(outbox, "state", task_id, 0, state="PENDING", name=sender, **parts.relations(headers))
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
    outbox = outbox_of(task.app)
    if outbox is not None:
        outbox.flush(FLUSH_WITHIN)
