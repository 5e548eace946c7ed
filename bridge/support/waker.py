"""Wake a thread that waits in a selector."""

import socket
from contextlib import suppress


class Waker:
    """Wakes the one thread that waits in a selector. Any thread may call `wake`.

    Register the waker for `selectors.EVENT_READ`. When the selector reports it, call `drain` first and then
    do the work. Work that is added before `wake` is called is never missed.
    """

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)
        self._is_awake = False  # Whether a byte waits to be drained: then another one is not needed.

    def fileno(self) -> int:
        """Return the descriptor that becomes readable."""
        return self._receiver.fileno()

    def wake(self) -> None:
        """Make the current or the next wait of the selector return. Never blocks."""
        if self._is_awake:
            return
        try:
            self._is_awake = True
            self._sender.send(b"w")
        except OSError:
            pass  # The buffer is full, so the thread wakes; or the waker is closed.
        except BaseException:  # A signal handler raised, perhaps before the byte was sent.
            self._is_awake = False
            raise

    def drain(self) -> None:
        """Take note of all calls of `wake` so far. Only the woken thread calls this."""
        with suppress(BlockingIOError):
            while self._receiver.recv(4096):
                pass
        self._is_awake = False

    def close(self) -> None:
        """Close both ends. In a forked child this leaves the parent's waker as it is."""
        self._receiver.close()
        self._sender.close()
