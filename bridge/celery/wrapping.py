"""Everything that the bridge connects or wraps in Celery: once in a process, at the first `install`.

1. `HANDLERS`: functions that Celery's signals call.
2. `freeze` of `Signature`, `_chain` and `chord`, and `group._freeze_group_tasks` (`canvas/marking.py`).
3. `apply_async` of `group`, `_chain` and `chord` (`canvas/starting.py`).
4. `send_task` of each app with the bridge, on the app itself (`queueing.py`).
5. `update_state` and `send_event` of `Task`, once an app asks for it with `capture` (`capturing.py`).
6. In a worker that starts: how Celery notes the end of a task, to count it (`worker_report.py`), and one more
   remote control command (`remote_control.py`).

Importing `bridge.celery` does none of this. Apps without the bridge are not affected.
"""

import threading
from collections.abc import Callable

from celery import Celery, signals
from celery.utils.dispatch import Signal

from bridge.celery import (
    cancellation,
    execution,
    heartbeat,
    log_capture,
    main_process,
    outcomes,
    prefork,
    queueing,
    remote_control,
    startup_log,
    tagging,
    task_run,
    worker_report,
)
from bridge.celery.apps import Installed, flush_all, register
from bridge.celery.canvas import reports
from bridge.celery.canvas.starting import wrap_canvas_classes
from bridge.celery.capturing import wrap_task

# Celery calls the handlers of one signal in this order, and ignores their results.
HANDLERS: tuple[tuple[Signal, Callable[..., object]], ...] = (
    # In the process that queues a task.
    (signals.before_task_publish, queueing.before_publish),
    (signals.after_task_publish, queueing.after_publish),
    # In the worker's main process.
    (signals.celeryd_after_setup, startup_log.log_where),
    (signals.worker_init, cancellation.learn_requests),
    (signals.worker_init, worker_report.count_ends),
    (signals.worker_init, remote_control.register),
    (signals.worker_ready, cancellation.learn_requests),  # Again: it receives revokes from here on.
    (signals.worker_ready, heartbeat.start),
    (signals.task_received, main_process.received),
    (signals.task_revoked, main_process.revoked),
    (signals.task_unknown, reports.never_ran),
    (signals.task_unknown, main_process.unknown),
    (signals.task_rejected, reports.never_ran),
    (signals.task_rejected, main_process.rejected),
    # In the process that runs a task. STARTED is published before the task's own events.
    (signals.task_prerun, prefork.flush_before_next_task),
    (signals.task_prerun, tagging.tag_eager),
    (signals.task_prerun, execution.started),
    (signals.task_prerun, task_run.begin),
    (signals.task_prerun, log_capture.attach_handler),
    (signals.task_success, execution.succeeded),
    (signals.task_failure, execution.failed),
    (signals.task_internal_error, execution.broke),
    (signals.task_retry, execution.retried),
    (signals.task_postrun, outcomes.returned),
    (signals.task_postrun, task_run.end),
    # When a process of a worker ends. Its events are sent before the last heartbeat.
    (signals.worker_process_shutdown, flush_all),
    (signals.worker_shutdown, flush_all),
    (signals.worker_shutdown, heartbeat.stop),
)

_lock = threading.Lock()
"""Guards that Celery and each app are wrapped once, although several threads may call `install`."""

_wrapped = False


def attach(app: Celery, bridge: Installed) -> Installed | None:
    """Give `app` this bridge, and wrap what is not wrapped yet. Return the bridge it had before, if any."""
    global _wrapped
    with _lock:
        if not _wrapped:
            _wrap_celery()
            _wrapped = True
        if bridge.capture:
            wrap_task()
        previous = register(app, bridge)
        if previous is None:
            queueing.wrap_send_task(app)
    return previous


def _wrap_celery() -> None:
    for signal, handler in HANDLERS:
        signal.connect(handler, weak=False)
    wrap_canvas_classes()
