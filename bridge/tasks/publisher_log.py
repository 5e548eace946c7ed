"""The log lines of the background publisher. None of them is written for each message."""

import logging

logger = logging.getLogger("bridge.tasks.publisher")


def closed_early(count: int) -> None:
    logger.warning(
        "%d task events could not be sent before the publisher was closed",
        count,
        extra={"event": "publisher_closed_early", "count": count},
    )


def down(reason: object) -> None:
    logger.warning(
        "task events cannot be sent and wait until the backend is back: %s",
        reason,
        extra={"event": "publisher_down", "error": str(reason)},
    )


def up(dropped: int) -> None:
    logger.warning(
        "task events are sent again; %d were dropped so far",
        dropped,
        extra={"event": "publisher_up", "dropped": dropped},
    )


def refused(topic: str, error: Exception) -> None:
    logger.error(
        "an event of %r was dropped, further ones are only counted: %s",
        topic,
        error,
        extra={"event": "event_refused", "topic": topic, "error": str(error)},
    )


def failed(topic: str, error: Exception) -> None:
    logger.error(
        "a task event could not be sent and was dropped",
        exc_info=error,
        extra={"event": "event_dropped", "topic": topic},
    )
