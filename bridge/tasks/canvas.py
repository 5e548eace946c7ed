"""Events of wholes: what many tasks started as one amount to. Only `events` knows their JSON besides.

A whole has a topic like a task, and the same events, with these fields besides:

| type       | fields |
|------------|--------|
| `state`    | at first `canvas` (group, chain or chord) and `name`; `parts` |
| `progress` | `current` parts of `total` have ended; `percent` of all work is done; `parts`; `part` |

`parts` counts them: `waiting`, `running`, `succeeded`, `revoked`, `failed`. `part` is the one that brought
the news: `task`, `state`, `percent`, where known `name` and `index`, and `ended` if it has. While tasks are
still being made, `total` is how many were heard of, and `percent` is 0. The snapshot has
`parts` and, as `children`, some of them: those that failed first, then those that run. What a task belongs to
is in its own `state` events: `parent` (the task that queued it), `root`, `group` and `index` there; every
event of a task of a canvas has its `canvas_id`.
"""

from dataclasses import replace
from typing import Any

from bridge.model.publication import Publication
from bridge.model.state import ENDED_WELL, RUNNING, WAITING, WHOLE, Change, Part
from bridge.tasks import encoding
from bridge.tasks.changes import publication
from bridge.tasks.event_types import ENDS, Event, Progress, State

ENDINGS = ("SUCCESS", "REVOKED", "FAILURE")
"""How a part may end, the worst last; a whole ends in the worst way that one of its parts did."""

_COUNTS = ("waiting", "running", "succeeded", "revoked", "failed")
_TALLY = (
    b',"parts":{' + b",".join(b'"%s":%c' % (name.encode(), 4 + n) for n, name in enumerate(_COUNTS)) + b"}"
)


def declare(whole: str, size: int | None, **fields: Any) -> Publication:
    """Return the event that a whole of `size` parts is queued; one without parts has ended.

    Where nobody knows yet how many parts there will be, `size` is `None`, and `settle` tells it later.
    """
    parts = dict.fromkeys(_COUNTS, 0) | {"waiting": size or 0}
    state = "SUCCESS" if size == 0 else "PENDING"
    return publication(State(whole, state=state, attempt=1, parts=parts, **fields))


def settle(whole: str, size: int) -> Publication:
    """Return the `progress` event that `whole` has `size` parts, which ends it if all of them have ended."""
    tail = b',"current":\x01,"total":\x09,"percent":\x02%s}' % _TALLY
    part = Part("", size, WAITING, size, b"", ENDINGS, _turn(whole, ENDED_WELL))
    return _counted(_with_tail(Progress(whole), tail), part)


def make(
    whole: str, size: int | None, task: str, state: str, percent: float = 0.0, **about: Any
) -> Publication:
    """Return the `progress` event of `whole` that says where its part `task` is, and what it changes.

    `percent` is how much of the part is done; `about` is told of the part. The backend fills in the sums, and
    the size where that is `None`.
    """
    stage = RUNNING
    if state in ENDS:
        stage = ENDED_WELL + ENDINGS.index(state if state in ENDINGS else "REVOKED")
    value = WHOLE if stage == ENDED_WELL else min(WHOLE - 1, max(0, round(percent * WHOLE / 100)))
    line: dict[str, Any] = {"task": task, "state": state, "percent": value * 100 / WHOLE}
    if stage != RUNNING:
        line["ended"] = True
    told = encoding.encode(line | {name: value for name, value in about.items() if value is not None})
    tail = b',"current":\x01,"total":\x09,"percent":\x02%s,"part":%s}' % (_TALLY, told)
    part = Part(task, size or 0, stage, value, told, ENDINGS, _turn(whole, stage))
    return _counted(_with_tail(Progress(whole), tail), part)


def _counted(publication: Publication, part: Part) -> Publication:
    assert publication.change is not None, "every event of a canvas changes its state"
    publication.change = replace(publication.change, part=part)
    return publication


def _turn(whole: str, stage: int) -> tuple[bytes, Change]:
    """What is said of the whole with the start of its first part, or with the end of its last."""
    state = "STARTED" if stage == RUNNING else ENDINGS[0]
    said = _with_tail(State(whole, state=state, attempt=1), _TALLY + b"}")
    payload, change = said.payload, said.change
    assert change is not None, "every event of a canvas changes its state"
    if state == "STARTED":
        return payload, change
    payload = payload.replace(b'"state":"%s"' % state.encode(), b'"state":"\x03"')
    return payload, replace(change, fields={"state": payload, "state.\x03": payload})


def _with_tail(event: Event, tail: bytes) -> Publication:
    made = publication(event)
    assert made.change is not None, "every event of a canvas changes its state"
    payload = made.payload[:-1] + tail
    kept = {
        name: payload if value == made.payload else value
        for name, value in made.change.fields.items()
        if value
    }
    made.payload, made.change = payload, replace(made.change, fields=kept)
    return made
