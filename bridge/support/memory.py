"""The memory budget of a process: about how many bytes wait in it, and how many may.

What keeps bytes for somebody is a holder. Each holder counts its own bytes, in its own thread and without a
lock, and calls `check` when it has taken on `step` more of them. The sum is approximate: it may be a step of
each holder behind, it takes a fixed number of bytes for each object, and it does not see what the allocator
of Python keeps. The buffers of the kernel are not in it.

Over the budget each holder gives back what is more than its share of it.
"""

import threading
import weakref
from collections import Counter
from functools import cached_property
from typing import Protocol

from bridge.support.container import memory_of_container
from bridge.support.fork import reset_in_child

SMALLEST_STEP = 64 * 1024
"""Bytes that a holder may take on, at least, before it calls `check`."""


class Holder(Protocol):
    """Something that keeps bytes for somebody."""

    kind: str
    """What the bytes are, for `MemoryBudget.used`."""
    share: float
    """The part of the budget that all holders of this kind keep when it is exceeded."""

    @property
    def held(self) -> int:
        """About how many bytes it keeps. Any thread reads it."""
        ...

    def shed(self, most: int) -> None:
        """Keep at most `most` bytes, from now on or soon. Any thread calls it."""
        ...


class MemoryBudget:
    """The bytes that may wait in this process. Threads may share it."""

    def __init__(self) -> None:
        # By the holder, a weak reference: its own limit if it has one. Replaced as a whole by any change.
        self._holders: dict[weakref.ref[Holder], int | None] = {}
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The holders reset themselves."""
        self._lock = threading.Lock()  # Guards changes of the table of holders.

    @cached_property
    def default(self) -> int:
        """A quarter of the memory that this process may use."""
        return memory_of_container() // 4

    @property
    def limit(self) -> int:
        """The smallest limit of all holders, or the default."""
        limits = [limit for limit in self._alive().values() if limit is not None]
        return min(limits) if limits else self.default

    @property
    def step(self) -> int:
        """Bytes that a holder may take on before it calls `check`."""
        return max(SMALLEST_STEP, self.limit // 64)

    def add(self, holder: Holder, limit: int | None = None) -> None:
        """Count a holder as long as it exists. `limit` is the budget that it asks for, in bytes."""
        with self._lock:
            self._holders = {**self._alive(), weakref.ref(holder): limit}

    def remove(self, holder: Holder) -> None:
        """Count a holder no longer. It may be removed already."""
        with self._lock:
            alive = self._alive()
            alive.pop(weakref.ref(holder), None)
            self._holders = alive

    def _alive(self) -> dict[weakref.ref[Holder], int | None]:
        return {reference: limit for reference, limit in self._holders.items() if reference() is not None}

    def check(self) -> None:
        """Have the holders give back what is more than their shares if together they exceed the budget."""
        holders = [holder for reference in self._holders if (holder := reference()) is not None]
        limit = self.limit
        if sum(holder.held for holder in holders) <= limit:
            return
        used = self.used()
        for holder in holders:
            # Holders of one kind give back the same part of what they keep.
            holder.shed(int(limit * holder.share * holder.held / max(1, used[holder.kind])))

    def used(self) -> Counter[str]:
        """Return how many bytes wait, by kind."""
        used: Counter[str] = Counter()
        for reference in self._holders:
            holder = reference()
            if holder is not None:
                used[holder.kind] += holder.held
        return used

    def stats(self) -> dict[str, int]:
        """Return the budget and what is used of it in bytes, by name."""
        used = self.used()
        return {"memory_limit": self.limit} | {f"memory_{kind}": used[kind] for kind in KINDS}


KINDS = ("backlogs", "tails", "queues", "unpublished")
"""What waits: for viewers; messages kept for those who catch up; for subscriptions; for the backend."""

BUDGET = MemoryBudget()
"""The budget of this process."""
