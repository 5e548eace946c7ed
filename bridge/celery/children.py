"""A child of the prefork pool dies with what it has not sent yet, and one task may kill it for another.

Ends leave in the background, so that a task does not wait for them. What waits is sent before the next task
begins: that one may run out of memory, exceed its hard time limit or be terminated. Where a pool has no
children, whoever dies is the worker itself, and its tasks show as STALLED.
"""

from typing import Any

from celery import signals

from bridge.celery.installation import FLUSH_WITHIN, publisher_of

_is_child = False


@signals.worker_process_init.connect
def _begin(**_: Any) -> None:
    global _is_child
    _is_child = True


@signals.task_prerun.connect
def _before_the_next(task: Any, **_: Any) -> None:
    publisher = publisher_of(task.app) if _is_child else None
    if publisher is not None:
        publisher.flush(FLUSH_WITHIN)
