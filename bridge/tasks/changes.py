"""The change that a task event makes in the state of its task, and the publication of both.

A rank orders the events that several processes publish about one task. A change whose rank is below that of
the state is refused. Within an attempt the order is PENDING, RECEIVED, STARTED, RETRY; attempts follow each
other; an end is above all of them. STALLED, a state that a task has chosen, and all that a running task
publishes have the rank of STARTED, so an event after STALLED counts. RETRY has the rank of RECEIVED of the
next attempt: the two come from two processes in any order, and both count.
"""

from collections.abc import Sequence
from dataclasses import replace

from bridge.model.publication import MAX_LISTED, Change, Group, Publication
from bridge.model.state import END
from bridge.tasks.event_types import CancelRequested, Custom, Event, Log, Progress, State, Step
from bridge.tasks.events import FEED, encode, encode_steps, tag_topic, task_of, task_topic

_ENTRIES = (Step, Log, Custom)
"""The events that join the list of entries in the state of their task."""

FIRST_STARTED = "first_started"
"""The field with the time at which the first attempt of a task began."""

KEPT_ATTEMPTS = 20
"""The attempts of a task that its state keeps, beside the last one."""

RETRIED = "retry."
"""The prefix of the fields that hold the RETRY events of the last attempts."""

_OF_A_TASK = (Group(FEED, MAX_LISTED),)
_OF_A_PART = (Group(FEED, 0),)

_RANKS_OF_AN_ATTEMPT = 4
_RANKS = {"PENDING": 0, "RECEIVED": 1, "STARTED": 2, "STALLED": 2, "RETRY": _RANKS_OF_AN_ATTEMPT + 1}
_OF_A_RUNNING_TASK = 2
"""The rank of the states that a task chooses itself."""


def publication(event: Event, attempt: int | None = 1) -> Publication:
    """Return `event` as a message to publish, with its change of the state of its task.

    `attempt` is the one that the task is in, from 1; a `State` carries its own.
    """
    payload = encode(event)
    return Publication(task_topic(event.task), payload, event.type, _change(event, payload, attempt))


def _change(event: Event, payload: bytes, attempt: int | None) -> Change:
    rank = _rank_of_state(event) if isinstance(event, State) else _rank(attempt, "STARTED")
    return Change(
        rank,
        rank == END,
        _fields(event, payload),
        entry=isinstance(event, _ENTRIES),
        groups=groups_of(event),
    )


def groups_of(event: Event) -> tuple[Group, ...]:
    """Return the feeds that get `event`: one for each tag of its task, and that of all tasks.

    Parts of a canvas are found through the canvas. In the list of its feeds they would displace other tasks.
    The background publisher sends only some events to the feeds, see `bridge.tasks.feed_limit`.
    """
    feeds = _OF_A_PART if event.canvas_id is not None else _OF_A_TASK
    if not event.tags:
        return feeds
    whole = event.canvas_id is None
    tagged = (
        Group(tag_topic(tag)) if whole or tag in event.own_tags else Group(tag_topic(tag), 0)
        for tag in sorted(event.tags)
    )
    return (*tagged, *feeds)


def _rank_of_state(event: State) -> int:
    return END if event.ended else _rank(event.attempt, "STARTED" if event.resumed else event.state)


def _rank(attempt: int | None, state: str) -> int:
    return (attempt or 1) * _RANKS_OF_AN_ATTEMPT + _RANKS.get(state, _OF_A_RUNNING_TASK)


def _fields(event: Event, payload: bytes) -> dict[str, bytes]:
    """Return the fields that `event` sets in the state of its task."""
    match event:
        case Progress() | CancelRequested():
            return {event.type: payload}
        case State():
            return _fields_of_state(event, payload)
        case Step():
            return {"steps": encode_steps(event)}
    return {}


def _fields_of_state(event: State, payload: bytes) -> dict[str, bytes]:
    if event.resumed or event.state == "STALLED" or not (event.ended or event.state in _RANKS):
        return {"state": payload}  # a task may choose any number of states: none has a field of its own
    found = {"state": payload, f"state.{event.state}": payload}
    if event.state == "RETRY":
        found[f"{RETRIED}{(event.attempt or 1) % KEPT_ATTEMPTS}"] = payload
    if event.state == "STARTED":
        # Progress and steps were those of an earlier attempt.
        found |= {"progress": b"", "steps": b""}
        if event.attempt in (None, 1) and not event.redelivered:
            found[FIRST_STARTED] = b"%.3f" % event.at
    return found


def left_out(topic: str, count: int, changes: Sequence[Change]) -> Publication:
    """Return the log event that replaces `count` events that are left out, with their `changes`."""
    text = f"{count:,} events were left out here: there were more than could be sent"
    notice = publication(Log(task_of(topic) or topic, level="warning", message=text))
    kept = {name: value for change in changes for name, value in change.fields.items()}
    notice.change = replace(changes[-1], fields=kept)
    return notice
