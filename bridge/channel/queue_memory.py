"""The memory of what waits for the subscriptions of a channel. Too much of it ends those with the most."""

import logging
import threading
import weakref
from collections import defaultdict
from typing import Protocol

from bridge.errors import SlowConsumer
from bridge.support.counted_warning import CountedWarning
from bridge.support.memory import BUDGET

logger = logging.getLogger("bridge.channel.hub")

ITEM_BYTES = 250
"""What an item takes beside what `size_of` counts."""


class Queue(Protocol):
    """The queue of a subscription."""

    topics: frozenset[str]

    @property
    def waiting(self) -> tuple[int, int]:
        """How many items wait, and their bytes."""
        ...

    def end_as_slow(self, reason: SlowConsumer) -> None:
        """Drop what waits, and end for `reason`."""
        ...


class QueueMemory:
    """What waits for subscriptions, as a holder of the memory budget. Threads may share it.

    All subscriptions of a topic share its messages, so the longest queue of each topic counts alone.
    """

    kind = "queues"
    share = 0.25

    def __init__(self) -> None:
        self._queues: weakref.WeakSet[Queue] = weakref.WeakSet()
        self.held = self._grown = self._step = 0
        self._warning = CountedWarning(
            logger,
            "subscriptions_closed_for_memory",
            "ended the %(count)d slowest subscriptions: more waited in this process than its memory budget "
            "of %(limit)s bytes; read faster, raise memory= (BRIDGE_MEMORY) or send smaller messages",
        )
        self.reset_after_fork()
        BUDGET.add(self)

    @property
    def count(self) -> int:
        """How many subscriptions are open."""
        return len(self._queues)

    def reset_after_fork(self) -> None:
        """The queues are dropped in a child."""
        self._lock = threading.Lock()  # Guards additions to the set, and the warning.

    def add(self, queue: Queue) -> None:
        """Count what waits in `queue` as long as it exists."""
        with self._lock:
            self._queues.add(queue)

    def note(self, size: int) -> None:
        """Note that about `size` bytes more wait. Only the hub's thread calls it."""
        self._grown += size
        if self._grown > self._step:
            self._grown, self._step = 0, BUDGET.step
            self.measure()
            BUDGET.check()

    def measure(self) -> None:
        """Count again."""
        self.held = sum(lengths[-1][0] for lengths in self._by_topic().values())

    def shed(self, most: int) -> None:
        """End subscriptions, those for which the most bytes wait first."""
        by_topic = self._by_topic()
        total = sum(lengths[-1][0] for lengths in by_topic.values())
        ended: list[Queue] = []
        while total > most:
            topic = max(by_topic, key=lambda topic: by_topic[topic][-1][0])
            size, queue = by_topic[topic].pop()
            ended.append(queue)
            total -= size
            if by_topic[topic]:
                total += by_topic[topic][-1][0]
            else:
                del by_topic[topic]
        self.held = total
        limit = f"{BUDGET.limit:,}"
        for queue in ended:
            names = ", ".join(sorted(map(repr, queue.topics)))
            queue.end_as_slow(
                SlowConsumer(
                    f"the reader of {names} was closed because more waited in this process than its memory "
                    f"budget of {limit} bytes; read faster, or raise memory= (BRIDGE_MEMORY)"
                )
            )
        if ended:
            with self._lock:
                self._warning.add(len(ended), limit=BUDGET.limit)

    def _by_topic(self) -> dict[frozenset[str], list[tuple[int, Queue]]]:
        """Return the sizes of the queues of each topic in which something waits, the largest at the end."""
        with self._lock:
            queues = list(self._queues)
        found: defaultdict[frozenset[str], list[tuple[int, Queue]]] = defaultdict(list)
        for queue in queues:
            count, size = queue.waiting
            if count:
                found[queue.topics].append((size + ITEM_BYTES * count, queue))
        for sizes in found.values():
            sizes.sort(key=lambda each: each[0])
        return found
