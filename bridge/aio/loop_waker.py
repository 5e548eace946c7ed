"""Wakes coroutines of an event loop from other threads, many of them with one call into the loop."""

import asyncio
from collections import deque
from collections.abc import Callable
from weakref import WeakValueDictionary


class LoopWaker:
    """Calls functions in one event loop. The functions of one batch share one call into the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._calls: deque[Callable[[], None]] = deque()
        self._is_awake = False  # Whether a call of `_run` is scheduled.

    def wake(self, call: Callable[[], None]) -> bool:
        """Call `call` in the loop, soon. Return whether the loop is open. Any thread may call it."""
        self._calls.append(call)
        if not self._is_awake:
            self._is_awake = True
            try:
                self._loop.call_soon_threadsafe(self._run)
            except RuntimeError:
                return False
        return not self._loop.is_closed()

    def _run(self) -> None:
        self._is_awake = False
        while self._calls:
            self._calls.popleft()()


_wakers: "WeakValueDictionary[asyncio.AbstractEventLoop, LoopWaker]" = WeakValueDictionary()


def waker_of(loop: asyncio.AbstractEventLoop) -> LoopWaker:
    """Return the waker of `loop`. Keep a reference to it. Call this function in the thread of the loop."""
    waker = _wakers.get(loop)
    if waker is None:
        waker = _wakers[loop] = LoopWaker(loop)
    return waker
