"""A thread that waits for sockets, does work that other threads give it, and ticks. It knows no viewers."""

import logging
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable

# `Any` in this module: the arguments of work and the data of a socket belong to the owner.
from typing import Any

from bridge.support.waker import Waker

logger = logging.getLogger("bridge.streams.loop")


SOCKETS_AT_ONCE = 16
"""Sockets that are served before the inbox is looked into: with large data each takes a while."""


class SelectorThread:
    """A thread with a selector, an inbox and a clock. An error in one call is logged and stops no other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._reset()

    def _reset(self) -> None:
        self.inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """The work to be done, in order. After appending to it, call `wake`, at once or a little later."""
        self.later: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        """Work of this thread that can wait, of which a little is done each time."""
        self.now = time.monotonic()
        """The time when the thread last woke."""
        self.selector: selectors.BaseSelector | None = None
        """Where the thread waits; `None` until it is started."""
        self._waker: Waker | None = None
        self._lock = threading.Lock()  # Guards the start of the thread.
        self._stopped = threading.Event()

    def reset_after_fork(self) -> None:
        """The thread is the parent's: the child closes its own copies of the descriptors."""
        selector, waker = self.selector, self._waker
        self._reset()
        if selector is not None:
            selector.close()
        if waker is not None:
            waker.close()

    # Any thread.

    def start(
        self, on_ready: Callable[[Any, int], None], on_tick: Callable[[], None], *, every: float
    ) -> bool:
        """Start the thread, unless it was started before; return whether it was started now.

        The thread calls `on_ready` with the data of a registered socket and the events that it is ready for,
        and `on_tick` `every` so many seconds.
        """
        with self._lock:
            if self.selector is not None:
                return False
            self._waker = Waker()
            self.selector = selectors.DefaultSelector()
            self.selector.register(self._waker, selectors.EVENT_READ)
            arguments = (self.selector, self._waker, on_ready, on_tick, every)
            threading.Thread(target=self._run, args=arguments, name=self._name, daemon=True).start()
            return True

    def do(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the thread call `work` with `arguments`."""
        self.inbox.append((work, arguments))
        self.wake()

    def wake(self) -> None:
        """Make the thread look into its inbox."""
        waker = self._waker
        if waker is not None:
            waker.wake()

    def stop(self) -> None:
        """Let the thread end. Call it in the thread."""
        self._stopped.set()

    def join(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until `stop` was called."""
        self._stopped.wait(timeout)

    # The thread.

    def _run(
        self,
        selector: selectors.BaseSelector,
        waker: Waker,
        on_ready: Callable[[Any, int], None],
        on_tick: Callable[[], None],
        every: float,
    ) -> None:
        tick_at = time.monotonic() + every
        # gevent copies this thread into a forked child, where another selector takes the place of this one.
        while not self._stopped.is_set() and self.selector is selector:
            is_idle = not self.inbox and not self.later
            ready = selector.select(max(0.0, tick_at - time.monotonic()) if is_idle else 0)
            self.now = time.monotonic()
            for number, (key, mask) in enumerate(ready, 1):
                if key.data is None:
                    waker.drain()
                else:
                    _call(on_ready, key.data, mask)
                if number % SOCKETS_AT_ONCE == 0:
                    self._do_work()
            self._do_work()
            for _ in range(min(SOCKETS_AT_ONCE, len(self.later))):
                work, arguments = self.later.popleft()
                _call(work, *arguments)
            if self.now >= tick_at:
                tick_at += every
                _call(on_tick)

    def _do_work(self) -> None:
        """Do what waits in the inbox."""
        for _ in range(len(self.inbox)):
            work, arguments = self.inbox.popleft()
            _call(work, *arguments)


def _call(work: Callable[..., None], *arguments: Any) -> None:
    """Call `work`. What goes wrong with one viewer must not end the others."""
    try:
        work(*arguments)
    except Exception:
        logger.exception("a viewer could not be served", extra={"event": "viewer_failed"})
