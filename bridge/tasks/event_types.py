"""The types of task events, and their fields.

A field that is `None` is left out of the JSON. `bridge.tasks.events` encodes and decodes the events.
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NotRequired, TypedDict

# Any: a result and the data of a custom event are whatever JSON the task gives.

ENDS = frozenset({"SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED"})


class Error(TypedDict):
    """The exception in an event."""

    type: str
    message: str
    traceback: NotRequired[str]


class StepStatus(TypedDict):
    """One step of a task in its snapshot."""

    name: str
    status: str
    path: NotRequired[list[str]]
    started_at: NotRequired[float]
    ended_at: NotRequired[float]


def now() -> float:
    """Return the time in seconds since the epoch, as events have it."""
    return round(time.time(), 3)


@dataclass(slots=True)
class Event:
    """The fields of all task events."""

    type: str = field(init=False)
    """The type in the JSON."""
    task: str
    _: KW_ONLY
    at: float = field(default_factory=now)
    canvas_id: str | None = None
    """The canvas that the task is a part of."""
    tags: list[str] | None = field(default=None, compare=False, metadata={"member": False})
    """The tags of the task. They are in the JSON of `State` and `Snapshot` only."""
    own_tags: Collection[str] = field(default=(), compare=False, metadata={"member": False})
    """Of a part of a canvas: its tags that the canvas lacks. Only their feeds list the part."""
    id: str | None = field(default=None, compare=False, metadata={"member": False})
    """The id for `bridge.aio.watch(after=...)` to continue after this event. Only `watch` sets it."""


@dataclass(slots=True, kw_only=True)
class State(Event):
    """A task is now in a state."""

    type: str = field(default="state", init=False)
    state: str
    attempt: int | None = None
    """Counts from 1. `None` if it is not known, as with some ends."""
    resumed: bool | None = None
    """`True` if the task is in this state again: it was requeued, or its worker publishes again."""
    name: str | None = None
    worker: str | None = None
    result: Any = None
    error: Error | None = None
    reason: str | None = None
    retry_at: float | None = None
    """When the next attempt begins, in seconds since the epoch."""
    started_at: float | None = None
    """Of RETRY: when the attempt began that failed."""
    queued_at: float | None = None
    process: str | None = None
    """The main process of the worker of the task. Its heartbeats have this name."""
    stalls_after: float | None = None
    """Seconds without a heartbeat of `process` after which the task is STALLED."""
    redelivered: bool | None = None
    """`True` if the broker had delivered the task to a worker before."""
    traceparent: str | None = None
    """The trace that the event belongs to, as in the W3C header."""
    was: str | None = None
    """The state before STALLED."""
    parent: str | None = None
    """The task that queued this one."""
    root: str | None = None
    group: str | None = None
    index: int | None = None
    """The place in `group`."""
    tags: list[str] | None = None
    args: list[Any] | None = None
    """Of PENDING and STARTED: the arguments, where `install(arguments=True)` stores them."""
    kwargs: dict[str, Any] | None = None
    arguments_changed: bool | None = None
    """`True` if `args` and `kwargs` are not those of the task: some are left out or hidden."""
    canvas: str | None = None
    """Of the first event of a canvas: group, chain or chord."""
    parts: dict[str, int] | None = None
    """Of a canvas: how many of its parts are at which stage."""

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in ENDS


@dataclass(slots=True, kw_only=True)
class Progress(Event):
    """How far a task is. All but `percent` and `step` describe the loop or step that is shown."""

    type: str = field(default="progress", init=False)
    current: float | None = None
    total: float | None = None
    percent: float | None = None
    """Of the whole task. It never goes back within an attempt."""
    rate: float | None = None
    """Per second."""
    eta: float | None = None
    """Seconds."""
    message: str | None = None
    step: str | None = None
    """The open steps, from the outside, with ` / ` between."""
    parts: dict[str, int] | None = None
    """Of a canvas: how many of its parts are at which stage."""
    part: dict[str, Any] | None = None
    """Of a canvas: the part that the event is about."""


@dataclass(slots=True, kw_only=True)
class Step(Event):
    """A step of a task began or ended."""

    type: str = field(default="step", init=False)
    name: str
    status: str
    """started, succeeded or failed."""
    path: list[str] | None = None
    """Of a step within others: all their names and its own, from the outside."""
    steps: Sequence[StepStatus] = field(default=(), metadata={"member": False})
    """All steps so far, for the snapshot. They are not in the JSON of the event."""


@dataclass(slots=True, kw_only=True)
class Log(Event):
    """A text for the viewers of a task."""

    type: str = field(default="log", init=False)
    level: str
    message: str


@dataclass(slots=True, kw_only=True)
class CancelRequested(Event):
    """The cancellation of the task was requested."""

    type: str = field(default="cancel_requested", init=False)
    terminate: bool | None = None
    """`True` if by force."""


@dataclass(slots=True, kw_only=True)
class Custom(Event):
    """An event of a type that the task chose."""

    type: str
    data: Any = None


@dataclass(slots=True, kw_only=True)
class Snapshot(Event):
    """The complete state of a task. `bridge.tasks.snapshot` makes it and describes its fields."""

    type: str = field(default="snapshot", init=False)
    state: str = "PENDING"
    name: str | None = None
    attempt: int | None = None
    worker: str | None = None
    result: Any = None
    error: Error | None = None
    reason: str | None = None
    retry_at: float | None = None
    queued_at: float | None = None
    received_at: float | None = None
    started_at: float | None = None
    first_started_at: float | None = None
    ended_at: float | None = None
    cancel_requested: float | None = None
    terminate: bool | None = None
    parent: str | None = None
    root: str | None = None
    group: str | None = None
    index: int | None = None
    tags: list[str] | None = None
    args: list[Any] | None = None
    kwargs: dict[str, Any] | None = None
    arguments_changed: bool | None = None
    attempts: list[dict[str, Any]] | None = None
    """The attempts that were followed by another one, the newest 20, in order."""
    canvas: str | None = None
    parts: dict[str, int] | None = None
    children: list[dict[str, Any]] | None = None
    progress: Progress | None = field(default=None, metadata={"member": False})
    steps: list[StepStatus] = field(default_factory=list)
    events: Sequence[Event] = field(default=(), metadata={"member": False})
    """The newest step, log and custom events, in order. Only `bridge.tasks.typed` reads them."""
    omitted: int = 0
    """How many older ones there are."""

    @property
    def ended(self) -> bool:
        """Whether the task has ended."""
        return self.state in ENDS


@dataclass(slots=True)
class Reset:
    """What a viewer knows of a topic may be outdated."""

    type: str = field(default="reset", init=False)
    task: str | None
    """`None` if the topic is not that of a task."""
    at: float = field(default_factory=now)
    id: str | None = field(default=None, compare=False, metadata={"member": False})
    """Always `None`: a snapshot follows."""


@dataclass(slots=True)
class Expired:
    """The stream ends here, because its viewer may not read on. The topics have not ended."""

    type: str = field(default="expired", init=False)
    reason: str
    at: float = field(default_factory=now)


@dataclass(slots=True, kw_only=True)
class End(Event):
    """The task has ended in `state`, and its stream ends here."""

    type: str = field(default="end", init=False)
    state: str
