"""Has tasks that know nothing of the bridge publish: `update_state` and `send_event` of Celery become events.

Both methods of Celery's `Task` are wrapped once in a process, when an app asks for it. They do what they did;
what they say of the task that runs is published in addition. A task that reports progress through the bridge
is left alone: its own figures count.
"""

import functools
import logging
from collections.abc import Callable, Mapping

# `Any` in this module: the meta of a state, the fields of an event and the request of a task hold any value.
from typing import Any

from celery import Task, states
from celery.exceptions import SoftTimeLimitExceeded

from bridge.celery.apps import Installed, installed
from bridge.celery.arguments import number
from bridge.celery.main_process import PROCESS
from bridge.celery.states import publish_task_state
from bridge.celery.task_run import TaskRun, running
from bridge.support.recent import Recent
from bridge.tasks import events
from bridge.tasks.encoding import in_text
from bridge.tasks.event_types import ENDS, Custom

logger = logging.getLogger("bridge.celery")

PROGRESS = "PROGRESS"
"""The state of Celery's documentation, and of celery-progress, for a task that reports how far it is."""

KNOWN = frozenset(states.ALL_STATES) | ENDS | {PROGRESS, "STALLED"}
"""States that are not shown by their name: Celery's own, whose events the bridge publishes, and progress."""

LONGEST_STATE = 100
"""Characters of a state that is shown."""

MESSAGES = ("description", "message", "status")
"""The keys of a text: celery-progress writes the first, many tasks one of the others."""

PERCENTS = ("percent", "progress")
"""The keys of a percentage, for a task that has no figures."""

_MOST_TOLD = 1000
"""Names of tasks that are remembered, so that a fault of one is logged once."""

_wrapped = False


def wrap_task() -> None:
    """Wrap the methods of Celery's `Task`, unless this is done already. Not for two threads at once."""
    global _wrapped
    if not _wrapped:
        _wrapped = True
        _wrap("update_state", _capture_state)
        _wrap("send_event", _capture_event)


def _wrap(name: str, capture: Callable[..., None]) -> None:
    method = getattr(Task, name)
    told: Recent[str, None] = Recent(_MOST_TOLD)

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            found = installed(self.app)
            if found is not None and found.capture:
                capture(self, found, *args, **kwargs)
        except SoftTimeLimitExceeded:
            raise  # the time of the task is up, wherever it is
        except Exception:
            # Once for each task: it may call the method many times a second.
            if self.name not in told:
                told[self.name] = None
                logger.exception(
                    "%s of the task %s could not be captured",
                    name,
                    self.name,
                    extra={"event": "capture_failed", "method": name, "task_name": self.name},
                )
        return method(self, *args, **kwargs)

    setattr(Task, name, wrapped)


def _capture_state(
    task: Any, found: Installed, task_id: Any = None, state: Any = None, meta: Any = None, **_: Any
) -> None:
    """Publish what `update_state` says of the task that runs here."""
    run = _run_of(task, task_id)
    if run is None or not isinstance(state, str):
        return
    if isinstance(meta, Mapping) and state not in ENDS:
        _capture_progress(run, meta)
    if _is_own(state) and run.captured.may_change(state):
        process = getattr(task.request, PROCESS, None)
        watched = {"process": process, "stalls_after": found.stalls_after} if process else {}
        publish_task_state(task, state, task.request, **watched)


def _is_own(state: str) -> bool:
    """Return whether the task has chosen the name of the state."""
    return state not in KNOWN and 1 <= len(state) <= LONGEST_STATE and state.isprintable()


def _capture_progress(run: TaskRun, meta: Mapping[Any, Any]) -> None:
    """Report the figures in `meta`, unless the task has reported its own."""
    figures = figures_in(meta)
    reported = run.root.reported
    if figures is None or run.uses_steps or (reported is not None and reported is not run.captured.report):
        return
    report = (*figures, run.root.count)
    run.captured.report = run.root.reported = report
    run.latest = run.root
    run.changed()


def figures_in(meta: Mapping[Any, Any]) -> tuple[float, float | None, str | None] | None:
    """Return the figures and the text in the meta of a state, `None` if it has no figures."""
    text = next(
        (in_text(meta[key]) for key in MESSAGES if isinstance(meta.get(key), str) and meta[key]), None
    )
    try:
        if meta.get("current") is not None:
            total = meta.get("total")
            return number("current", meta["current"]), None if total is None else number("total", total), text
        percent = next((meta[key] for key in PERCENTS if meta.get(key) is not None), None)
        return None if percent is None else (number("percent", percent), 100, text)
    except ValueError:
        return None  # the keys mean something else here


def _capture_event(task: Any, _found: Installed, type_: Any, *_: Any, **fields: Any) -> None:
    """Publish what `send_event` says of the task that runs here, as an event of that type."""
    run = _run_of(task, None)
    try:
        event_type = events.check_type(type_)
    except ValueError:
        return  # a type that is reserved or no text; Celery's own monitors get it all the same
    if run is not None:
        data = {name: value for name, value in fields.items() if name not in ("retry", "retry_policy")}
        run.publish(Custom, type=event_type, data=data or None)


def _run_of(task: Any, task_id: Any) -> TaskRun | None:
    """Return the run of `task` if that is what runs here, and if `task_id`, if given, is its id."""
    run = running()
    if run is None or run.finished or run.id != task.request.id:
        return None
    return run if task_id in (None, run.id) else None
