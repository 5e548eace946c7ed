"""A timer wheel: when to check which viewer, in the same time with any number of viewers."""

from collections import deque

from bridge.streams.viewer import Viewer

TICK = 1.0
"""Seconds between two ticks."""


class Wheel:
    """Viewers in slots, one slot for each tick to come. For one thread only."""

    def __init__(self, longest: float) -> None:
        """`longest` is the longest time, in seconds, that a viewer can be added for."""
        self._slots: deque[set[Viewer]] = deque(set() for _ in range(max(1, round(longest / TICK)) + 1))

    def add(self, viewer: Viewer, seconds: float) -> None:
        """Make `viewer` due in `seconds`, counted in whole ticks. It must not be on the wheel."""
        slot = self._slots[min(len(self._slots) - 1, max(0, int(seconds / TICK)))]
        slot.add(viewer)
        viewer.wheel_slot = slot

    def remove(self, viewer: Viewer) -> None:
        """Remove `viewer`, if it is on the wheel."""
        if viewer.wheel_slot is not None:
            viewer.wheel_slot.discard(viewer)
            viewer.wheel_slot = None

    def tick(self) -> set[Viewer]:
        """Advance by one tick and return the viewers that are due.

        Take them from the set one by one: `remove` still removes from it.
        """
        due = self._slots.popleft()
        self._slots.append(set())
        return due
