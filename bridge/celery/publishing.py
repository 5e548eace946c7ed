"""Publishes events of tasks. Texts are cut until an event is small enough for the channel."""

import logging
import threading
from collections.abc import Mapping

# `Any` in this module: the fields of an event hold any JSON value, or a task's own value to be encoded.
from typing import Any

from bridge.tasks import events
from bridge.tasks.publisher import BackgroundPublisher

logger = logging.getLogger("bridge.celery")

_SHORTER = (events.LONGEST_TEXT, 1_000, 100)
"""The lengths to which texts are cut, in characters. Each is tried in turn."""

_too_large = threading.Event()
"""Whether this process has logged that an event is too large."""


def tell(publisher: BackgroundPublisher, kind: str, task_id: str, attempt: int | None, **fields: Any) -> None:
    """Publish an event of a task in the background. Cut its longer texts if it exceeds `max_payload`."""
    for longest in (None, *_SHORTER):
        sent = fields if longest is None else _shortened(fields, longest)
        event = events.make(kind, task_id, attempt=attempt, **sent)
        if publisher.takes(event.payload):
            publisher.put(event)
            return
    if not _too_large.is_set():
        _too_large.set()
        logger.warning(
            "a %s event of task %s is not sent: even when cut it has %d bytes, more than max_payload. "
            "Choose a larger max_payload; further events that are too large are not logged",
            kind, task_id, len(event.payload),
        )  # fmt: skip


def _shortened(fields: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """Return `fields` with texts of at most `longest` characters. Other values become texts."""
    short: dict[str, Any] = {}
    for name, value in fields.items():
        if name == "error":
            short[name] = {part: events.cut(text, longest) for part, text in value.items()}
        elif name == "steps" or value is None or isinstance(value, bool | float):
            short[name] = value
        elif isinstance(value, int):
            short[name] = value if -1e100 < value < 1e100 else events.in_words(value)
        else:
            short[name] = events.cut(value if isinstance(value, str) else events.in_words(value), longest)
    return short
