"""Starts coroutines from any thread, for an object that event loops use one after another."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future

# `Any` in this module: a coroutine has two more type parameters, which do not matter here.
from typing import Any, TypeVar

T = TypeVar("T")


class NoEventLoop(Exception):
    """No open event loop has used the object."""


class EventLoops:
    """The event loops that have used an object. Coroutines run in the first one that has not ended.

    `moved` is called when that loop has ended and another takes its place, by the thread that notices it.
    """

    def __init__(self, moved: Callable[[], None]) -> None:
        self._moved = moved
        self._lock = threading.Lock()  # Guards the two fields below.
        self._loops: list[asyncio.AbstractEventLoop] = []
        self._last: asyncio.AbstractEventLoop | None = None

    def enter(self) -> None:
        """Note that the running event loop uses the object."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._loops:
                self._loops.append(loop)
        self.current()

    def leave(self) -> None:
        """Note that the running event loop ends."""
        with self._lock:
            self._loops = [loop for loop in self._loops if loop is not asyncio.get_running_loop()]

    def current(self) -> asyncio.AbstractEventLoop | None:
        """Return the loop in which coroutines run, or `None`."""
        with self._lock:
            self._loops = [loop for loop in self._loops if not loop.is_closed()]
            if not self._loops:
                return None
            moved = self._last is not None and self._last is not self._loops[0]
            self._last = self._loops[0]
        if moved:
            self._moved()
        return self._last

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> "Future[T]":
        """Start the coroutine that `work` returns. Raises `NoEventLoop`."""
        loop = self.current()
        if loop is None:
            raise NoEventLoop("no event loop that still runs has used it; use it through bridge.aio")
        coroutine = work()
        try:
            return asyncio.run_coroutine_threadsafe(coroutine, loop)
        except RuntimeError as error:
            coroutine.close()
            raise NoEventLoop("the event loop that has used it has ended") from error
