"""Publishes events of tasks. Texts are cut until an event is small enough for the channel."""

import logging
import threading

from bridge.tasks.changes import publication
from bridge.tasks.event_types import Event
from bridge.tasks.publisher import BackgroundPublisher
from bridge.tasks.shortening import versions

logger = logging.getLogger("bridge.celery")

_too_large = threading.Event()
"""Whether this process has logged that an event is too large."""


def publish_event(publisher: BackgroundPublisher, event: Event, attempt: int | None = 1) -> None:
    """Publish an event of a task in the background. Cut its longer texts if it exceeds `max_payload`.

    `attempt` is the one that the task is in, from 1; a `State` carries its own.
    """
    for version in versions(event):
        message = publication(version, attempt)
        if publisher.takes(message.payload):
            publisher.put(message)
            return
    if not _too_large.is_set():
        _too_large.set()
        logger.warning(
            "a %s event of task %s is not sent: even when cut it has %d bytes, more than max_payload. "
            "Choose a larger max_payload; further events that are too large are not logged",
            event.type, event.task, len(message.payload),
            extra={"event": "event_too_large", "task": event.task, "size": len(message.payload)},
        )  # fmt: skip
