"""Reports: what the child processes of a worker tell its main process, over a socket that they inherit."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime

# `Any` in this module: the fields of an event and the headers of a message hold any JSON value.
from typing import Any

from bridge.celery.queueing import QUEUED_AT
from bridge.prometheus.tasks import Report
from bridge.support.fork import reset_in_child
from bridge.support.recent import Recent
from bridge.tasks.event_types import ENDS
from bridge.tasks.publisher_counts import PUBLISHERS, PublisherCounts

EVERY = 5.0
"""Seconds after which a child reports its publishers, if their numbers have changed."""

RUNNING = 10_000
"""Tasks that run in a process at once, of which it is known when they began."""

_COUNTED = ENDS | {"STARTED", "RETRY"}


class Reports:
    """Reports the states of tasks. Make it in the main process of a worker, before there are children."""

    def __init__(self, take: Callable[[Report], None]) -> None:
        """`take` gets each report in the main process, one at a time."""
        self._take = take
        self._main = os.getpid()
        self._to_main, self._from_children = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._to_main.setblocking(False)
        self._began: Recent[str, float] = Recent(RUNNING)
        self._reported = PublisherCounts()
        self._lost = 0
        self.reset_after_fork()
        reset_in_child(self)
        threading.Thread(target=self._receive, name="bridge-metrics", daemon=True).start()

    def reset_after_fork(self) -> None:
        """Begin as a child: its publishers count from 0."""
        self._lock = threading.Lock()  # In the main process guards `_take`, in a child what it has reported.
        self._reporter: threading.Thread | None = None

    def on_state(
        self, state: str, task_id: str, retries: int | None, source: Any, fields: Mapping[str, Any]
    ) -> None:
        """Report that a task is now in `state`. Any process and thread of the worker may call it."""
        if state not in _COUNTED:
            return
        name = str(fields.get("name"))
        if state != "STARTED":
            began = self._began.pop(task_id, None)
            self._report(name, state, None if began is None else time.monotonic() - began)
            return
        self._began[task_id] = time.monotonic()
        first = not retries and not fields.get("redelivered")
        self._report(name, state, _seconds_in_queue(source) if first else None)

    def flush(self, **_: Any) -> None:
        """Report the last numbers of a child that ends."""
        if os.getpid() != self._main:
            self._send(Report(os.getpid()))

    def _report(self, name: str, state: str, seconds: float | None) -> None:
        report = Report(os.getpid(), name, state, seconds)
        if report.pid == self._main:
            with self._lock:
                self._take(report)
            return
        self._send(report)
        if self._reporter is None:
            self._reporter = threading.Thread(target=self._go_on, name="bridge-metrics", daemon=True)
            self._reporter.start()

    # In a child.

    def _send(self, report: Report) -> None:
        with self._lock:
            now, before = PUBLISHERS.counts(), self._reported
            grown = (after - known for after, known in zip(now[2:], before[2:], strict=True))
            report = report._replace(publishers=(*now[:2], *grown), lost=self._lost)
            try:
                self._to_main.send(json.dumps(report).encode())
            except OSError:  # The main process is busy or has ended: a metric is worth no wait.
                self._lost += report.name is not None
            else:
                self._reported, self._lost = now, 0

    def _go_on(self) -> None:
        """Report the publishers while a task runs for long, or after it."""
        waiting = threading.Event()
        while self._reporter is threading.current_thread():
            waiting.wait(EVERY)
            if PUBLISHERS.counts() != self._reported or self._reported.waiting:
                self._send(Report(os.getpid()))

    # In the main process.

    def _receive(self) -> None:
        while os.getpid() == self._main:
            report = Report(*json.loads(self._from_children.recv(65536)))
            with self._lock:
                self._take(report)


def _seconds_in_queue(source: Any) -> float | None:
    """Return how long a task waited since it was queued, or since the time for which it was planned."""
    queued_at, eta = source.get(QUEUED_AT), source.get("eta")
    if not isinstance(queued_at, int | float):
        return None
    try:
        due = datetime.fromisoformat(eta).timestamp() if isinstance(eta, str) else queued_at
    except ValueError:
        due = queued_at
    return time.time() - max(queued_at, due)
