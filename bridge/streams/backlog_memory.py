"""The memory of what waits for the viewers of a process. Too much of it closes the slowest viewers."""

import logging
import time

from bridge.streams.backlog import ENTRY_BYTES, Backlog
from bridge.streams.connections import Connections
from bridge.streams.selector_thread import SelectorThread
from bridge.streams.viewer import Viewer
from bridge.support.counted_warning import CountedWarning
from bridge.support.memory import BUDGET, SMALLEST_STEP

logger = logging.getLogger("bridge.streams.loop")

IN_TRANSIT = 8
"""An eighth of the budget may be on the way from the hub to the loop. Then the hub waits."""

WAIT_WITHIN = 10.0
"""Seconds that the hub waits for the loop, at most."""


class BacklogMemory:
    """What waits for the viewers of one loop, as a holder of the memory budget.

    `held`, `shed`, `post` and `wait_for_loop` are for other threads, the other methods for the loop's thread.
    """

    kind = "backlogs"
    share = 0.5

    def __init__(self, connections: Connections, thread: SelectorThread) -> None:
        self._connections = connections
        self._thread = thread
        self._warning = CountedWarning(
            logger,
            "viewers_closed_for_memory",
            "closed the %(count)d slowest viewers: more waited in this process than its memory budget of "
            "%(limit)s bytes; raise BRIDGE_MEMORY, run more processes or send smaller messages",
        )
        self.closed = 0
        """How many viewers were closed because the process was over its budget."""
        self.reset()
        BUDGET.add(self)

    def reset(self) -> None:
        """Nothing waits any more."""
        self._waiting = 0  # what waited for the viewers when it was last measured
        self._step = 0  # bytes that may begin to wait before it is measured again
        # Each has one writer: the hub's thread and the loop's thread.
        self._posted = self._delivered = 0

    @property
    def held(self) -> int:
        return self._waiting + self._posted - self._delivered

    def shed(self, most: int) -> None:
        self._thread.do(self._close_slowest, most)

    # The hub's thread.

    def post(self, size: int) -> None:
        """Note that `size` bytes are on the way to the loop. Wait for the loop if these are too many."""
        self._posted += size
        if self._posted - self._delivered > SMALLEST_STEP:
            most = BUDGET.limit // IN_TRANSIT
            deadline = time.monotonic() + WAIT_WITHIN
            while self._posted - self._delivered > most and time.monotonic() < deadline:
                time.sleep(0.002)

    # The loop's thread.

    def delivered(self, size: int) -> None:
        """Note that `size` bytes have reached the viewers or their backlogs."""
        self._delivered += size
        if self._connections.waiting.grown > self._step:
            self._measure()
            BUDGET.check()

    def tick(self) -> None:
        """Measure again, and log what is not logged yet. Call it once a second."""
        if self._waiting or self._connections.waiting.grown:
            self._measure()
            BUDGET.check()
        self._warning.tell()

    def _measure(self) -> int:
        self._step = BUDGET.step
        self._connections.waiting.grown = 0
        entries = sum(ENTRY_BYTES * len(backlog) for backlog, _ in self._backlogs())
        self._waiting = self._connections.waiting.size + entries
        return entries

    def _backlogs(self) -> list[tuple[Backlog, Viewer]]:
        viewers = ((viewer.backlog, viewer) for viewer in list(self._connections.viewers))
        return [(backlog, viewer) for backlog, viewer in viewers if backlog is not None]

    def _close_slowest(self, most: int) -> None:
        """Close viewers, those that have kept the most bytes waiting for longest first."""
        entries = self._measure()
        if self._waiting <= most:
            return
        now, closed = time.monotonic(), 0
        backlogs = sorted(self._backlogs(), key=lambda found: found[0].size * (now - found[0].since))
        while backlogs and self._connections.waiting.size + entries > most:
            slowest, viewer = backlogs.pop()
            entries -= ENTRY_BYTES * len(slowest)
            del slowest  # With it go the texts that nobody else waits for.
            self._connections.drop(viewer, "memory")
            closed += 1
        self._measure()
        self.closed += closed
        self._connections.cut_off += closed
        self._warning.add(closed, limit=BUDGET.limit)
