"""The task that runs here: how far it is, and where its events go."""

import functools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar

# `Any` in this module: Celery hands tasks and requests of several unrelated classes to its signals, and the
# fields of an event hold any JSON value.
from typing import Any, ParamSpec, cast

from bridge.celery.apps import Installed, installed
from bridge.celery.canvas import header, reports
from bridge.celery.captured import Captured
from bridge.celery.publishing import publish_event
from bridge.model.publication import Publication
from bridge.tasks import events
from bridge.tasks.changes import publication
from bridge.tasks.encoding import cut
from bridge.tasks.event_types import Event, Progress, Step, StepStatus, now
from bridge.tasks.progress import Meter
from bridge.tasks.spans import Span, TrackedStep, here

logger = logging.getLogger("bridge.celery")

P = ParamSpec("P")

MOST_STEPS = 100
"""Steps that a snapshot shows. If there are more, the oldest that have ended are left out."""


def _never_raises(method: Callable[P, None]) -> Callable[P, None]:
    """Log an error in `method`, once in a run. An event that cannot be published does not end the task."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            run = cast(TaskRun, args[0])  # A decorator of a method cannot name the type of `self`.
            if not run.failed:
                run.failed = True
                with suppress(Exception):  # At the very limit of recursion logging fails too.
                    logger.exception(
                        "an event of task %s could not be published",
                        run.id,
                        extra={"event": "task_event_failed", "task": run.id},
                    )

    return guarded


class TaskRun(Meter):
    """One attempt of one task, in this process."""

    def __init__(self, name: str, request: Any, found: Installed | None) -> None:
        super().__init__(self._ask)
        publisher = None if found is None else found.publisher
        self.log_level = None if found is None else found.log_level
        self.captured = Captured()
        """What was captured of it, see `bridge.celery.capturing`."""
        self.id: str = request.id
        self.failed = False
        self._retries: int | None = request.retries
        self._name = name
        self.request = request
        self._belonging = header.belonging(request)
        self._publisher = publisher
        self._steps: dict[tuple[str, ...], StepStatus] = {}
        self.finished = publisher is None
        # The task that called this one in eager mode, and its innermost open span.
        self.outer = _current.get()
        self.outside = here.get()

    @_never_raises
    def publish(self, event_type: Callable[..., Event], **fields: Any) -> None:
        """Publish an event of this task."""
        if self._publisher is not None and not self.finished:
            event = event_type(self.id, **self._belonging, **fields)
            publish_event(self._publisher, event, (self._retries or 0) + 1)

    @property
    def uses_steps(self) -> bool:
        """Whether the task has begun a step or a loop of the bridge."""
        return bool(self._steps or self.loops) or self.latest is not self.root

    @_never_raises
    def publish_step(self, step: TrackedStep, status: str) -> None:
        """Publish that `step` is now `status`, with the steps that a snapshot is to show."""
        path, at = step.path, now()
        event = _step(path, status)
        with self.lock:
            before = self._steps.pop(tuple(path), None)
            self._steps[tuple(path)] = _with_times(event, at, before)
            if len(self._steps) > MOST_STEPS:
                ended = (path for path, step in self._steps.items() if step["status"] != "started")
                del self._steps[next(ended, next(iter(self._steps)))]
            steps = list(self._steps.values())
        self.publish(Step, at=at, steps=steps, **event)

    def take(self) -> Publication | None:
        """Return a progress event if there is anything new. The background publisher calls this."""
        fields = self.news()
        if fields is None:
            return None
        if "message" in fields:
            fields["message"] = cut(fields["message"])
        if self._publisher is not None:
            percent = fields.get("percent") or 0.0
            reports.report(self._publisher, self.request, "STARTED", self._name, percent)
        event = Progress(self.id, **self._belonging, **fields)
        return publication(event, (self._retries or 0) + 1)

    @_never_raises
    def _ask(self) -> None:
        if self._publisher is not None:
            self._publisher.watch(events.task_topic(self.id), self)


def _step(path: list[str], status: str) -> StepStatus:
    found = StepStatus(name=path[-1], status=status)
    if len(path) > 1:
        found["path"] = path
    return found


def _with_times(step: StepStatus, at: float, before: StepStatus | None) -> StepStatus:
    """Return `step`, which has changed at `at`, with its times; `before` is what it was before."""
    timed = step.copy()
    if step["status"] == "started":
        timed["started_at"] = at
        return timed
    if before is not None and "started_at" in before:
        timed["started_at"] = before["started_at"]
    timed["ended_at"] = at
    return timed


_current: ContextVar[TaskRun | None] = ContextVar("bridge.celery.task_run", default=None)

# A task that runs in the main thread, as in the prefork and solo pools, is the only one of its process.
_in_main_thread: TaskRun | None = None


def innermost() -> Span | None:
    """Return the innermost open span of the task that runs here, if one does.

    A thread without the context of a task belongs to the task of the main thread, if that runs one.
    """
    span = here.get()
    if span is not None:
        return None if span.tree.finished else span
    return None if _in_main_thread is None else _in_main_thread.top


def running() -> TaskRun | None:
    """Return the task that runs here, or `None` if none does. Threads: see `innermost`."""
    return _current.get() or _in_main_thread


def running_request() -> Any:
    """Return the request of the task that runs here, or `None` if none does."""
    run = _current.get()
    return None if run is None else run.request


def begin(task: Any, **_: Any) -> None:
    """Make the task that begins the one that runs here."""
    global _in_main_thread
    run = TaskRun(task.name, task.request, installed(task.app))
    _current.set(run)
    here.set(run.root)
    if threading.current_thread() is threading.main_thread():
        _in_main_thread = run


def end(**_: Any) -> None:
    """Make the task that called this one in eager mode, if any, the one that runs here."""
    global _in_main_thread
    run = _current.get()
    if run is None:
        return
    run.finished = True
    _current.set(run.outer)
    here.set(run.outside)
    if _in_main_thread is run:
        _in_main_thread = run.outer
