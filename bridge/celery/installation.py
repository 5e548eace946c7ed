"""Which outbox the events of a Celery app leave through, and what else `install` settles."""

import atexit
import functools
import logging
import os
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from celery import Celery

from bridge.channel.factory import connect
from bridge.channel.transport import Transport, transport_of
from bridge.errors import ConfigurationError
from bridge.support.tokens import new_token
from bridge.tasks import events
from bridge.tasks.publisher import BackgroundPublisher

logger = logging.getLogger("bridge.celery")

FLUSH_WITHIN = 1.0
"""Seconds a task's end, or the one who queues a task, waits at most for its events to leave."""


@dataclass(slots=True)
class Installed:
    """What an app with the bridge has."""

    transport: Transport
    publisher: BackgroundPublisher
    tracebacks: bool
    heartbeat: float
    stalls_after: float
    _process: tuple[int, str] = field(default=(0, ""))

    def process(self) -> str:
        """Return the name by which this process is heard of, drawn anew in each."""
        if self._process[0] != os.getpid():
            self._process = (os.getpid(), new_token().decode())
        return self._process[1]


_installed: "weakref.WeakKeyDictionary[Celery, Installed]" = weakref.WeakKeyDictionary()


def install(
    app: Celery,
    url: str,
    *,
    tracebacks: bool = False,
    heartbeat: float = 5.0,
    stalls_after: float | None = None,
    **options: Any,
) -> None:
    """Have the tasks of `app` publish their events on the channel of `url`; `options` are those of `connect`.

    With `tracebacks` a failure tells its traceback to everyone who may read the task. A worker says every
    `heartbeat` seconds that it is there; when it has not been heard of for `stalls_after` seconds (three
    heartbeats unless set), its tasks show as STALLED.

    Call it once where the app is made, so that workers and those who queue tasks both run it; a second
    call replaces the first. Opens nothing and starts no thread until there is an event to send. Raises
    `ConfigurationError`.
    """
    if not isinstance(app, Celery):
        raise ConfigurationError(f"install() takes a Celery app, not {type(app).__name__}")
    limit = 3 * heartbeat if stalls_after is None else stalls_after
    if not 0 < heartbeat < limit:
        raise ConfigurationError(
            f"heartbeat must be seconds above zero and below stalls_after, not {heartbeat!r} and {limit!r}"
        )
    transport = transport_of(connect(url, **options))
    publisher = BackgroundPublisher(transport)
    previous = _installed.get(app)
    _installed[app] = Installed(transport, publisher, tracebacks, float(heartbeat), float(limit))
    if previous is None:
        _tell_sender(app)
    else:
        previous.publisher.close()
    atexit.register(publisher.flush, FLUSH_WITHIN)


class _Sending(threading.local):
    """The message that is being sent here."""

    sender: Installed | None = None
    """What the app has that sends it, `None` if that app is without the bridge."""
    headers: Any = None
    """Its headers, once they are known."""


sending = _Sending()


def _tell_sender(app: Celery) -> None:
    """Have `sending` know when `app` sends a task: Celery's signals name the message, but not the app."""
    own = vars(app).get("send_task")

    @functools.wraps(app.send_task)
    def send_task(*args: Any, **kwargs: Any) -> Any:
        before = sending.sender, sending.headers
        sending.sender, sending.headers = _installed.get(app), None
        try:
            # Looked up now: whoever wraps the method of the class later is heard too.
            return own(*args, **kwargs) if own else type(app).send_task(app, *args, **kwargs)
        finally:
            sending.sender, sending.headers = before

    vars(app)["send_task"] = send_task


def installed(app: Celery) -> Installed | None:
    """Return what `app` has, `None` if it is without the bridge."""
    return _installed.get(app)


def publisher_of(app: Celery) -> BackgroundPublisher | None:
    """Return the outbox of `app`, `None` if it is not installed."""
    found = _installed.get(app)
    return None if found is None else found.publisher


def only_installed() -> tuple[Celery, Installed] | None:
    """Return the only app of this process with the bridge, and what it has; `None` if there are several."""
    found = list(_installed.items())
    return found[0] if len(found) == 1 else None


def flush_all() -> None:
    """Send what waits in every outbox of this process, as far as it can be in a second."""
    for found in list(_installed.values()):
        found.publisher.flush(FLUSH_WITHIN)


def tell(publisher: BackgroundPublisher, kind: str, task_id: str, attempt: int | None, **fields: Any) -> None:
    """Have `publisher` publish an event of a task; the longer texts of one above `max_payload` are cut."""
    for longest in (None, *_SHORTER):
        told = fields if longest is None else _shortened(fields, longest)
        event = events.make(kind, task_id, attempt=attempt, **told)
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


_SHORTER = (events.LONGEST_TEXT, 1_000, 100)
"""Characters that a text of an event keeps, one after the other, until the event is small enough."""

_too_large = threading.Event()
"""Whether this process has logged that an event is too large."""


def _shortened(fields: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """Return `fields` of an event with texts of at most `longest` characters; other values become texts."""
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
