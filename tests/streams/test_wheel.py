"""The timer wheel."""

from collections.abc import Sequence
from typing import Any

from bridge.streams.limits import Client
from bridge.streams.viewer import Viewer
from bridge.streams.wheel import TICK, Wheel


class Idle:
    """A loop that does nothing."""

    window = 1000

    def post(self, viewers: Sequence[Viewer], items: Sequence[Any]) -> None: ...

    def discard(self, viewer: Viewer, reason: str) -> None: ...


def viewer() -> Viewer:
    return Viewer(Idle(), frozenset({"t"}), None, Client())


def test_a_viewer_is_due_after_its_time() -> None:
    """It is due once, at the tick that follows its time; too long a time is cut to the longest."""
    wheel, soon, later, latest = Wheel(3 * TICK), viewer(), viewer(), viewer()
    wheel.add(soon, -TICK)
    wheel.add(later, 2.5 * TICK)
    wheel.add(latest, 100 * TICK)
    assert [wheel.tick() for _ in range(5)] == [{soon}, set(), {later}, {latest}, set()]


def test_a_viewer_that_was_removed_is_not_due() -> None:
    """Also one that leaves while the others of its tick are checked."""
    wheel, one, other = Wheel(TICK), viewer(), viewer()
    for each in (one, other):
        wheel.add(each, 0)
    wheel.remove(one)
    wheel.remove(one)
    due = wheel.tick()
    assert due == {other}
    wheel.remove(other)
    assert not due
