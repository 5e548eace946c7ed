"""Asker: a few threads for calls of the application's own functions, which may take their time."""

import queue
import threading
from collections.abc import Callable

from bridge.support.fork import reset_in_child

THREADS = 4
"""A slow function of the application has so many calls at a time. Others wait; streams do not."""


class Asker:
    """Calls functions in threads, which start when they are needed. Any thread may use it.

    The threads are daemons, unlike those of an executor: a function that never returns must not keep the
    process from ending.
    """

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The threads and their calls stayed in the parent."""
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self._lock = threading.Lock()  # Guards the two counts.
        self._threads = self._unfinished = 0

    def submit(self, call: Callable[[], None]) -> None:
        """Have a thread call `call`, which must not raise."""
        with self._lock:
            self._unfinished += 1
            is_needed = self._threads < min(THREADS, self._unfinished)
            self._threads += is_needed
        self._calls.put(call)
        if is_needed:
            threading.Thread(target=self._run, args=(self._calls,), name="bridge-ask", daemon=True).start()

    def _run(self, calls: "queue.Queue[Callable[[], None]]") -> None:
        while True:
            call = calls.get()
            try:
                call()
            finally:
                with self._lock:
                    self._unfinished -= 1
