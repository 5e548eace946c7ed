"""Task events: their vocabulary, their JSON, and what a snapshot is. No other module knows this JSON.

A task event is a JSON object `{"v", "type", "task", "at", ...}`; `at` is in seconds since the epoch.

| type       | fields |
|------------|--------|
| `state`    | `state`, `attempt` from 1; if known `name`, `worker`, `result`, `error`, `reason`, `retry_at` |
| `progress` | where known `current`, `total`, `percent`, `rate` per second, `eta` in s, `message`, `step` |
| `step`     | `name`, `status` (started, succeeded or failed); if it is within others, `path` (their names) |
| `log`      | `level`, `message` |
| `cancel_requested` | somebody asked for the task to be cancelled; `terminate` if by force |
| any other  | `data`, whatever JSON the task gave |

The `percent` of a progress event is of the whole task and never goes back within an attempt; `step` names the
open steps, from the outside, with ` / ` between; the other fields are of the loop or step that is shown.

States have Celery's own names, and STALLED: the worker that has the task is not heard of any more. RECEIVED
and STARTED name the worker's main `process` and the seconds of silence after which it is (`stalls_after`). A
state to which a task comes back, requeued or its worker heard of again, is marked `resumed`.

RETRY says why another attempt follows (`reason`, `error`) and when (`retry_at`, seconds since the epoch). The
RECEIVED of that attempt does not end the wait: reason, error and `retry_at` hold until it is STARTED or ends.
STARTED has `redelivered` if the broker had handed the task to a worker before.

What a task belongs to, and what many tasks amount to, is written down in `bridge.tasks.canvas`.

On a stream, but never published: `snapshot` (a task's whole state, see `snapshot`), `reset` (forget what
you have, a snapshot follows) and `end` (`state`; nothing follows).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any

from bridge.model.message import Message
from bridge.model.publication import Change, Publication
from bridge.model.state import END, TopicState
from bridge.tasks.encoding import DEEPEST, parse
from bridge.tasks.encoding import LONGEST_TEXT as LONGEST_TEXT
from bridge.tasks.encoding import cut as cut
from bridge.tasks.encoding import encode as encode
from bridge.tasks.encoding import in_text as in_text
from bridge.tasks.encoding import in_words as in_words
from bridge.tasks.encoding import well_formed as well_formed
from bridge.tasks.heartbeats import WORKERS as WORKERS
from bridge.tasks.heartbeats import beat as beat
from bridge.tasks.heartbeats import beat_of as beat_of

SCHEMA_VERSION = 1

FEED = "tasks"
"""The topic that carries the events of every task."""

LEVELS = ("debug", "info", "warning", "error", "critical")

ENDS = frozenset({"SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED"})
STREAM_TYPES = frozenset({"snapshot", "reset", "end"})
RESERVED_TYPES = STREAM_TYPES | {
    "state", "progress", "step", "log", "cancel_requested", "message", "error", "open"
}  # fmt: skip

_FIRST_STARTED = "first_started"
"""The field with the time at which the first attempt of a task began."""

_LEVELS_AROUND = 2
"""How much deeper an event is where it is a part of a snapshot."""

_TASK_PREFIX = "task:"

# What a snapshot takes from any of the states that a task was in.
_ABOUT = (
    *("name", "worker", "attempt", "queued_at"),
    *("canvas", "parent", "root", "group", "index", "canvas_id", "parts"),
)

# The order of states within an attempt. Reports and everything the task says share the rank of STARTED, and
# so does STALLED: what is heard of the task after it counts. An end is above every attempt. RETRY has the
# rank of RECEIVED of the next attempt: they come from two processes in any order, and both count.
_RANKS_OF_AN_ATTEMPT = 4
_RANKS = {"PENDING": 0, "RECEIVED": 1, "STARTED": 2, "STALLED": 2, "RETRY": _RANKS_OF_AN_ATTEMPT + 1}


def task_topic(task_id: str) -> str:
    """Return the name of the topic that carries the events of the task `task_id`."""
    return _TASK_PREFIX + well_formed(task_id)


def task_of(topic: str) -> str | None:
    """Return the id of the task whose topic this is, or `None` if it is another topic."""
    return topic.removeprefix(_TASK_PREFIX) if topic.startswith(_TASK_PREFIX) else None


def error(exception: BaseException, traceback: str | None = None) -> dict[str, str]:
    """Return what an event says of `exception`, with the end of its `traceback` if given. Never raises."""
    said = {"type": type(exception).__name__, "message": in_text(exception)}
    if traceback is not None:
        said["traceback"] = traceback[-LONGEST_TEXT:]
    return said


def decode(payload: bytes) -> dict[str, Any] | None:
    """Return the task event in `payload`, or `None`: anyone may publish anything to a task's topic."""
    event = parse(payload)
    return event if isinstance(event, dict) and _is_event(event) else None


def _is_event(event: dict[str, Any]) -> bool:
    kind = event.get("type")
    return (
        isinstance(kind, str)
        and kind.isprintable()
        and isinstance(event.get("task"), str)
        and isinstance(event.get("at"), int | float)
        and (kind != "state" or isinstance(event.get("state"), str))
    )


def check_type(kind: object) -> str:
    """Return `kind`, well formed, if a task may publish events of that type, else raise `ValueError`."""
    if not isinstance(kind, str) or not 1 <= len(kind) <= 100:
        raise ValueError(f"an event type must be a str of 1 to 100 characters, not {in_words(kind)}")
    kind = well_formed(kind)
    if not kind.isprintable():
        raise ValueError(f"an event type must not hold a line break or another control character: {kind!r}")
    if kind in RESERVED_TYPES:
        raise ValueError(f"the event type {kind!r} has a meaning of its own; choose another name")
    return kind


def make(
    kind: str,
    task: str,
    *,
    attempt: int | None = 1,
    resumed: bool = False,
    steps: Sequence[Mapping[str, Any]] = (),
    **fields: Any,
) -> Publication:
    """Return a task event of type `kind`, to be published, with what it changes in the state of its task.

    Fields that are `None` are left out. `attempt` counts from 1; an end may leave it open. With `resumed` the
    task comes back to an earlier state, which replaces STARTED or STALLED. With a `step` event go all `steps`
    so far, as the snapshot is to show them.
    """
    event: dict[str, Any] = {"v": SCHEMA_VERSION, "type": kind, "task": task, "at": round(time.time(), 3)}
    if kind == "state":
        event |= {"attempt": attempt} if attempt else {}
        event |= {"resumed": True} if resumed else {}
    event |= {name: value for name, value in fields.items() if value is not None}
    payload = encode(event, DEEPEST - _LEVELS_AROUND)
    state = fields["state"] if kind == "state" else "STARTED"
    own_rank = _RANKS["STARTED"] if resumed else _RANKS.get(state, 0)
    rank = END if state in ENDS else (attempt or 1) * _RANKS_OF_AN_ATTEMPT + own_rank
    kept = _kept(event, payload)
    if kind == "step":
        kept = {"steps": encode({"type": "step", "task": task, "at": event["at"], "steps": steps})}
    is_entry = kind not in ("state", "progress", "cancel_requested")
    # Tasks of a canvas are found through the canvas: 10,000 of them would push everything else off the list.
    listed = event.get("canvas_id") is None
    change = Change(rank, rank == END, kept, is_entry, FEED, listed)
    return Publication(task_topic(task), payload, kind, change)


def _kept(event: Mapping[str, Any], payload: bytes) -> dict[str, bytes]:
    """Return the fields that `event` sets in the state of its task."""
    match event:
        case {"type": "progress" | "cancel_requested" as kind}:
            return {kind: payload}
        case {"type": "state", "resumed": True} | {"type": "state", "state": "STALLED"}:
            return {"state": payload}
        case {"type": "state", "state": "STARTED"}:
            # Progress and steps were those of an earlier attempt.
            kept = {"state": payload, "state.STARTED": payload, "progress": b"", "steps": b""}
            is_first = event.get("attempt", 1) == 1 and not event.get("redelivered")
            return kept | ({_FIRST_STARTED: b"%.3f" % event["at"]} if is_first else {})
        case {"type": "state", "state": state}:
            return {"state": payload, f"state.{state}": payload}
    return {}


def is_mere_progress(message: Message) -> bool:
    """Return whether later progress of the same task says all that `message` says.

    The progress of a canvas may also say that a part has ended, which later progress does not repeat.
    """
    if message.kind is not None and not message.counted:
        return message.kind == "progress"
    event = decode(message)
    if event is None or event["type"] != "progress":
        return False
    part = event.get("part")
    return not (isinstance(part, dict) and part.get("ended") is True)


def left_out(topic: str, count: int, changes: Sequence[Change]) -> Publication:
    """Return what stands in for `count` events that are left out: a line of the log, and their `changes`."""
    text = f"{count:,} events were left out here: there were more than could be sent"
    notice = make("log", task_of(topic) or topic, level="warning", message=text)
    fields = {name: value for change in changes for name, value in change.fields.items()}
    notice.change = replace(changes[-1], fields=fields)
    return notice


def last_state(fields: Mapping[str, bytes]) -> bytes:
    """Return the `state` event that tells where a task is: not RETRY once its next attempt is received."""
    last, received = fields.get("state", b""), fields.get("state.RECEIVED")
    if received and b'"state":"RETRY"' in last:
        retry, next_one = decode(last), decode(received)
        if retry and next_one and next_one.get("attempt", 1) > retry.get("attempt", 1):
            return received
    return last


def says_state(payload: bytes) -> bool:
    """Whether `payload` looks like an event that tells a task's state: cheaper than to `decode` it."""
    return payload[:64].find(b'"type":"state"') >= 0


def says_pending(payload: bytes) -> bool:
    """Whether `payload`, a `state` event, looks as if its task were PENDING."""
    return b'"state":"PENDING"' in payload


def end_of(event: Mapping[str, Any]) -> str | None:
    """Return the state in which `event`, a `state` event or a snapshot, says the task ended, if it does."""
    state = event.get("state")
    return state if event["type"] in ("state", "snapshot") and state in ENDS else None


def end(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `end` event that follows `event`, the last one of its task."""
    return {
        "v": SCHEMA_VERSION,
        "type": "end",
        "task": event["task"],
        "at": event["at"],
        "state": event["state"],
    }


def reset(topic: str) -> dict[str, Any]:
    """Return the event that says: what you know of this topic may be outdated."""
    event = {"v": SCHEMA_VERSION, "type": "reset", "at": round(time.time(), 3)}
    task = task_of(topic)
    return event if task is None else {**event, "task": task}


def snapshot(state: TopicState | None, task: str) -> dict[str, Any]:
    """Return the whole state of `task`: what its events so far amount to.

    Where they are known: `state`, `name`, `attempt`, `worker`, `result`, `error`, `reason`, `retry_at`,
    `queued_at`, `started_at` (of the latest attempt), `first_started_at` (of the first: from there to
    `ended_at` is the duration of the task), `ended_at` and `cancel_requested` (when it was; `terminate` if by
    force). `progress` is the last progress event or `None`; `steps` holds `name`, `status` and `path` of each
    step as it is now; `events` holds step, log and custom events in order, the newest 1,000, and `omitted`
    counts the older ones. A task that nobody has said anything about is PENDING, as in Celery.
    """
    state = state or TopicState(task)
    whole: dict[str, Any] = {
        "v": SCHEMA_VERSION,
        "type": "snapshot",
        "task": task,
        "at": round(time.time(), 3),
    }
    states = {k: event for k, value in state.fields.items() if (event := decode(value)) and "state" in event}
    states.pop("state", None)
    current = decode(_counted(state, last_state(state.fields), "state")) or {"state": "PENDING"}
    for event in sorted(states.values(), key=itemgetter("at")):
        whole |= {name: event[name] for name in _ABOUT if name in event}
    retry = states.get("state.RETRY", {})
    follows = current.get("attempt", 1) == retry.get("attempt", 0) + 1
    if "retry_at" in retry and follows and "RECEIVED" in (current["state"], current.get("was")):
        whole |= {name: retry[name] for name in ("error", "reason", "retry_at") if name in retry}
    told = ("state", "attempt", "result", "error", "reason", "retry_at")
    whole |= {name: current[name] for name in told if name in current}
    for name, source in (("queued_at", "state.PENDING"), ("started_at", "state.STARTED")):
        if source in states:
            whole[name] = states[source]["at"]
    if "started_at" in whole:
        whole["first_started_at"] = parse(state.fields.get(_FIRST_STARTED, b"")) or whole["started_at"]
    if end_of(whole):
        whole["ended_at"] = current["at"]
    asked = decode(state.fields.get("cancel_requested", b""))
    if asked:
        whole["cancel_requested"] = asked["at"]
        whole |= {"terminate": True} if asked.get("terminate") is True else {}
    progress = _counted(state, state.fields.get("progress", b""), "progress")
    whole["progress"] = decode(progress) if progress else None
    steps = decode(state.fields.get("steps", b""))
    whole["steps"] = steps["steps"] if steps else []
    parts = (whole["progress"] or whole).get("parts", whole.get("parts"))
    if parts is not None:
        whole["parts"] = parts
        if progress:
            whole["progress"] = {k: v for k, v in whole["progress"].items() if k not in ("parts", "part")}
        whole["children"] = [row for row in map(parse, state.rows) if isinstance(row, dict)]
    whole["omitted"] = state.omitted
    whole["events"] = [entry for entry in map(decode, state.entries) if entry]
    return whole


def _counted(state: TopicState, payload: bytes, kind: str) -> bytes:
    """Return the payload of a field with the figures of the canvas, if `state` is that of a canvas."""
    return payload if state.counts is None or not payload else state.counts.append_to(payload, kind)


def snapshot_text(state: TopicState | None, task: str) -> tuple[bytes, dict[str, Any]]:
    """Return the snapshot of `task` as JSON, and the snapshot without its `events`.

    The events are JSON already: with megabytes of them, encoding them again would hold up other viewers.
    """
    state = state or TopicState(task)
    bare = snapshot(replace(state, entries=[]), task)
    entries = b",".join(entry for entry in state.entries if decode(entry))
    return encode(bare).removesuffix(b"]}") + entries + b"]}", bare
