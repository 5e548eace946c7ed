"""Which outbox the events of a Celery app leave through."""

import atexit
import weakref
from typing import Any

from celery import Celery

from bridge import events
from bridge.connect import connect
from bridge.errors import ConfigurationError
from bridge.outbox import Outbox

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


def outbox_of(app: Celery) -> Outbox | None:
    """Return the outbox of `app`, `None` if it is not installed."""
    return _outboxes.get(app)


def only_outbox() -> Outbox | None:
    """Return the outbox if exactly one app of this process is installed."""
    return next(iter(_outboxes.values())) if len(_outboxes) == 1 else None


def post(outbox: Outbox, kind: str, task_id: str, retries: int | None, **fields: Any) -> None:
    payload, change = events.make(kind, task_id, attempt=(retries or 0) + 1, **fields)
    outbox.put(events.task_topic(task_id), payload, change)
