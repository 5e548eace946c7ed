"""What the background publishers of a process count together, for metrics."""

import threading
import weakref
from typing import NamedTuple, Protocol

from bridge.support.fork import reset_in_child


class PublisherCounts(NamedTuple):
    """Numbers of one background publisher, or of several together."""

    waiting: int = 0
    """Messages that wait to be sent."""
    waiting_bytes: int = 0
    sent: int = 0
    """Messages that the backend has accepted since the process began. This and the others only grow."""
    dropped: int = 0
    """Messages that were left out."""
    outages: int = 0
    """How often the backend could not be reached."""


class Counting(Protocol):
    """A publisher that is counted."""

    def counts(self) -> PublisherCounts:
        """Return its numbers. Any thread calls it."""
        ...


class AllPublishers:
    """The publishers of a process, as long as they exist. Threads may share it."""

    def __init__(self) -> None:
        self._publishers: tuple[weakref.ref[Counting], ...] = ()
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The publishers reset themselves."""
        self._lock = threading.Lock()  # Guards the replacement of the tuple.

    def add(self, publisher: Counting) -> None:
        """Count a publisher from now on."""
        with self._lock:
            alive = (known for known in self._publishers if known() is not None)
            self._publishers = (*alive, weakref.ref(publisher))

    def counts(self) -> PublisherCounts:
        """Return the sums over all publishers."""
        found = [publisher.counts() for known in self._publishers if (publisher := known()) is not None]
        return PublisherCounts(*map(sum, zip(*found, strict=True)))


PUBLISHERS = AllPublishers()
"""The publishers of this process."""
