"""What a task says of its place among others, and tells the whole that it is a part of."""

import time
from contextlib import suppress
from typing import Any

from celery import current_task, signals

from bridge.celery import tree
from bridge.celery.installation import publisher_of
from bridge.tasks import canvas as canvas_events
from bridge.tasks import events
from bridge.tasks.publisher import BackgroundPublisher

HEADER = "bridge_canvas"
"""The header of a part: how many parts there are, or `?`, then a space and the id of the whole."""

PROGRESS_EVERY = 0.5
"""Seconds after which progress of a part is told to its whole again."""

REMEMBERED = 10_000
"""Tasks of which this process remembers when they were told of last."""

_told: dict[str, float] = {}
_given_up: dict[str, float] = {}


def relations(source: Any) -> dict[str, Any]:
    """Return what a task belongs to, for its events, from its request or the headers of its message."""
    task_id, root = source.get("id"), source.get("root_id")
    return {
        "parent": source.get("parent_id"),
        "root": None if root == task_id else root,
        "group": source.get("group"),
        "index": source.get("group_index"),
        "canvas_id": canvas_of(source),
    }


def canvas_of(source: Any) -> str | None:
    """Return the id of the whole that a task is a part of, from its request or the headers of its message."""
    return (_membership(source) or (None,))[0]


def inherit(name: str, headers: dict[str, Any]) -> None:
    """Have the message that replaces the running task belong to what the task belongs to.

    And have the task by which Celery waits for the header of a chord, where the result backend cannot, belong
    to nothing: it gets the headers of the body.
    """
    if name == "celery.chord_unlock":
        headers.pop(HEADER, None)
    request = running()
    if request is not None and HEADER not in headers and headers.get("id") == request.id:
        mark = mark_of(request)
        if mark is not None:
            headers[HEADER] = mark


def follow(
    publisher: BackgroundPublisher, request: Any, state: str, name: str | None = None, percent: float = 0.0
) -> None:
    """Tell the whole that the task of `request` is a part of, if it is of one, where the task is.

    Progress is told every `PROGRESS_EVERY` seconds at most. A task that has ended, but not well, takes along
    those that were to run after it.
    """
    ended = state in events.ENDS
    if ended or state == "STARTED":
        membership, now = _membership(request), time.monotonic()
        task_id = request.get("id")
        due = ended or not percent or now - _told.get(task_id, 0.0) >= PROGRESS_EVERY
        if membership is not None and due:
            _remember(_told, task_id, now)
            _tell(publisher, membership, task_id, state, percent, name=name, index=request.get("group_index"))
    if ended and state != "SUCCESS":
        _end_stranded(publisher, request, state)


def _tell(
    publisher: BackgroundPublisher,
    membership: tuple[str, int | None],
    task_id: str,
    state: str,
    percent: float,
    **about: Any,
) -> None:
    publisher.put(canvas_events.make(*membership, task_id, state, percent, **about))


def _end_stranded(publisher: BackgroundPublisher, request: Any, state: str) -> None:
    error = {
        "type": "NotRun",
        "message": f"task {request.get('id')}, which was to run before, ended in {state}",
    }
    for task in tree.stranded(request):
        if task.id not in _given_up:  # many parts may fail, and each strands the same tasks
            _remember(_given_up, task.id, time.monotonic())
            membership = _membership(task.options)
            about = {"name": task.task, "error": error, "canvas_id": canvas_of(task.options)}
            publisher.put(events.make("state", task.id, state=state, **about))
            if membership is not None:
                _tell(publisher, membership, task.id, state, 0.0, name=task.task)


@signals.task_unknown.connect
@signals.task_rejected.connect
def _never_ran(sender: Any, signal: Any, message: Any, **_: Any) -> None:
    """End what was to follow a task that the worker does not know, or of which the message is no task.

    What follows is in the body of the message, which the worker has not read: there is no request.
    """
    publisher = publisher_of(sender.app)
    if publisher is not None:
        state = "FAILURE" if signal is signals.task_unknown else "REJECTED"
        _end_stranded(publisher, {**(message.headers or {}), **_embedded(message)}, state)


def _embedded(message: Any) -> dict[str, Any]:
    """Return the chain and the chord that a message carries, as far as it can be read."""
    with suppress(Exception):  # whatever a serializer raises
        match message.payload:
            case [_, _, {**embedded}] | {**embedded}:
                return {name: embedded.get(name) for name in ("id", "chain", "chord") if embedded.get(name)}
    return {}


def _remember(memory: dict[str, float], task_id: str, now: float) -> None:
    memory.pop(task_id, None)
    memory[task_id] = now
    if len(memory) > REMEMBERED:
        with suppress(StopIteration, RuntimeError):  # another thread was faster
            memory.pop(next(iter(memory)), None)


def running() -> Any:
    """The request of the task that is running in this thread, if one is."""
    task: Any = current_task
    request = task.request if task else None
    return request if request is not None and request.id else None


def mark_of(source: Any) -> str | None:
    """Return what the header says, from a request, the headers of a message or the options of a signature."""
    mark = source.get(HEADER) or (source.get("headers") or {}).get(HEADER)
    return mark if isinstance(mark, str) else None


def made_mark(canvas_id: str, size: int | None) -> str:
    """Return what the header of the parts of a whole says; `size` is `None` where it is told later."""
    return f"{'?' if size is None else size} {canvas_id}"


def _membership(source: Any) -> tuple[str, int | None] | None:
    return _parsed(mark_of(source))


def _parsed(mark: str | None) -> tuple[str, int | None] | None:
    """Return the id of the whole and its size, or `None` if there is none or it makes no sense."""
    size, _, name = (mark or "").partition(" ")
    if name and size == "?":
        return name, None
    return (name, int(size)) if name and size.isdecimal() and int(size) else None
