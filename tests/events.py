"""Task events as tests use them: made in one call, and read as the JSON objects that viewers get."""

from typing import Any

from bridge.model.publication import Publication
from bridge.tasks.changes import publication
from bridge.tasks.event_types import ENDS as ENDS
from bridge.tasks.event_types import CancelRequested, Custom, Event, Log, Progress, State, Step
from bridge.tasks.events import FEED as FEED
from bridge.tasks.events import parse_members
from bridge.tasks.events import task_of as task_of
from bridge.tasks.events import task_topic as task_topic
from bridge.tasks.snapshot import snapshot as snapshot

decode = parse_members


def decoded(payload: bytes) -> dict[str, Any]:
    """Return the JSON object in `payload`; fail if it is not a task event."""
    event = parse_members(payload)
    assert event is not None, payload
    return event


_TYPES: dict[str, type[Event]] = {
    "state": State,
    "progress": Progress,
    "step": Step,
    "log": Log,
    "cancel_requested": CancelRequested,
}


def make(kind: str, task: str, *, attempt: int | None = 1, **fields: Any) -> Publication:
    """Return a task event of type `kind`, to be published."""
    if kind == "state":
        return publication(State(task, attempt=attempt, **fields))
    if kind == "log":
        fields = {"level": "info", "message": "", **fields}
    event = _TYPES[kind](task, **fields) if kind in _TYPES else Custom(task, type=kind, **fields)
    return publication(event, attempt)


def end_of(event: dict[str, Any]) -> str | None:
    """Return the state in which `event`, a `state` event or a snapshot, says the task ended, if it does."""
    state = event.get("state")
    return state if event["type"] in ("state", "snapshot") and state in ENDS else None
