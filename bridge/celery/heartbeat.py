"""The heartbeat of a worker: its main process says, again and again, that it is there.

In a thread of its own, so that neither the consumer nor a task that blocks the main thread (solo) holds it
up. Under gevent it is a greenlet, which a task that never yields does hold up.
"""

import itertools
import os
import threading
import time
from contextlib import suppress
from typing import Any

from celery import signals

from bridge.celery.installation import Installed, installed
from bridge.celery.lifecycle import topics_in_hand
from bridge.errors import PublishError
from bridge.model import state
from bridge.model.publication import Publication
from bridge.tasks import events

RENEWED_AT_ONCE = 500
"""Tasks renewed with one beat at most, so that the next beat is not late."""

_hearts: list["_Heart"] = []


class _Heart:
    """Beats until it is stopped, or finds itself copied into another process."""

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
        """Say goodbye, unless that takes longer than a second."""
        self._stopped.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        numbers = itertools.count(1)
        while os.getpid() == self._pid:
            self._beat(next(numbers), gone=self._stopped.is_set())
            if self._stopped.is_set():
                return
            self._renew()
            self._stopped.wait(self._found.heartbeat)

    def _beat(self, number: int, gone: bool) -> None:
        said = events.beat(self._found.process(), self._worker, number, gone=gone)
        # An old beat is worth nothing: the next will tell, and the outbox logs the outage.
        with suppress(PublishError):
            self._found.transport.publish(Publication(events.WORKERS, said))

    def _renew(self) -> None:
        """Now and then have the backend keep what is known of the tasks that this worker has.

        A task may be silent for longer than its state is kept otherwise.
        """
        now = time.monotonic()
        if not self._to_renew and now >= self._renew_at:
            self._to_renew = topics_in_hand()
            self._renew_at = now + state.UNENDED_SECONDS / 4
        if self._to_renew:
            with suppress(PublishError):  # the next beat does it then
                self._found.transport.backend.renew([events.FEED, *self._to_renew[:RENEWED_AT_ONCE]])
                del self._to_renew[:RENEWED_AT_ONCE]


@signals.worker_ready.connect
def _begin(sender: Any, **_: Any) -> None:
    found = installed(sender.app)
    if found is not None:
        _hearts.append(_Heart(found, sender.hostname))


@signals.worker_shutdown.connect
def _end(**_: Any) -> None:
    while _hearts:
        _hearts.pop().stop()
