"""Sources of messages that are asked now and then, such as the progress of a task."""

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from bridge.model.publication import Publication

logger = logging.getLogger("bridge.tasks.sources")


class Source(Protocol):
    """Something to be asked for messages now and then."""

    due: float
    """The `time.monotonic()` before which it should not be asked."""
    waiting: bool
    """Whether it is to be asked again."""

    def take(self) -> Publication | None:
        """Return what is new, and set `due` and `waiting`. Not called twice at once."""

    def reset_after_fork(self) -> None:
        """Nobody in the child knows of this source."""


class Sources:
    """The sources that wait to be asked, one for each topic. Its user has a lock."""

    def __init__(self) -> None:
        # The one due first is in front: each goes to the end when it was asked.
        self._by_topic: dict[str, Source] = {}

    def reset_after_fork(self) -> None:
        """Forget all sources: who asks them is not in the child."""
        for source in self._by_topic.values():
            source.reset_after_fork()
        self._by_topic = {}

    def add(self, topic: str, source: Source) -> Publication | None:
        """Return what `source` has to say if it is due; else have it wait."""
        if source.due <= time.monotonic():
            return self._ask(topic, source)
        source.waiting = True
        self._by_topic[topic] = source
        return None

    def ask(self, topic: str) -> Publication | None:
        """Return what the source of `topic`, if it has one, has to say now."""
        source = self._by_topic.get(topic)
        return None if source is None else self._ask(topic, source)

    def _ask(self, topic: str, source: Source) -> Publication | None:
        self._by_topic.pop(topic, None)
        message = source.take()
        if source.waiting:
            self._by_topic[topic] = source
        return message

    def ask_due(self) -> Iterator[Publication]:
        """Yield the messages of all sources that are due."""
        while self.wait() == 0.0:
            topic, source = next(iter(self._by_topic.items()))
            try:
                message = self._ask(topic, source)
            except Exception:
                logger.exception("the progress of a task could not be published")
            else:
                if message is not None:
                    yield message

    def wait(self) -> float | None:
        """Return the seconds until the next source is due, `None` if there is none."""
        for source in self._by_topic.values():
            return max(0.0, source.due - time.monotonic())
        return None
