"""A viewer between the hub, which grants it history, and the loop, which sends it."""

from collections.abc import Sequence
from typing import Any

from bridge.model.message import Message
from bridge.streams.backlog import Entry
from bridge.streams.limits import Client
from bridge.streams.viewer import Viewer

BACKLOG = 1000


class Loop:
    """A loop that sends all there is at the very moment in which the hub asks whether there is room."""

    def __init__(self) -> None:
        self.viewer: Viewer | None = None

    @property
    def window(self) -> int:
        if self.viewer is not None:
            self.viewer.backlog = None
        return BACKLOG // 2

    def post(self, viewers: Sequence[Viewer], items: Sequence[Any]) -> None: ...

    def discard(self, viewer: Viewer, reason: str) -> None: ...


MESSAGES = [Message(b"x" * 136, topic="t")] * 10
"""Of 200 bytes each, with what is counted for its place."""


def test_room_that_is_made_while_it_is_asked_for_is_seen() -> None:
    """Else the hub would wait to be told of it, by a loop that has nothing more to tell."""
    loop = Loop()
    viewer = Viewer(loop, frozenset({"t"}), None, Client())
    viewer.put(Entry(b"x" * BACKLOG, None, live=True))
    loop.viewer = viewer
    assert viewer.room(MESSAGES[:3]) == 3
    assert not viewer.full


def test_history_is_granted_until_too_many_bytes_are_on_their_way() -> None:
    """What has arrived makes room again; live messages, which nobody granted, do not count."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, Client())
    viewer.note_arrival(50)
    assert viewer.in_transit == 0
    assert viewer.room(MESSAGES) == 3
    assert viewer.full
    assert viewer.room(MESSAGES[3:]) == 0
    viewer.note_arrival(500)
    assert viewer.in_transit == 100
    assert viewer.room(MESSAGES[3:]) == 2


def test_one_message_is_granted_however_large_it_is() -> None:
    """A message larger than the backlog reaches a viewer for whom nothing waits, alone."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, Client())
    assert viewer.room([Message(b"x" * 10 * BACKLOG, topic="t")] * 2) == 1
    assert viewer.room(MESSAGES) == 0


def test_the_hub_is_told_once_that_there_is_room_again() -> None:
    """There is when no more than half a window is unsent, if the hub holds something back."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, Client())
    assert not viewer.has_room_again()
    viewer.room(MESSAGES)
    assert not viewer.has_room_again()
    viewer.note_arrival(600)
    assert viewer.has_room_again()
    assert not viewer.has_room_again()
