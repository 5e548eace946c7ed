"""Task events: their JSON and their topics. No other module encodes or decodes them.

A task event is a JSON object `{"v", "type", "task", "at", ...}`; `at` is in seconds since the epoch. Each
type has a class in `bridge.tasks.event_types`, whose fields are the other members of the object.

| type               | class             | where |
|--------------------|-------------------|-------|
| `state`            | `State`           | published |
| `progress`         | `Progress`        | published |
| `step`             | `Step`            | published |
| `log`              | `Log`             | published |
| `cancel_requested` | `CancelRequested` | published |
| any other          | `Custom`          | published |
| `snapshot`         | `Snapshot`        | only on a stream: the complete state of a task |
| `reset`            | `Reset`           | only on a stream: forget what you have, a snapshot follows |
| `end`              | `End`             | only on a stream: the task has ended, nothing follows |
| `expired`          | `Expired`         | only on a stream: it may not go on; come back with a new token |

States have Celery's own names, and one more: STALLED means that the worker of the task has stopped
publishing heartbeats. RETRY contains why another attempt follows and when. The RECEIVED of that attempt does
not end the wait: `reason`, `error` and `retry_at` are valid until the attempt is STARTED or the task ends.

`bridge.tasks.canvas` describes the events of a canvas, `bridge.tasks.changes` the changes that an event makes
in the state of its task, and `bridge.tasks.snapshot` makes a snapshot of that state.
"""

from collections.abc import Collection
from dataclasses import MISSING, fields
from operator import attrgetter
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from bridge.model.event_type import STREAM_TYPES, TASK_TYPES, check_event_type
from bridge.model.message import Message
from bridge.tasks import encoding
from bridge.tasks.encoding import DEEPEST, LONGEST_TEXT, in_text, parse, well_formed
from bridge.tasks.event_types import (
    CancelRequested,
    Custom,
    End,
    Error,
    Event,
    Expired,
    Log,
    Progress,
    Reset,
    Snapshot,
    State,
    Step,
    StepStatus,
)
from bridge.tasks.tags import read_tags

# Any: decoded JSON is unchecked, and so are the values that a task gives.

SCHEMA_VERSION = 1

FEED = "tasks"
"""The topic that carries the events of every task."""

LEVELS = ("debug", "info", "warning", "error", "critical")

_TYPES: dict[str, type[Event]] = {
    "state": State,
    "progress": Progress,
    "step": Step,
    "log": Log,
    "cancel_requested": CancelRequested,
}
assert _TYPES.keys() == TASK_TYPES, "the types of the bridge are reserved"

_LEVELS_AROUND = 2
"""How much deeper an event is where it is a part of a snapshot."""

_TASK_PREFIX = "task:"
_TAG_PREFIX = "tag:"


def task_topic(task_id: str) -> str:
    """Return the name of the topic that carries the events of the task `task_id`."""
    return _TASK_PREFIX + well_formed(task_id)


def task_of(topic: str) -> str | None:
    """Return the id of the task whose topic this is, or `None` if it is another topic."""
    return topic.removeprefix(_TASK_PREFIX) if topic.startswith(_TASK_PREFIX) else None


def tag_topic(tag: str) -> str:
    """Return the name of the topic that carries the events of the tasks with `tag`."""
    return _TAG_PREFIX + well_formed(tag)


def feed_of(tag: str | None) -> str:
    """Return the name of the feed of the tasks with `tag`, or of all tasks."""
    return FEED if tag is None else tag_topic(tag)


def is_feed(topic: str) -> bool:
    """Whether `topic` carries the events of many tasks: of all, or of those with a tag."""
    return topic == FEED or topic.startswith(_TAG_PREFIX)


def carries_events(topic: str) -> bool:
    """Whether task events travel on `topic`: it is a feed or the topic of a task."""
    return topic.startswith(_TASK_PREFIX) or is_feed(topic)


def is_followed(event: State, topics: Collection[str]) -> bool:
    """Whether one of `topics` carries the events of the task of `event`."""
    if FEED in topics or task_topic(event.task) in topics:
        return True
    return any(tag_topic(tag) in topics for tag in event.tags or ())


def error(exception: BaseException, traceback: str | None = None) -> Error:
    """Return `exception` for an event, with the end of its `traceback` if given. Never raises."""
    found = Error(type=type(exception).__name__, message=in_text(exception))
    if traceback is not None:
        found["traceback"] = traceback[-LONGEST_TEXT:]
    return found


def check_type(value: object) -> str:
    """Return `value`, well formed, if a task may publish events of that type, else raise `ValueError`."""
    return check_event_type(well_formed(value) if isinstance(value, str) else value)


# The fields of each class that are members of the JSON, except `type`, in the order of the class.
_MEMBERS = {
    event_type: tuple(
        field.name
        for field in fields(event_type)
        if field.name != "type" and field.metadata.get("member", True)
    )
    for event_type in (*_TYPES.values(), Custom, Snapshot, Reset, Expired, End)
}


_VALUES = {event_type: attrgetter(*names) for event_type, names in _MEMBERS.items()}


def members(event: Event | Reset | Expired) -> dict[str, Any]:
    """Return the JSON object of `event`."""
    found: dict[str, Any] = {"v": SCHEMA_VERSION, "type": event.type}
    names, values = _MEMBERS[type(event)], _VALUES[type(event)](event)
    for name, value in zip(names, values, strict=True):
        if value is not None:
            found[name] = value  # noqa: PERF403  # faster than to update with a comprehension
    return found


def encode(event: Event | Reset | Expired) -> bytes:
    """Return the JSON of `event`. What JSON cannot express becomes text, see `bridge.tasks.encoding`."""
    return encoding.encode(members(event), DEEPEST - _LEVELS_AROUND)


def encode_steps(event: Step) -> bytes:
    """Return the JSON of all steps so far, which the state of the task keeps."""
    return encoding.encode({"type": "step", "task": event.task, "at": event.at, "steps": event.steps})


def decode_steps(payload: bytes) -> list[StepStatus]:
    """Return the steps in a payload of `encode_steps`, and none if `payload` is something else."""
    found = parse_members(payload) or {}
    steps = found.get("steps")
    return steps if isinstance(steps, list) else []


def parse_members(payload: bytes) -> dict[str, Any] | None:
    """Return the JSON object in `payload` if it is a task event, else `None`."""
    found = parse(payload)
    return found if isinstance(found, dict) and _is_event(found) else None


def _is_event(found: dict[str, Any]) -> bool:
    event_type = found.get("type")
    return (
        isinstance(event_type, str)
        and event_type.isprintable()
        and isinstance(found.get("task"), str)
        and isinstance(found.get("at"), int | float)
        and (event_type != "state" or isinstance(found.get("state"), str))
    )


def type_of(message: Message) -> str | None:
    """Return the type of `message`, `None` if it has none.

    On a topic that carries task events, decodes the message if it was published without a type, and stores
    the answer in the message. Anyone may publish JSON there, but only a stream itself can say that it ends.
    """
    if message.type is None and carries_events(message.topic):
        found = parse_members(message)
        if found is not None and found["type"] not in STREAM_TYPES:
            message.type, message.counted = found["type"], "parts" in found
    return message.type


def is_mere_progress(message: Message) -> bool:
    """Return whether later progress of the same task replaces `message`.

    The progress of a canvas may contain the end of a part, which later progress does not repeat.
    """
    event_type = type_of(message)
    if event_type != "progress" or not message.counted:
        return event_type == "progress"
    event = decode(message)
    return isinstance(event, Progress) and not (event.part and event.part.get("ended"))


def end_after(last: State | Snapshot) -> End:
    """Return the end of a stream whose task has ended with `last`."""
    return End(last.task, at=last.at, state=last.state)


def decode(payload: bytes) -> Event | None:
    """Return the task event in `payload`, `None` if it holds none: anyone may publish to a task's topic.

    A member whose value has another type than the field of the class is left out. An event that lacks a
    member which its class requires is none.
    """
    found = parse_members(payload)
    if found is None:
        return None
    event_type = _TYPES.get(found["type"], Custom)
    types = _FIELD_TYPES[event_type]
    given: dict[str, Any] = {
        name: value for name, value in found.items() if isinstance(value, types.get(name, ()))
    }
    if not given.keys() >= _REQUIRED[event_type]:
        return None
    if event_type is Custom:
        given["type"] = found["type"]
    elif "tags" in given:
        given["tags"] = read_tags(given["tags"]) or None
    return event_type(**given)


def _types_of(hint: Any) -> tuple[type, ...]:
    """Return what `isinstance` takes for the annotation of a field."""
    if hint is Any:
        return (object,)
    if hint is float:
        return (float, int)
    if is_typeddict(hint):
        return (dict,)
    if get_origin(hint) in (dict, list):
        return (get_origin(hint),)
    return tuple(each for part in get_args(hint) for each in _types_of(part)) or (hint,)


_FIELD_TYPES = {
    event_type: {
        name: _types_of(hint)
        for name, hint in get_type_hints(event_type).items()
        if name in _MEMBERS[event_type]
    }
    for event_type in (*_TYPES.values(), Custom)
}
_REQUIRED = {
    event_type: {
        field.name
        for field in fields(event_type)
        if field.init
        and field.name != "type"
        and field.default is MISSING
        and field.default_factory is MISSING
    }
    for event_type in (*_TYPES.values(), Custom)
}
