"""ViewerLimits: how many viewers a process may have at a time, in all and for each key.

A key limit counts viewers by a function of their client, such as its address or its user.
"""

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from bridge.support.fork import reset_in_child


class Client(NamedTuple):
    """The client that requests a stream."""

    address: str = ""
    """The network address, empty if it is unknown."""
    key: str = ""
    """What the application limits viewers by, for example its user. Empty for no limit."""


@dataclass(frozen=True, slots=True)
class LimitReached:
    """Why a viewer is refused."""

    reason: str
    """One word for it in logs and metrics."""
    status: int
    """The HTTP status of the answer."""
    detail: str
    """What the client reads."""
    remedy: str
    """What the operator can do."""


TOO_MANY_VIEWERS = LimitReached(
    "process",
    503,
    "this server has as many viewers as it may",
    "run more processes, or raise BRIDGE_MAX_VIEWERS or `ulimit -n`",
)
TOO_MANY_OF_ADDRESS = LimitReached(
    "address",
    429,
    "this address has as many streams open as it may",
    "behind a proxy all clients have one address, unless the app knows it (ProxyFix)",
)
TOO_MANY_OF_KEY = LimitReached(
    "key",
    429,
    "you have as many streams open as you may",
    "watch several topics through one stream, or raise BRIDGE_MAX_VIEWERS_PER_KEY",
)
FEW_DESCRIPTORS = LimitReached(
    "descriptors",
    503,
    "this server has almost no file descriptors left",
    "raise `ulimit -n`, or let the server accept fewer connections (gunicorn: --worker-connections 200)",
)


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """At most `most` viewers have the same key. A client with an empty key is not limited."""

    most: int
    key: Callable[[Client], str]
    reached: LimitReached


def per_address(most: int) -> KeyLimit:
    """Return the limit of viewers of one client address. Behind a Unix socket no client has an address."""
    return KeyLimit(most, lambda client: client.address, TOO_MANY_OF_ADDRESS)


def per_key(most: int) -> KeyLimit:
    """Return the limit of viewers with one key of the application."""
    return KeyLimit(most, lambda client: client.key, TOO_MANY_OF_KEY)


KEPT = 256
"""Descriptors that viewers leave to the server's own connections; a quarter of the limit if that is less."""


CHECK_AFTER, CHECK_AFTER_SHARE = 0.1, 16
"""Seconds after which, or viewers (a part of the descriptors left) after which these are counted again."""


def descriptors_for_viewers() -> int | None:
    """Return how many viewers the process has descriptors for, keeping a tenth; `None` without a limit."""
    limit = _descriptor_limit()
    return None if limit is None else limit - limit // 10


def _descriptor_limit() -> int | None:
    """Return how many descriptors this process may have, `None` if nothing limits them."""
    try:
        from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit
    except ImportError:  # Windows
        return None
    limit = getrlimit(RLIMIT_NOFILE)[0]
    return None if limit == RLIM_INFINITY else limit


def descriptors_left() -> int:
    """Return how many descriptors viewers may still take, whatever uses the others; none or less: refuse.

    A new descriptor has the lowest number that is free. A server that cannot open one for the next connection
    ends, and every stream ends with it.
    """
    limit = _descriptor_limit()
    if limit is None:
        return sys.maxsize
    try:
        try:
            lowest_free = os.dup(2)  # any descriptor would do, and this costs much less than to open a file
        except OSError:
            lowest_free = os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return 0
    os.close(lowest_free)
    return limit - max(limit // 10, min(KEPT, limit // 4)) - lowest_free


class ViewerLimits:
    """Counts the viewers of a process. Threads and greenlets may share it.

    `most` is the number of viewers of the process, `None` for no limit.
    """

    def __init__(self, most: int | None = None, key_limits: Sequence[KeyLimit] = ()) -> None:
        self._most = most
        self._key_limits = key_limits
        self.refused = 0
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The viewers stayed in the parent."""
        self._lock = threading.Lock()  # Guards the counts.
        self._count = 0
        self._unchecked, self._check_at = 0, 0.0  # for so many viewers, and until then, enough are left
        self._counts: list[Counter[str]] = [Counter() for _ in self._key_limits]

    def acquire(self, client: Client) -> LimitReached | None:
        """Count a new viewer and return `None`, or count nothing and return the limit that is reached."""
        with self._lock:
            reached = self._reached(client)
            if reached is not None:
                self.refused += 1
                return reached
            self._count += 1
            for limit, counts in zip(self._key_limits, self._counts, strict=True):
                counts[limit.key(client)] += 1
            return None

    def _reached(self, client: Client) -> LimitReached | None:
        """Return the first limit that leaves no room. Requires holding `_lock`."""
        if self._most is not None and self._count >= self._most:
            return TOO_MANY_VIEWERS
        for limit, counts in zip(self._key_limits, self._counts, strict=True):
            key = limit.key(client)
            if key and counts[key] >= limit.most:
                return limit.reached
        return FEW_DESCRIPTORS if self._descriptors_run_out() else None

    def _descriptors_run_out(self) -> bool:
        """Return whether few descriptors are left. To look takes time. Requires holding `_lock`."""
        now = time.monotonic()
        if self._unchecked > 0 and now < self._check_at:
            self._unchecked -= 1
            return False
        left = descriptors_left()
        self._unchecked, self._check_at = left // CHECK_AFTER_SHARE, now + CHECK_AFTER
        return left <= 0

    def release(self, client: Client) -> None:
        """A viewer that was counted has left."""
        with self._lock:
            self._count -= 1
            for limit, counts in zip(self._key_limits, self._counts, strict=True):
                key = limit.key(client)
                counts[key] -= 1
                if not counts[key]:
                    del counts[key]
