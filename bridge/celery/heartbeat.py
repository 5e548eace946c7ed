"""The heartbeat of a worker: its main process publishes every few seconds that it is there.

It has a thread of its own, so that neither the consumer nor a task that blocks the main thread (solo pool)
delays it. Under gevent the thread is a greenlet. A task that never yields does delay that.
"""

import itertools
import os
import threading
import time
from contextlib import suppress

# `Any` in this module: Celery hands workers of several unrelated classes to its signals.
from typing import Any

from bridge.celery import worker_report
from bridge.celery.apps import Installed, installed
from bridge.celery.main_process import topics_in_hand
from bridge.errors import ConnectionLost, PublishError
from bridge.model import state
from bridge.tasks import events, heartbeats
from bridge.tasks.heartbeats import WORKERS, Heartbeat

RENEWED_AT_ONCE = 500
"""Tasks renewed after one heartbeat at most, so that the next heartbeat is not late."""

REMOVED_AT_ONCE = 100
"""Fields of silent workers that are removed in one step."""

_heartbeats: list["_Heartbeat"] = []
"""Those of the workers in this process."""


class _Heartbeat:
    """Publishes heartbeats until it is stopped. A copy in a forked child publishes none."""

    def __init__(self, found: Installed, worker: str | None) -> None:
        self._found = found
        self._worker = worker
        self._pid = os.getpid()
        self._stopped = threading.Event()
        self._to_renew: list[str] = []
        self._renew_at = 0.0
        self._thread = threading.Thread(target=self._run, name="bridge-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Publish a last heartbeat. Wait for it a second at most."""
        self._stopped.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        numbers = itertools.count(1)
        self._forget_old_workers()
        while os.getpid() == self._pid:
            stopped = self._stopped.is_set()
            self._publish(next(numbers), is_last=stopped)
            if stopped:
                return
            self._renew()
            self._stopped.wait(self._found.heartbeat)

    def _publish(self, number: int, is_last: bool) -> None:
        report = worker_report.report(self._found.stalls_after)
        heartbeat = Heartbeat(
            self._found.process(), self._worker, number, is_last, feed=self._found.feed, report=report
        )
        # A late heartbeat is worth nothing: the next one replaces it. The background publisher logs the
        # outage.
        with suppress(PublishError):
            self._found.transport.publish(heartbeat.publication())

    def _forget_old_workers(self) -> None:
        """Remove workers that are long silent from the state. Each worker that starts does so.

        So the state is bounded, however often workers start under new names.
        """
        with suppress(ConnectionLost, PublishError):
            states = self._found.transport.states(WORKERS)
            names = heartbeats.outdated(states[0].fields, time.time()) if states else []
            for start in range(0, len(names), REMOVED_AT_ONCE):
                self._found.transport.backend.remove_fields(WORKERS, names[start : start + REMOVED_AT_ONCE])

    def _renew(self) -> None:
        """Renew the states of the tasks that this worker has, four times in the time for which they are kept.

        Otherwise the state of a task that publishes nothing for longer than that would be lost.
        """
        now = time.monotonic()
        if not self._to_renew and now >= self._renew_at:
            self._to_renew = topics_in_hand()
            self._renew_at = now + state.UNENDED_SECONDS / 4
        if self._to_renew:
            with suppress(PublishError):  # It is tried again after the next heartbeat.
                self._found.transport.backend.renew([events.FEED, *self._to_renew[:RENEWED_AT_ONCE]])
                del self._to_renew[:RENEWED_AT_ONCE]


def start(sender: Any, **_: Any) -> None:
    """Start the heartbeat of a worker."""
    found = installed(sender.app)
    if found is not None:
        _heartbeats.append(_Heartbeat(found, sender.hostname))


def stop(**_: Any) -> None:
    """Stop the heartbeats of this process."""
    while _heartbeats:
        _heartbeats.pop().stop()
