"""Which task runs here: its meter, and where its events go."""

import functools
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, ParamSpec, cast

from celery import signals

from bridge.celery import parts
from bridge.celery.installation import publisher_of, tell
from bridge.model.publication import Publication
from bridge.tasks import events
from bridge.tasks.progress import Meter, Part, Step, here
from bridge.tasks.publisher import BackgroundPublisher

logger = logging.getLogger("bridge.celery")

P = ParamSpec("P")

MOST_STEPS = 100
"""Steps of which a snapshot knows; of more, the oldest that have ended give way."""


def _never_raises(method: Callable[P, None]) -> Callable[P, None]:
    """Have what goes wrong in `method` logged, once in a run; what a task says must not end it."""

    @functools.wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(*args, **kwargs)
        except Exception:
            run = cast(Run, args[0])
            if not run.failed:
                run.failed = True
                with suppress(Exception):  # at the very limit of recursion logging fails too
                    logger.exception("an event of task %s could not be published", run.id)

    return guarded


class Run(Meter):
    """One attempt of one task, in this process."""

    def __init__(self, name: str, request: Any, publisher: BackgroundPublisher | None) -> None:
        super().__init__(self._ask)
        self.id: str = request.id
        self.failed = False
        self._retries: int | None = request.retries
        self._name = name
        self._request = request
        self._canvas_id = parts.canvas_of(request)
        self._publisher = publisher
        self._steps: dict[tuple[str, ...], str] = {}
        self.over = publisher is None
        # What this run interrupts: the task that called this one in eager mode, and its innermost part.
        self.outer = _run.get()
        self.outside = here.get()

    @_never_raises
    def say(self, kind: str, **fields: Any) -> None:
        """Publish an event of this task."""
        if self._publisher is not None and not self.over:
            tell(
                self._publisher, kind, self.id, (self._retries or 0) + 1, canvas_id=self._canvas_id, **fields
            )

    @_never_raises
    def say_step(self, step: Step, status: str) -> None:
        """Publish that `step` is now `status`, with what the others are."""
        path = step.path
        with self.lock:
            self._steps.pop(tuple(path), None)
            self._steps[tuple(path)] = status
            if len(self._steps) > MOST_STEPS:
                ended = (path for path, status in self._steps.items() if status != "started")
                del self._steps[next(ended, next(iter(self._steps)))]
            steps = [_step(list(path), status) for path, status in self._steps.items()]
        self.say("step", steps=steps, **_step(path, status))

    def take(self) -> Publication | None:
        """Return a progress event if there is news; for the outbox."""
        fields = self.news()
        if fields is None:
            return None
        if "message" in fields:
            fields["message"] = events.cut(fields["message"])
        if self._publisher is not None:
            parts.follow(self._publisher, self._request, "STARTED", self._name, fields.get("percent") or 0.0)
        fields["canvas_id"] = self._canvas_id
        return events.make("progress", self.id, attempt=(self._retries or 0) + 1, **fields)

    @_never_raises
    def _ask(self) -> None:
        if self._publisher is not None:
            self._publisher.watch(events.task_topic(self.id), self)


def _step(path: list[str], status: str) -> dict[str, Any]:
    return {"name": path[-1], "status": status} | ({"path": path} if len(path) > 1 else {})


_run: "ContextVar[Run | None]" = ContextVar("bridge.celery.run", default=None)

# A task that runs in the main thread, as in the prefork and solo pools, is the only one of its process.
_in_main_thread: Run | None = None


def innermost() -> Part | None:
    """Return the innermost open part of the task that runs here, if one does.

    A thread without the context of a task belongs to the task of the main thread, if that runs one.
    """
    part = here.get()
    if part is not None:
        return None if part.meter.over else part
    return None if _in_main_thread is None else _in_main_thread.top


@signals.task_prerun.connect
def _begin(task: Any, **_: Any) -> None:
    global _in_main_thread
    run = Run(task.name, task.request, publisher_of(task.app))
    _run.set(run)
    here.set(run.root)
    if threading.current_thread() is threading.main_thread():
        _in_main_thread = run


@signals.task_postrun.connect
def _end(**_: Any) -> None:
    global _in_main_thread
    run = _run.get()
    if run is None:
        return
    run.over = True
    _run.set(run.outer)
    here.set(run.outside)
    if _in_main_thread is run:
        _in_main_thread = run.outer
