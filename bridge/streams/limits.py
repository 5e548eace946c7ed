"""ViewerLimits: how many viewers one process and one client address may have at a time."""

import os
import threading
from collections import Counter
from enum import Enum
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

from bridge.support.fork import reset_in_child


class LimitReached(Enum):
    """Why there is no seat."""

    PROCESS = "this server has as many viewers as it may"
    ADDRESS = "this address has as many streams open as it may"
    DESCRIPTORS = "this server has almost no file descriptors left"


KEPT = 256
"""Descriptors that viewers leave to the server's own connections; a quarter of the limit if that is less."""


def descriptors_for_viewers() -> int | None:
    """Return how many viewers the process has descriptors for, keeping a tenth; `None` without a limit."""
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return None if limit == RLIM_INFINITY else limit - limit // 10


def descriptors_run_out() -> bool:
    """Whether the process has few descriptors left, whatever holds the others.

    A new one has the lowest number that is free. A server that cannot open one for the next connection ends,
    and every stream with it.
    """
    limit = getrlimit(RLIMIT_NOFILE)[0]
    if limit == RLIM_INFINITY:
        return False
    try:
        lowest_free = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return True
    os.close(lowest_free)
    return lowest_free >= limit - max(limit // 10, min(KEPT, limit // 4))


class ViewerLimits:
    """Counts the viewers of a process. May be shared by threads and greenlets.

    `most` and `most_per_address` are numbers of viewers, `None` for no limit.
    """

    def __init__(self, most: int | None, most_per_address: int | None) -> None:
        self._most = most
        self._most_per_address = most_per_address
        self.refused = 0
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # Guards what follows.
        self._taken = 0
        self._by_address: Counter[str] = Counter()

    def reset_after_fork(self) -> None:
        """The viewers stayed in the parent."""
        self._reset()

    def take(self, address: str) -> LimitReached | None:
        """Take a seat for a viewer from `address`, empty if unknown; return why there is none, if so."""
        with self._lock:
            full = self._full(address)
            if full is None:
                self._taken += 1
                self._by_address[address] += 1
            else:
                self.refused += 1
            return full

    def _full(self, address: str) -> LimitReached | None:
        """Requires holding `_lock`."""
        if self._most is not None and self._taken >= self._most:
            return LimitReached.PROCESS
        most = self._most_per_address
        # Behind a Unix socket nobody has an address, and all would share one limit.
        if address and most is not None and self._by_address[address] >= most:
            return LimitReached.ADDRESS
        if descriptors_run_out():
            return LimitReached.DESCRIPTORS
        return None

    def release(self, address: str) -> None:
        """Give a seat back."""
        with self._lock:
            self._taken -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]
