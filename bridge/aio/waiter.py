"""Lets a task of an event loop wait for what other threads announce."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from bridge.aio.loop_waker import waker_of

T = TypeVar("T")


class Waiter:
    """Belongs to one event loop. Only one task at a time may wait; any thread may call `notify`."""

    def __init__(self) -> None:
        """Create it in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._waker = waker_of(self._loop)
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self, look: Callable[[], T | None]) -> T:
        """Return the first result of `look()` that is not `None`. Call it whenever there is something new."""
        if self._waiting is not None:
            raise RuntimeError("another task is receiving from this subscription; subscribe once for each")
        try:
            while True:
                # Set before the call of `look`: a message that comes right after it must wake this task.
                waiting = self._waiting = self._loop.create_future()
                found = look()
                if found is not None:
                    return found
                await waiting
        finally:
            self._waiting = None

    def notify(self) -> bool:
        """Wake the waiting task, if there is one. Return whether the event loop is open."""
        if self._waiting is None:
            return not self._loop.is_closed()
        return self._waker.wake(self._wake)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
