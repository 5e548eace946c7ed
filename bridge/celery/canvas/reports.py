"""Reports of tasks to their canvas: when they start, how far they are, how they end."""

import time
from contextlib import suppress

# `Any` in this module: Celery hands consumers and messages of several unrelated classes to its signals.
from typing import Any

from celery import signals

from bridge.celery.apps import publisher_of
from bridge.celery.canvas import header, tree
from bridge.celery.canvas.header import HeaderSource
from bridge.support.recent import Recent
from bridge.tasks import canvas as canvas_events
from bridge.tasks.changes import publication
from bridge.tasks.event_types import ENDS, Error, State
from bridge.tasks.publisher import BackgroundPublisher

PROGRESS_EVERY = 0.5
"""Seconds between two reports of a task's progress to its canvas."""

_REMEMBERED = 10_000
"""Tasks of which this process remembers the last report."""

_reported_at: Recent[str, float] = Recent(_REMEMBERED)
"""When a task last reported to its canvas, by id; from `time.monotonic`."""

_ended_unrun: Recent[str, None] = Recent(_REMEMBERED)
"""Tasks that will never run and whose end this process has published."""


def report(
    publisher: BackgroundPublisher,
    source: HeaderSource,
    state: str,
    name: str | None = None,
    percent: float = 0.0,
) -> None:
    """Report the state of a task to its canvas, if it has one.

    Progress is reported every `PROGRESS_EVERY` seconds at most. If a task ends without success, the tasks
    that wait for it end too.
    """
    ended = state in ENDS
    if ended or state == "STARTED":
        task_id, now, canvas = source.get("id"), time.monotonic(), header.membership(source)
        due = ended or not percent or now - _reported_at.get(task_id, 0.0) >= PROGRESS_EVERY
        if canvas is not None and due:
            _reported_at[task_id] = now
            index = source.get("group_index")
            publisher.put(
                canvas_events.make(
                    canvas.canvas_id,
                    canvas.size,
                    task_id,
                    state,
                    percent,
                    tags=canvas.tags,
                    name=name,
                    index=index,
                )
            )
    if ended and state != "SUCCESS":
        _end_stranded(publisher, source, state)


def _end_stranded(publisher: BackgroundPublisher, source: HeaderSource, state: str) -> None:
    """End the tasks that will never run because the task of `source` ended in `state`."""
    error = Error(
        type="NotRun", message=f"task {source.get('id')}, which was to run before, ended in {state}"
    )
    for task in tree.stranded(source):
        if task.id not in _ended_unrun:  # Many tasks of a header may fail. Each strands the same body.
            _ended_unrun[task.id] = None
            canvas = header.membership(task.options)
            seen = header.belonging(task.options, source)
            end = State(task.id, state=state, attempt=1, name=task.task, error=error, **seen)
            publisher.put(publication(end))
            if canvas is not None:
                publisher.put(
                    canvas_events.make(
                        canvas.canvas_id, canvas.size, task.id, state, tags=canvas.tags, name=task.task
                    )
                )


def never_ran(sender: Any, signal: Any, message: Any, **_: Any) -> None:
    """End what waits for a task that the worker does not know, or whose message is no task.

    The tasks that wait are in the body of the message. The worker has not read it, so there is no request.
    """
    publisher = publisher_of(sender.app)
    if publisher is not None:
        state = "FAILURE" if signal is signals.task_unknown else "REJECTED"
        _end_stranded(publisher, {**(message.headers or {}), **_embedded(message)}, state)


def _embedded(message: Any) -> dict[str, Any]:
    """Return the chain and the chord that a message carries, as far as it can be read."""
    with suppress(Exception):  # A serializer may raise anything.
        match message.payload:
            case [_, _, {**embedded}] | {**embedded}:
                return {name: embedded.get(name) for name in ("id", "chain", "chord") if embedded.get(name)}
    return {}
