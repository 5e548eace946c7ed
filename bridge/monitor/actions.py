"""What the buttons of the monitor do: cancel a task, or run it again."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

# `Any` in this module: a snapshot is JSON, and this package does not require Celery.
from typing import Any

from bridge.errors import ConfigurationError
from bridge.monitor.http import Answer, Problem, json_answer
from bridge.streams.service import StreamService

_NO_APP = (
    "No Celery app is known here. Give the monitor the app of the tasks (celery=app), which calls "
    "bridge.celery.install."
)


def has_app(celery: Any) -> bool:
    """Return whether there may be a Celery app that sends messages to workers."""
    return celery is not None or "bridge.celery" in sys.modules


def known(service: StreamService, task_id: str) -> dict[str, Any]:
    """Return the snapshot of a task. Raises `Problem` (404) if nothing is known of it."""
    snapshot = service.task(task_id)
    if snapshot is None:
        raise Problem(404, "No task with this id is known. It may have expired.")
    return snapshot


@contextmanager
def _explained(celery: Any) -> Iterator[None]:
    """Turn what Celery and the bridge raise into a `Problem`. Raises one at once if no app can be found."""
    if not has_app(celery):
        raise Problem(409, _NO_APP)
    from kombu.exceptions import OperationalError

    try:
        yield
    except (ConfigurationError, ValueError) as error:
        text = str(error)
        raise Problem(409, f"{text[:1].upper()}{text[1:]}.") from None
    except (OSError, OperationalError) as error:
        raise Problem(503, f"The broker of Celery cannot be reached: {error}") from None


def cancel_task(service: StreamService, task_id: str, terminate: bool, celery: Any) -> Answer:
    """Ask for a task to be cancelled. Its end confirms it later."""
    snapshot = known(service, task_id)
    with _explained(celery):
        from bridge.celery import cancel

        asked = cancel(task_id, terminate=terminate, app=celery)
    if not asked:
        raise Problem(409, "The task has already ended.", state=snapshot["state"])
    return json_answer({"id": task_id}, 202)


def run_again(service: StreamService, task_id: str, celery: Any) -> Answer:
    """Queue a task with the name and the arguments of another one."""
    snapshot = known(service, task_id)
    with _explained(celery):
        from bridge.celery.again import run_again

        new_id = run_again(snapshot, app=celery)
    return json_answer({"id": new_id}, 202)
