"""The web server of this process: whether it is ending, and what it counts as a request.

gunicorn and uvicorn handle signals with a method of the object that runs the process. Any thread can find
that object through the signal handlers, so that the bridge needs no hook of the server and no signal handler
of its own. granian handles signals in its event loop, where nothing shows it, so its signals are noted on
their way. Of hypercorn a request tells: see `watch_server`. Under another server nothing is done.
"""

import signal
import sys
import threading
from collections.abc import Callable
from functools import partial

# `Any` in this module: the object of gunicorn or uvicorn, which need not be installed.
from typing import Any

from bridge.support.fork import reset_in_child

CHECK_EVERY = 0.2
"""Seconds between two checks. gunicorn kills a worker one second after the signal to abort."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGABRT)


def _server() -> Any:
    """Return gunicorn's worker or uvicorn's server, or `None` if neither runs this process."""
    for number in _SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(getattr(owner, "alive", getattr(owner, "should_exit", None)), bool):
            return owner
    return None


def is_ending() -> bool:
    """Whether the server is ending. Requests may still run, and the server waits for open streams."""
    server = _server()
    if getattr(server, "should_exit", False) is True or getattr(server, "alive", True) is False:
        return True
    return _signalled.is_set() or _watch.told_of_end()


_signalled = threading.Event()
"""Whether granian was told to end."""


def _note_signals() -> bool:
    """Note from now on whether granian is told to end; return whether this is the thread of its worker."""
    if "granian" not in sys.modules or threading.current_thread() is not threading.main_thread():
        return False
    for number in (signal.SIGTERM, signal.SIGINT):
        handler = signal.getsignal(number)
        if callable(handler):
            signal.signal(number, partial(_note_signal, handler))
    return True


def _note_signal(handler: Callable[[int, Any], Any], number: int, frame: Any) -> None:
    _signalled.set()
    handler(number, frame)


def uncount_request() -> None:
    """Do not count the running request among those after which gunicorn restarts a worker (`--max-requests`).

    After a restart, every viewer reconnects with a request. If these counted, they alone would cause the
    next restart.
    """
    server = _server()
    if isinstance(getattr(server, "nr", None), int) and hasattr(server, "max_requests"):
        server.nr -= 1


class _Watch:
    """Calls functions while the server is ending. Its thread starts with the first function."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The streams and the thread stayed in the parent."""
        self._lock = threading.Lock()  # Guards the functions and the start of the thread.
        self._calls: dict[Callable[[], None], None] = {}
        self._thread: threading.Thread | None = None
        self._is_ending: Callable[[], bool] | None = None

    def add(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls[call] = None
            if self._thread is None and (_server() is not None or _note_signals()):
                self._start()

    def watch_server(self, is_ending: Callable[[], bool]) -> None:
        with self._lock:
            self._is_ending = is_ending
            if self._thread is None:
                self._start()

    def told_of_end(self) -> bool:
        is_ending = self._is_ending
        return is_ending is not None and is_ending()

    def _start(self) -> None:
        """Start the thread. Requires holding the lock."""
        self._thread = threading.Thread(target=self._run, name="bridge-server-watch", daemon=True)
        self._thread.start()

    def discard(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls.pop(call, None)

    def _run(self) -> None:
        pause = threading.Event()
        # gevent copies this thread into a forked child.
        while self._thread is threading.current_thread():
            pause.wait(CHECK_EVERY)
            if is_ending():
                with self._lock:
                    calls = list(self._calls)
                for call in calls:
                    call()


_watch = _Watch()


def while_ending(call: Callable[[], None]) -> None:
    """Have another thread call `call` several times a second while the server is ending.

    The calls are repeated for streams that begin meanwhile. `call` must not block or raise. Any thread may
    register it.
    """
    _watch.add(call)


def watch_server(is_ending: Callable[[], bool]) -> None:
    """Have another thread ask `is_ending` whether the server is ending. The last function given counts."""
    _watch.watch_server(is_ending)


def forget(call: Callable[[], None]) -> None:
    """Stop calling `call`. Undoes `while_ending(call)`."""
    _watch.discard(call)
