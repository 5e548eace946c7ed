"""A viewer between the hub, which grants it history, and the loop, which sends it."""

from collections.abc import Callable, Sequence
from typing import Any

from bridge.viewer import GRANTED, Viewer

BACKLOG = 1000


class Loop:
    """A loop that sends all there is at the very moment in which the hub asks whether there is room."""

    def __init__(self) -> None:
        self.viewer: Viewer | None = None

    @property
    def backlog(self) -> int:
        if self.viewer is not None:
            self.viewer.unsent()
        return BACKLOG

    def post(self, viewers: Sequence[Viewer], items: Sequence[Any]) -> None: ...

    def do(self, work: Callable[..., None], *arguments: Any) -> None: ...

    def drop(self, viewer: Viewer) -> None: ...


def test_room_that_is_made_while_it_is_asked_for_is_seen() -> None:
    """Else the hub would wait to be told of it, by a loop that has nothing more to tell."""
    loop = Loop()
    viewer = Viewer(loop, frozenset({"t"}), None, "")
    viewer.put(b"x" * BACKLOG, None)
    loop.viewer = viewer
    assert viewer.room(10) == 10
    assert not viewer.full


def test_history_is_granted_until_too_much_is_on_its_way() -> None:
    """What has arrived makes room again; live messages, which nobody granted, do not count."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, "")
    viewer.take_note(50)
    assert viewer.owed == 0
    assert viewer.room(GRANTED + 1) == GRANTED + 1
    assert viewer.room(1) == 0
    assert viewer.full
    viewer.take_note(GRANTED)
    assert viewer.owed == 1
    assert viewer.room(1) == 1
