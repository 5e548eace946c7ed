"""Sources that are polled for messages, such as the progress of a task."""

import logging
import time
from collections.abc import Iterator
from typing import Protocol

from bridge.model.publication import Publication

logger = logging.getLogger("bridge.tasks.sources")


class Source(Protocol):
    """A source that is polled for messages."""

    due: float
    """The `time.monotonic()` before which it should not be polled."""
    waiting: bool
    """Whether to poll it again."""

    def take(self) -> Publication | None:
        """Return the next message, if any, and set `due` and `waiting`. Not called by two threads at once."""

    def reset_after_fork(self) -> None:
        """Note, in a forked child, that nobody polls this source."""


class Sources:
    """The sources that wait to be polled, one for each topic. Not thread-safe: its user has a lock."""

    def __init__(self) -> None:
        # The source that is due first is in front. Each goes to the end after it was polled.
        self._by_topic: dict[str, Source] = {}

    def reset_after_fork(self) -> None:
        """Remove all sources: the thread that polls them is not in the child."""
        for source in self._by_topic.values():
            source.reset_after_fork()
        self._by_topic = {}

    def add(self, topic: str, source: Source) -> Publication | None:
        """Return the message of `source` if it is due. Otherwise let it wait."""
        if source.due <= time.monotonic():
            return self._ask(topic, source)
        source.waiting = True
        self._by_topic[topic] = source
        return None

    def ask(self, topic: str) -> Publication | None:
        """Return the message of the source of `topic`, if there is a source and a message."""
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
                logger.exception(
                    "the progress of a task could not be published",
                    extra={"event": "progress_failed", "topic": topic},
                )
            else:
                if message is not None:
                    yield message

    def wait(self) -> float | None:
        """Return the seconds until the next source is due, `None` if there is none."""
        for source in self._by_topic.values():
            return max(0.0, source.due - time.monotonic())
        return None
