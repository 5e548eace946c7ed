"""Runs a task again: queues a new one with the name, the arguments and the tags of another."""

from collections.abc import Mapping

# `Any` in this module: a snapshot is JSON, and Celery's types leave `tasks` out.
from typing import Any

from celery import Celery

from bridge.celery.cancellation import app_to_ask
from bridge.celery.tagging import tags


def run_again(snapshot: Mapping[str, Any], *, app: Celery | None = None) -> str:
    """Queue a task like the one of `snapshot`, and return the id of the new one.

    The task is queued as `apply_async` queues it if this process knows it, else by its name alone. `app` is
    found as in `cancel`. Raises `ValueError` if the arguments are not stored as they were, and as `cancel`
    does.
    """
    name, args, kwargs = (snapshot.get(member) for member in ("name", "args", "kwargs"))
    if "parts" in snapshot:
        raise ValueError("a group, chain or chord cannot be run again; run its tasks again one by one")
    if not name or args is None or kwargs is None or snapshot.get("arguments_changed"):
        raise ValueError(
            "the arguments of this task are not stored as they were: call install(app, url, arguments=True) "
            "where the task is queued; large arguments, secrets and what JSON cannot express are not stored"
        )
    celery, _ = app_to_ask(app)
    tagged = snapshot.get("tags")
    options: dict[str, Any] = {"headers": tags(*tagged)} if tagged else {}
    task: Any = celery.tasks.get(name)
    if task is not None:
        result = task.apply_async(args, kwargs, **options)
    else:
        result = celery.send_task(name, args, kwargs, **options)
    return str(result.id)
