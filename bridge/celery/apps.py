"""The Celery apps that have the bridge, and what `install` has set up for each."""

import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

# `Any` in this module: arguments and headers of a task hold any value.
from typing import Any

from celery import Celery

from bridge.channel.default_url import ChosenUrl
from bridge.channel.transport import Transport
from bridge.support.tokens import new_token
from bridge.tasks.publisher import BackgroundPublisher

TagTask = Callable[[str, Sequence[Any], Mapping[str, Any], Mapping[str, Any]], Iterable[str] | str | None]
"""Returns the tags of a task from its name, arguments, keyword arguments and message headers."""

OnState = Callable[[str, str, int | None, Any, Mapping[str, Any]], None]
"""Takes a state, the id of the task, its retries, its headers or its request, and other fields."""

FLUSH_WITHIN = 1.0
"""Seconds that the end, the retry or the sender of a task waits at most until its events are sent."""


@dataclass(slots=True)
class Installed:
    """The bridge of one app."""

    transport: Transport
    publisher: BackgroundPublisher
    chosen: ChosenUrl
    """The URL, and where it comes from."""
    tracebacks: bool
    """Whether the event of a failure contains the traceback."""
    heartbeat: float
    """Seconds between two heartbeats of a worker."""
    stalls_after: float
    """Seconds without a heartbeat after which the tasks of a worker are STALLED."""
    tags: TagTask | None = None
    """Chooses the tags of the tasks that this process queues."""
    capture: bool = False
    """Whether `update_state` and `send_event` of its tasks become events."""
    log_level: int | None = None
    """From which level on the records of its tasks become lines of their log; `None` for none."""
    feed: bool = True
    """Whether the feed of all tasks gets the events of this app."""
    arguments: bool = False
    """Whether the first event of a task contains its arguments."""
    tags_failed: bool = False
    """Whether an error of it was logged."""
    on_state: OnState | None = None
    """Called with each state that this process publishes, for metrics."""
    _process: tuple[int, str] = field(default=(0, ""))

    def process(self) -> str:
        """Return the name of this process in heartbeats and events. A forked child has another name."""
        if self._process[0] != os.getpid():
            self._process = (os.getpid(), new_token().decode())
        return self._process[1]


_installed: "weakref.WeakKeyDictionary[Celery, Installed]" = weakref.WeakKeyDictionary()


def register(app: Celery, bridge: Installed) -> Installed | None:
    """Give `app` this bridge. Return the one it had before, if any."""
    previous = _installed.get(app)
    if previous is not None:
        bridge.on_state = previous.on_state
    _installed[app] = bridge
    return previous


def installed(app: Celery) -> Installed | None:
    """Return the bridge of `app`, or `None` if it has none."""
    return _installed.get(app)


def name_of(app: Celery) -> str:
    """Return what `app` is called in a message."""
    return repr(app.main) if app.main else "without a name"


def names_of_installed() -> list[str]:
    """Return what the apps of this process with a bridge are called."""
    return sorted(map(name_of, _installed))


def publisher_of(app: Celery) -> BackgroundPublisher | None:
    """Return the background publisher of `app`, or `None` if the app has no bridge."""
    found = _installed.get(app)
    return None if found is None else found.publisher


def only_installed() -> tuple[Celery, Installed] | None:
    """Return the only app of this process with a bridge, and the bridge. Return `None` if there are more."""
    found = list(_installed.items())
    return found[0] if len(found) == 1 else None


def flush_all(**_: object) -> None:
    """Send the waiting events of every app of this process. Wait a second at most for each app.

    Also a handler of the signals with which a process of a worker ends.
    """
    for found in list(_installed.values()):
        found.publisher.flush(FLUSH_WITHIN)
