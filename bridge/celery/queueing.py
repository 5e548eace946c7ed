"""PENDING: a task is queued. The process that queues it publishes this event when the broker has the message.

Celery's signals name the message, but not the app that sends it. So `send_task` of each app with the bridge
is wrapped, and notes for the signals which app is sending in this thread.
"""

import functools
import threading
import time

# `Any` in this module: headers hold any JSON value, and `send_task` is called with what the caller passes.
from typing import Any

from celery import Celery

from bridge.celery import stored_arguments
from bridge.celery.apps import FLUSH_WITHIN, Installed, installed
from bridge.celery.canvas import header
from bridge.celery.states import publish_state
from bridge.celery.tagging import arguments_in, tag_message
from bridge.support import tracing

QUEUED_AT = "bridge_queued_at"
"""The header with the time at which a task was queued, in seconds since the epoch."""

_IN_A_ROW = 0.05
"""Two tasks that are queued within so many seconds are queued in a row."""

_WAITED_FOR = 20
"""Tasks in a row whose sender waits until PENDING is sent: enough for a request, too few to delay a batch."""


class _Sending(threading.local):
    """The message that is being sent in this thread."""

    sender: Installed | None = None
    """The bridge of the app that sends it, or `None` if that app has none."""
    headers: dict[str, Any] | None = None
    """The headers of the message, once they are known."""


class _Row:
    """How many tasks were queued in a row. Threads share it without a lock: the count may be inexact."""

    last_at = 0.0
    length = 0


_sending = _Sending()
_row = _Row()


def wrap_send_task(app: Celery) -> None:
    """Wrap `send_task` of one app so that the signals know when that app sends a task."""
    own = vars(app).get("send_task")

    @functools.wraps(app.send_task)
    def send_task(*args: Any, **kwargs: Any) -> Any:
        before = _sending.sender, _sending.headers
        _sending.sender, _sending.headers = installed(app), None
        try:
            return (own or _send_task_of_class(app))(*args, **kwargs)
        finally:
            _sending.sender, _sending.headers = before

    vars(app)["send_task"] = send_task


def _send_task_of_class(app: Celery) -> Any:
    """Return `send_task` as the class of `app` has it now: it may be replaced after `install`.

    A mock in its place is no method: it is called without the app.
    """
    found: Any = type(app).send_task
    return found.__get__(app) if hasattr(found, "__get__") else found


def before_publish(sender: str, headers: dict[str, Any], body: object = None, **_: Any) -> None:
    """Write the bridge's headers into a message that is about to be sent.

    Before a retry is sent, wait until the events of this attempt are. The next attempt may run in another
    process at once, and then the backend refuses what is left of this one.
    """
    # Another handler of this signal may have sent a task meanwhile: only the first message is the app's own.
    if _sending.sender is not None and _sending.headers is None:
        _sending.headers = headers
        headers.setdefault(QUEUED_AT, round(time.time(), 3))
        tracing.inject(headers)
        header.inherit(sender, headers)
        tag_message(_sending.sender, sender, headers, body)
        if headers.get("retries"):
            _sending.sender.publisher.flush(FLUSH_WITHIN)


def after_publish(sender: str, headers: dict[str, Any], body: object = None, **_: Any) -> None:
    """Publish PENDING, and wait until it is sent unless many tasks are queued in a row."""
    found = _sending.sender
    # A retry is queued before the attempt that raised it has ended. Its event is RETRY.
    if found is None or _sending.headers is not headers or headers.get("retries"):
        return
    arguments = stored_arguments.fields_of(headers, *arguments_in(body)) if found.arguments else {}
    publish_state(found, "PENDING", headers.get("id"), 0, headers, name=sender, **arguments)
    _row.length = _row.length + 1 if time.monotonic() - _row.last_at < _IN_A_ROW else 0
    if _row.length < _WAITED_FOR:
        found.publisher.flush(FLUSH_WITHIN)
    _row.last_at = time.monotonic()
