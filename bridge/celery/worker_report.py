"""What a worker says of itself in its heartbeats: which tasks run, and how many have succeeded and failed.

Celery counts neither in the main process, which alone sees the tasks of all kinds of pools. So the methods of
its requests are wrapped there, when a worker starts.
"""

import functools
import importlib
import time
from contextlib import suppress

# `Any` in this module: Celery's requests have no common type.
from typing import Any

from celery.exceptions import Ignore, Reject, Retry
from celery.worker import state as worker_state

from bridge.tasks.heartbeats import Report, Running

MOST_RUNNING = 50
"""Tasks that a heartbeat names. Of more, the number is known."""

_STARTED_AT = round(time.time(), 3)


class _Counts:
    """How many tasks have ended in this process. Handlers of one thread change it."""

    succeeded = 0
    failed = 0


_counts = _Counts()


def count_ends(**_: Any) -> None:
    """Have Celery count the ends of tasks in this process. Called when a worker starts."""
    # Their types leave out what is used here.
    strategy: Any = importlib.import_module("celery.worker.strategy")
    request_class: Any = importlib.import_module("celery.worker.request").Request
    if getattr(strategy.create_request_cls, "counts_for_bridge", False):
        return
    strategy.create_request_cls = _making_counting_classes(strategy.create_request_cls)
    request_class.on_success = _counting_successes(request_class.on_success)
    request_class.on_failure = _counting_failures(request_class.on_failure)
    request_class.on_timeout = _counting_timeouts(request_class.on_timeout)


def _making_counting_classes(create_request_cls: Any) -> Any:
    """Wrap what makes a class for each task, which has a faster `on_success` of its own."""

    @functools.wraps(create_request_cls)
    def create(*args: Any, **kwargs: Any) -> Any:
        made = create_request_cls(*args, **kwargs)
        made.on_success = _counting_successes(made.on_success)
        return made

    create.counts_for_bridge = True  # type: ignore[attr-defined]  # a function has a dict
    return create


def _counting_successes(on_success: Any) -> Any:
    @functools.wraps(on_success)
    def counted(request: Any, failed__retval__runtime: Any, **kwargs: Any) -> Any:
        _counts.succeeded += not failed__retval__runtime[0]  # `on_failure` counts what has failed
        return on_success(request, failed__retval__runtime, **kwargs)

    return counted


def _counting_failures(on_failure: Any) -> Any:
    @functools.wraps(on_failure)
    def counted(request: Any, exc_info: Any, *args: Any, **kwargs: Any) -> Any:
        error = getattr(exc_info, "exception", None)
        error = getattr(error, "exc", None) if type(error).__name__ == "ExceptionWithTraceback" else error
        no_failure = isinstance(error, Ignore | Reject | Retry) or type(error).__name__ == "Terminated"
        _counts.failed += not no_failure
        return on_failure(request, exc_info, *args, **kwargs)

    return counted


def _counting_timeouts(on_timeout: Any) -> Any:
    @functools.wraps(on_timeout)
    def counted(request: Any, soft: bool, timeout: Any) -> Any:
        _counts.failed += not soft  # after a soft limit the task goes on, or fails by itself
        return on_timeout(request, soft, timeout)

    return counted


def report(stalls_after: float) -> Report:
    """Return the report of the worker in this process."""
    requests: list[Any] = []
    for _ in range(5):
        with suppress(RuntimeError):  # another thread has changed the set meanwhile
            requests = list(worker_state.active_requests)
            break
    requests.sort(key=lambda request: request.time_start or 0.0)
    running = [
        Running(request.id, request.name, round(request.time_start or time.time(), 3))
        for request in requests[:MOST_RUNNING]
    ]
    return Report(
        at=round(time.time(), 3),
        since=_STARTED_AT,
        stalls_after=stalls_after,
        succeeded=_counts.succeeded,
        failed=_counts.failed,
        running=running,
        active=len(requests),
    )
