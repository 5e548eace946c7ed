"""Finds tasks whose worker has vanished while coroutines watch them, as the streams of a process do."""

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from bridge.backends.base import Item
from bridge.channel.transport import Transport
from bridge.tasks.liveness import TICK, LivenessMonitor


class WatchedTasks:
    """The tasks of one channel that are watched in one event loop. It has one timer, and uses no lock."""

    def __init__(self, transport: Transport) -> None:
        """Create it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._watchers: Counter[str] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self._monitor: LivenessMonitor | None = None

    def add(self, topic: str) -> None:
        """Note one more watcher of the task of `topic`."""
        if self._monitor is None:
            self._monitor = LivenessMonitor(self._transport, self._do)
            self._timer = self._loop.call_later(TICK, self._tick)
        self._watchers[topic] += 1

    def remove(self, topic: str) -> None:
        """Note that a watcher has left. The last one ends the timer and the thread that publishes."""
        self._watchers[topic] -= 1
        self._watchers += Counter()  # drops what is zero
        if not self._watchers and self._monitor is not None and self._timer is not None:
            self._timer.cancel()
            self._monitor.stop()
            self._monitor = self._timer = None

    def see(self, item: Item) -> None:
        """Note what a watcher is about to see."""
        if self._monitor is not None:
            self._monitor.see([item])

    def _tick(self) -> None:
        if self._monitor is not None:
            self._timer = self._loop.call_later(TICK, self._tick)
            self._monitor.tick(self._watchers.keys)

    def _do(self, work: Callable[..., None], *arguments: object) -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody watches
            self._loop.call_soon_threadsafe(work, *arguments)


_watched: "WeakValueDictionary[tuple[asyncio.AbstractEventLoop, Transport], WatchedTasks]" = (
    WeakValueDictionary()
)


def watched_tasks(transport: Transport) -> WatchedTasks:
    """Return those of the running event loop. Keep a reference to it."""
    key = asyncio.get_running_loop(), transport
    found = _watched.get(key)
    if found is None:
        found = _watched[key] = WatchedTasks(transport)
    return found
