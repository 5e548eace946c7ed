"""The snapshot of a task: its complete state after all events so far.

A backend keeps the state of a task as fields and entries, which `bridge.tasks.changes` sets. This module
makes a `Snapshot` of that state. Its JSON has these members besides those of the class:

| member     | value |
|------------|----|
| `progress` | the last progress event, or `null` |
| `events`   | step, log and custom events in order, the newest 1,000; `omitted` counts the older ones |

`steps` are the steps as they are now. `attempts` are those before the latest one: each has `attempt`,
`started_at`, `ended_at`, `error`, `reason` and `retry_at`, without those that are not known. `started_at` of
the task belongs to the latest attempt and `first_started_at` to the first: from there to `ended_at` is the
duration of the task. `cancel_requested` is the time of the request. A task of which nothing is known is
PENDING, as in Celery.
"""

from collections.abc import Mapping
from dataclasses import replace
from operator import attrgetter
from typing import Any

from bridge.model.state import TopicState
from bridge.tasks import encoding
from bridge.tasks.changes import FIRST_STARTED, RETRIED
from bridge.tasks.encoding import parse
from bridge.tasks.event_types import ENDS, CancelRequested, Progress, Snapshot, State
from bridge.tasks.events import decode, decode_steps, members, parse_members

# Any: the values of a JSON object.

_STATE = "state."
"""The prefix of the fields that hold the last event of each state: `state.STARTED`."""

_END_FIELDS = frozenset(_STATE + end for end in ENDS)

# What a snapshot takes from any of the states that a task was in, and from the current one only.
_LASTING = (
    *("name", "worker", "attempt", "queued_at"),
    *("canvas", "parent", "root", "group", "index", "canvas_id", "parts", "tags"),
    *("args", "kwargs", "arguments_changed"),
)
_WAIT = ("error", "reason", "retry_at")
_CURRENT = ("state", "attempt", "result", *_WAIT)


def has_ended(state: TopicState) -> bool:
    """Whether the task or canvas of this state has ended. Decodes nothing."""
    if state.counts is not None and state.counts.complete:
        return True
    return not _END_FIELDS.isdisjoint(state.fields)


def current_state(state: TopicState) -> State | None:
    """Return the event of the current state: not RETRY after its next attempt is received."""
    last = decode(_counted(state, "state"))
    if not isinstance(last, State):
        return None
    return _later(last, _state_in(state.fields, "state.RECEIVED")) if last.state == "RETRY" else last


def _counted(state: TopicState, name: str) -> bytes:
    """Return the payload of a field, with the figures of the canvas if `state` is that of a canvas."""
    payload = state.fields.get(name, b"")
    return payload if state.counts is None or not payload else state.counts.append_to(payload, name)


def _later(retry: State, received: State | None) -> State:
    """Return that of both events which belongs to the later attempt."""
    if received is not None and (received.attempt or 1) > (retry.attempt or 1):
        return received
    return retry


def _state_in(fields: Mapping[str, bytes], name: str) -> State | None:
    event = decode(fields.get(name, b""))
    return event if isinstance(event, State) else None


def read_snapshot(state: TopicState | None, task: str) -> Snapshot:
    """Return the snapshot of `task`, without its entries; `state` is `None` if nothing is known of it."""
    snapshot = Snapshot(task)
    if state is None:
        return snapshot
    fields = state.fields
    states = {
        name: event
        for name in fields
        if name.startswith(_STATE) and (event := _state_in(fields, name)) is not None
    }
    current = _current(states, state) or State(task, state="PENDING")
    for event in sorted(states.values(), key=attrgetter("at")):
        _copy(event, snapshot, _LASTING)
    retry = states.get("state.RETRY")
    if retry is not None and _is_waited_for(retry, current):
        _copy(retry, snapshot, _WAIT)
    _copy(current, snapshot, _CURRENT)
    _set_times(snapshot, current, states, fields)
    snapshot.attempts = _attempts(fields) or None
    _set_cancellation(snapshot, fields)
    snapshot.steps = decode_steps(fields.get("steps", b""))
    snapshot.omitted = state.omitted
    _set_progress(snapshot, state)
    return snapshot


def _current(states: Mapping[str, State], state: TopicState) -> State | None:
    """Return what `current_state` does. Decodes only what is not in `states`."""
    payload = state.fields.get("state")
    for name, event in states.items():
        if event.state != "RETRY" and state.fields[name] == payload and state.counts is None:
            return event
    return current_state(state)


def _copy(source: State, target: Snapshot, names: tuple[str, ...]) -> None:
    """Copy the fields that `source` has."""
    for name in names:
        value = getattr(source, name)
        if value is not None:
            setattr(target, name, value)


def _is_waited_for(retry: State, current: State) -> bool:
    """Whether the attempt that `retry` announced is received but has not started."""
    return (
        retry.retry_at is not None
        and (current.attempt or 1) == (retry.attempt or 0) + 1
        and "RECEIVED" in (current.state, current.was)
    )


def _set_times(
    snapshot: Snapshot, current: State, states: Mapping[str, State], fields: Mapping[str, bytes]
) -> None:
    pending, received = states.get("state.PENDING"), states.get("state.RECEIVED")
    started = states.get("state.STARTED")
    if pending is not None:
        snapshot.queued_at = pending.at
    if received is not None:
        snapshot.received_at = received.at
    if started is not None:
        first = parse(fields.get(FIRST_STARTED, b""))
        snapshot.started_at = started.at
        snapshot.first_started_at = first if isinstance(first, float | int) and first else started.at
    if snapshot.ended:
        snapshot.ended_at = current.at


def _attempts(fields: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Return the attempts that were followed by another one, in order."""
    retries = [event for name in fields if name.startswith(RETRIED) and (event := _state_in(fields, name))]
    found = []
    for event in sorted(retries, key=lambda event: event.attempt or 1):
        attempt = {"attempt": event.attempt or 1, "started_at": event.started_at, "ended_at": event.at}
        attempt |= {name: getattr(event, name) for name in _WAIT}
        found.append({name: value for name, value in attempt.items() if value is not None})
    return found


def _set_cancellation(snapshot: Snapshot, fields: Mapping[str, bytes]) -> None:
    request = decode(fields.get("cancel_requested", b""))
    if isinstance(request, CancelRequested):
        snapshot.cancel_requested = request.at
        snapshot.terminate = request.terminate or None


def _set_progress(snapshot: Snapshot, state: TopicState) -> None:
    progress = decode(_counted(state, "progress"))
    snapshot.progress = progress if isinstance(progress, Progress) else None
    if snapshot.progress is not None and snapshot.progress.parts is not None:
        snapshot.parts = snapshot.progress.parts
    if snapshot.parts is not None:
        if snapshot.progress is not None:
            snapshot.progress = replace(snapshot.progress, parts=None, part=None)
        snapshot.children = [row for row in map(parse, state.rows) if isinstance(row, dict)]


def snapshot_members(snapshot: Snapshot) -> dict[str, Any]:
    """Return the JSON object of `snapshot`, without events: they are its last member."""
    progress = None if snapshot.progress is None else members(snapshot.progress)
    return members(snapshot) | {"progress": progress, "events": []}


def snapshot(state: TopicState | None, task: str) -> dict[str, Any]:
    """Return the complete state of `task` as a JSON object, see the documentation of this module."""
    found = snapshot_members(read_snapshot(state, task))
    if state is not None:
        found["events"] = [entry for entry in map(parse_members, state.entries) if entry]
    return found


def snapshot_text(state: TopicState | None, task: str) -> tuple[bytes, Snapshot]:
    """Return the JSON of the snapshot of `task`, and the snapshot.

    The events are JSON already: with megabytes of them, encoding them again would delay other viewers.
    """
    found = read_snapshot(state, task)
    entries = b",".join(entry for entry in state.entries if parse_members(entry)) if state else b""
    return encoding.encode(snapshot_members(found)).removesuffix(b"]}") + entries + b"]}", found
