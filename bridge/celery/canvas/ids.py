"""The ids of canvases, by which their topics are named."""

from celery import group
from celery.canvas import Signature
from celery.result import AsyncResult, GroupResult

_PREFIX = "canvas:"


def canvas_id(result: object) -> str:
    """Return the id of a canvas (a group, chain, chord or `chunks`) from the result of starting it.

    `bridge.task_topic(canvas_id(result))` is the topic of all its tasks: one progress, one end. The id of a
    group is the id of its `GroupResult`. A chain or a chord returns the result of its last task, which has a
    topic of its own. So the id of the canvas is `canvas:` and the id of that task.

    Raises `TypeError` for anything but an `AsyncResult` or a `GroupResult`. May be called in any thread, in
    any process, and without `install`.
    """
    if not isinstance(result, AsyncResult | GroupResult):
        raise TypeError(
            f"canvas_id() takes the result of starting a canvas, as canvas.apply_async() returns it, "
            f"not {type(result).__name__}; of a single task bridge.task_topic(task_id) is the topic"
        )
    return str(result.id) if isinstance(result, GroupResult) else f"{_PREFIX}{result.id}"


def id_of_canvas(last: "Signature[object]", last_id: str) -> str:
    """Return the id of a canvas from its last task or group, and the id of that."""
    return last_id if isinstance(last, group) else f"{_PREFIX}{last_id}"
