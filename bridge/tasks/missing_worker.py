"""Finds out that no worker speaks here: it lacks `install()`, or has another URL or namespace. No I/O."""

import logging
from collections.abc import Collection, Sequence

from bridge.backends.base import Item, States
from bridge.tasks import events

logger = logging.getLogger("bridge.tasks.missing_worker")

PATIENCE = 15.0
"""Seconds that a watched task may wait without a beat of any worker: three of them, unless that is set."""

_MOST = 100
"""Tasks that are looked at; one is enough."""


class MissingWorkerCheck:
    """Which of the watched tasks no worker has taken, until a worker is heard of. For one thread.

    It says once in a process what is probably wrong.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._waiting: dict[str, float] = {}
        self._over = False

    @property
    def waits(self) -> bool:
        """Whether it matters to hear of a worker."""
        return bool(self._waiting)

    def see(self, items: Sequence[Item]) -> None:
        """Note what `items`, on their way to viewers, say of tasks."""
        if self._over:
            return
        for item in items:
            if isinstance(item, States):
                told = {state.topic: events.last_state(state.fields) for state in item.states}
                if events.task_of(item.topic) is not None:
                    told.setdefault(item.topic, b"")
                for topic, payload in told.items():
                    self._note(topic, not payload or events.says_pending(payload))
            elif events.says_state(item) and (self._waiting or events.says_pending(item)):
                event = events.decode(item)
                if event is not None:
                    self._note(events.task_topic(event["task"]), event["state"] == "PENDING")

    def _note(self, topic: str, pending: bool) -> None:
        if not pending:
            self._waiting.pop(topic, None)
        elif len(self._waiting) < _MOST:
            self._waiting.setdefault(topic, 0.0)

    def heard(self) -> None:
        """Note that a worker speaks here: from now on there is nothing to find out."""
        self._over = True
        self._waiting.clear()

    def tick(self, seconds: float, watched: Collection[str]) -> None:
        """Let time pass in which a worker would have been heard of, and complain if it was too long."""
        for topic, waited in list(self._waiting.items()):
            if topic not in watched and events.FEED not in watched:
                del self._waiting[topic]
            elif waited + seconds < PATIENCE:
                self._waiting[topic] = waited + seconds
            else:
                self._complain(topic)
                return

    def _complain(self, topic: str) -> None:
        self.heard()
        logger.warning(
            "no worker has taken the watched task %s, and for %d s none has been heard of at %s. Is a worker "
            "running, and does its app call bridge.celery.install(app, url) with this URL and namespace? "
            "Without that viewers see nothing of its tasks. This is logged once",
            events.task_of(topic),
            PATIENCE,
            self._where,
        )
