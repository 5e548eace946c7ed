"""Cancels the parts of a canvas: in the main process of each worker, when it has or gets one of them.

Nobody knows the ids of all parts: those that wait in a queue are known to the broker alone. So each worker
remembers which canvases were cancelled, and revokes a part when it receives it.
"""

# `Any` in this module: Celery's requests have no common type.
from typing import Any

from celery.worker.state import revoked

from bridge.celery.apps import Installed
from bridge.celery.canvas import header
from bridge.celery.publishing import publish_event
from bridge.support.recent import Recent
from bridge.tasks.event_types import CancelRequested

COMMAND = "bridge_cancel_canvas"
"""The name of the remote control command."""

_REMEMBERED = 10_000
"""Cancelled canvases that a worker remembers."""

_cancelled: Recent[str, None] = Recent(_REMEMBERED)
"""The ids of cancelled canvases."""


def remember(canvas_id: str) -> None:
    """Have this worker revoke the parts of a canvas that it receives from now on."""
    _cancelled[canvas_id] = None


def revoke_if_cancelled(request: Any) -> None:
    """Revoke a task that this worker has just received, if its canvas was cancelled."""
    if _cancelled:
        canvas = header.membership(request.request_dict)
        if canvas is not None and canvas.canvas_id in _cancelled:
            revoked.add(request.id)


def cancel_part(found: Installed, request: Any, canvas_id: str, *, terminate: bool, pool: Any) -> bool:
    """Cancel a task that this worker has, if it is a part of the canvas; return whether it is.

    A part that runs sees the request at its next `check_cancelled()`.
    """
    source = request.request_dict
    canvas = header.membership(source)
    if canvas is None or canvas.canvas_id != canvas_id:
        return False
    revoked.add(request.id)
    event = CancelRequested(request.id, terminate=terminate or None, **header.belonging(source))
    publish_event(found.publisher, event, source.get("retries", 0) + 1)
    if terminate:
        request.terminate(pool)
    return True
