"""Events of canvases: one progress and one end for many tasks. Apart from this module only `events` knows
their JSON.

A canvas has a topic like a task, and the same events, with these additional fields:

| type       | fields |
|------------|--------|
| `state`    | at first `canvas` (group, chain or chord) and `name`; `parts` |
| `progress` | `current` parts of `total` have ended; `percent` of all work is done; `parts`; `part` |

`parts` counts them: `waiting`, `running`, `succeeded`, `revoked`, `failed`. `part` is the part that the event
is about: `task`, `state`, `percent`, where known `name` and `index`, and `ended` if it has ended. While the
size is unknown, because a generator makes the tasks, `total` is how many have started or ended, and `percent`
is 0. The snapshot has `parts` and, as `children`, some of them: first those that failed, then those that run.
The `state` events of a task contain what it belongs to: `parent` (the task that queued it), `root`, `group`
and its `index` there. Every event of a part has its `canvas_id`.

The backend counts the parts. So these publications lack `current`, `total`, `percent` and `parts`, and the
one that ends a canvas lacks `state`: readers get them from the counts, see `bridge.model.counts`.
"""

# `Any` in this module: the fields of an event have values of several types.
from typing import Any

from bridge.model.counts import DONE, ENDINGS, RUNNING, SUCCEEDED, WAITING
from bridge.model.publication import Change, Part, Publication
from bridge.model.state import END
from bridge.tasks import encoding
from bridge.tasks.changes import groups_of, publication
from bridge.tasks.event_types import ENDS, Progress, State
from bridge.tasks.events import members, task_topic

_STAGES = ("waiting", "running", "succeeded", "revoked", "failed")


def declare(canvas_id: str, size: int | None, **fields: Any) -> Publication:
    """Return the event that a canvas of `size` parts is queued; one without parts has ended.

    If the number of parts is not known yet, `size` is `None`, and `settle` follows.
    """
    parts = dict.fromkeys(_STAGES, 0) | {"waiting": size or 0}
    state = "SUCCESS" if size == 0 else "PENDING"
    return publication(State(canvas_id, state=state, attempt=1, parts=parts, **fields))


def settle(canvas_id: str, size: int, tags: list[str] | None = None) -> Publication:
    """Return the `progress` event that the canvas has `size` parts; it ends if all of them have ended."""
    message = publication(Progress(canvas_id, tags=tags))
    message.part = Part("", size, WAITING, size, b"", _end(canvas_id, tags))
    return message


def make(
    canvas_id: str,
    size: int | None,
    task: str,
    state: str,
    percent: float = 0.0,
    *,
    tags: list[str] | None = None,
    **about: Any,
) -> Publication:
    """Return the `progress` event of the canvas about its part `task`, and its change.

    `percent` is how much of the part is done; `about` is more about the part. `size` is how many parts the
    canvas has, `None` if that is not known. `tags` are those of the canvas.
    """
    stage = RUNNING
    if state in ENDS:
        stage = SUCCEEDED + ENDINGS.index(state if state in ENDINGS else "REVOKED")
    value = DONE if stage == SUCCEEDED else min(DONE - 1, max(0, round(percent * DONE / 100)))
    row: dict[str, Any] = {"task": task, "state": state, "percent": value * 100 / DONE}
    if stage != RUNNING:
        row["ended"] = True
    row |= {name: field for name, field in about.items() if field is not None}
    message = publication(Progress(canvas_id, part=row, tags=tags))
    follow_up = _start(canvas_id, tags) if stage == RUNNING else _end(canvas_id, tags)
    message.part = Part(task, size or 0, stage, value, encoding.encode(row), follow_up)
    return message


def _start(canvas_id: str, tags: list[str] | None) -> Publication:
    """Return the event that the first part of a canvas runs."""
    return publication(State(canvas_id, state="STARTED", attempt=1, tags=tags))


def _end(canvas_id: str, tags: list[str] | None) -> Publication:
    """Return the event that the last part of a canvas has ended. The counts add the `state`."""
    event = State(canvas_id, state="SUCCESS", attempt=1, tags=tags)
    found = members(event)
    del found["state"]
    payload = encoding.encode(found)
    change = Change(END, final=True, fields={"state": payload}, entry=False, groups=groups_of(event))
    return Publication(task_topic(canvas_id), payload, "state", change)
