"""Notices that no worker publishes here: it lacks `install()`, or has another URL or namespace. No I/O."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from bridge.tasks.events import FEED, tag_topic, task_of

logger = logging.getLogger("bridge.tasks.missing_worker")

PATIENCE = 15.0
"""Seconds that a watched task may wait without a heartbeat of any worker: three of the default interval."""

_MOST_TASKS = 100
"""Tasks that are watched at once; one is enough."""


@dataclass(slots=True)
class _Waiting:
    """A task that waits."""

    topics: frozenset[str]
    """The topics that carry its events."""
    seconds: float = 0.0


class MissingWorkerCheck:
    """The watched tasks that no worker has taken, until a worker publishes. For one thread.

    It logs once in a process what is probably wrong.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._waiting: dict[str, _Waiting] = {}
        self.finished = False
        """Whether there is nothing more to find out."""
        self.missing = False
        """Whether it was logged that no worker is heard, and none was since."""

    @property
    def waits(self) -> bool:
        """Whether a heartbeat of a worker matters."""
        return bool(self._waiting)

    def note(self, topic: str, *, pending: bool, tags: Iterable[str] = ()) -> None:
        """Note whether the task of `topic`, which has `tags`, still waits for a worker."""
        if not pending:
            self._waiting.pop(topic, None)
        elif not self.finished and len(self._waiting) < _MOST_TASKS and topic not in self._waiting:
            self._waiting[topic] = _Waiting(frozenset((topic, FEED, *map(tag_topic, tags))))

    def heard(self) -> None:
        """Note that a worker publishes here. After that no check is needed."""
        self.finished, self.missing = True, False
        self._waiting.clear()

    def pass_time(self, seconds: float, watched: Collection[str]) -> None:
        """Add time in which a worker would have published, and log a warning if it was too long."""
        for topic, waiting in list(self._waiting.items()):
            waiting.seconds += seconds
            if not any(each in watched for each in waiting.topics):
                del self._waiting[topic]
            elif waiting.seconds >= PATIENCE:
                self._complain(topic)
                return

    def _complain(self, topic: str) -> None:
        self.heard()
        self.missing = True
        logger.warning(
            "no worker has taken the watched task %s, and for %d s none has been heard of at %s. Is a worker "
            "running, and does its app call bridge.celery.install(app, url) with this URL and namespace? "
            "install() in the web process alone is not enough. Without that viewers see nothing of its "
            "tasks. To find out run: celery -A app bridge doctor. This is logged once",
            task_of(topic),
            PATIENCE,
            self._where,
            extra={"event": "worker_missing", "task": task_of(topic), "location": self._where},
        )
