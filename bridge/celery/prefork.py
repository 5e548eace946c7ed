"""Sends the end of one task before the next task begins, in the children of the prefork pool.

The end of a task is sent in the background, so that the task does not wait for it. The next task may run out
of memory, exceed its hard time limit or be terminated. Then its child dies, and with it what the child has
not sent. The other pools have no children. There the worker itself dies, and its tasks show as STALLED.
"""

# `Any` in this module: Celery hands tasks of several unrelated classes to its signals.
from typing import Any

from celery.utils.log import current_process_index  # type: ignore[attr-defined]  # not in its types

from bridge.celery.apps import FLUSH_WITHIN, publisher_of


def flush_before_next_task(task: Any, **_: Any) -> None:
    """Send the events of the task before, if this process is a child of the prefork pool."""
    publisher = publisher_of(task.app) if current_process_index() is not None else None
    if publisher is not None:
        publisher.flush(FLUSH_WITHIN)
