"""The web server of this process: whether it is about to end, and what it counts as a request.

gunicorn and uvicorn handle signals with a method of the object that runs the process. So any thread can find
that object, without a hook of the server and without a signal handler of the bridge's own. Under another
server nothing is found, and nothing is done.
"""

import signal
import threading
from collections.abc import Callable
from typing import Any

from bridge.support.fork import reset_in_child

LOOK_EVERY = 0.2
"""Seconds between two looks. gunicorn kills a worker one second after it has told it to abort."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGABRT)


def _server() -> Any:
    """Return gunicorn's worker or uvicorn's server, if this process is run by one."""
    for number in _SIGNALS:
        owner = getattr(signal.getsignal(number), "__self__", None)
        if isinstance(getattr(owner, "alive", getattr(owner, "should_exit", None)), bool):
            return owner
    return None


def is_ending() -> bool:
    """Whether the server was told to end; requests may still be running, and streams keep it waiting."""
    server = _server()
    return getattr(server, "should_exit", False) is True or getattr(server, "alive", True) is False


def uncount_request() -> None:
    """Take the running request out of those after which gunicorn restarts the worker (`--max-requests`).

    Each restart makes every viewer come back with a request. If these counted, they alone would bring the
    next restart, and so on.
    """
    server = _server()
    if isinstance(getattr(server, "nr", None), int) and hasattr(server, "max_requests"):
        server.nr -= 1


class _Watch:
    """Calls what is to be called while the server is about to end. Its thread starts with the first call."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()  # Guards what follows.
        self._calls: dict[Callable[[], None], None] = {}
        self._thread: threading.Thread | None = None

    def add(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls[call] = None
            if self._thread is None and _server() is not None:
                self._thread = threading.Thread(target=self._run, name="bridge-server-watch", daemon=True)
                self._thread.start()

    def discard(self, call: Callable[[], None]) -> None:
        with self._lock:
            self._calls.pop(call, None)

    def _run(self) -> None:
        pause = threading.Event()
        # gevent carries a copy of this thread into a forked child.
        while self._thread is threading.current_thread():
            pause.wait(LOOK_EVERY)
            if is_ending():
                with self._lock:
                    calls = list(self._calls)
                for call in calls:
                    call()


_watch = _Watch()


def while_ending(call: Callable[[], None]) -> None:
    """Have `call` called by another thread from when the server was told to end, several times a second.

    So what begins later is reached too. It must not block, nor raise.
    """
    _watch.add(call)


def forget(call: Callable[[], None]) -> None:
    """Undo `while_ending(call)`."""
    _watch.discard(call)
