"""Task events as tests use them: made in one call, and read as the JSON objects that viewers get."""

from dataclasses import fields
from typing import Any, get_type_hints

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


KINDS: tuple[type[Event], ...] = (*_TYPES.values(), Custom)
"""The classes of the events that a task publishes."""


def full_of(text: str, kind: type[Event], task: str = "t1") -> Event:
    """Return an event with `text` in every field that takes one, also as the names in its objects."""
    given: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for each in fields(kind):
        hint = str(hints[each.name])
        if not each.init or each.name in ("task", "id", "type", "at"):
            continue
        if "dict[str, int]" in hint:
            given[each.name] = {text: 1}
        elif any(word in hint for word in ("dict", "Any", "Error")):
            given[each.name] = {text: text, "type": text, "message": text, "list": [text]}
        elif "list" in hint:
            given[each.name] = [text]
        elif "str" in hint:
            given[each.name] = text
    return Custom(task, type="note", **given) if kind is Custom else kind(task, **given)


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
