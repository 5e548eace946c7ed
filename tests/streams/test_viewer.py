"""A viewer between the hub, which grants it history, and the loop, which sends it."""

from _socket import socket
from collections.abc import Callable, Sequence
from socket import SO_SNDBUF, SOL_SOCKET, socketpair
from typing import Any

import pytest

import bridge
from bridge.channel.channel import channel_of
from bridge.model.message import Message
from bridge.streams.cursor import Cursor
from bridge.streams.limits import ViewerLimits
from bridge.streams.loop import Loop as RealLoop
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.viewer import Viewer
from bridge.tasks import events
from tests.servers import eventually

BACKLOG = 1000


class Loop:
    """A loop that sends all there is at the very moment in which the hub asks whether there is room."""

    def __init__(self) -> None:
        self.viewer: Viewer | None = None

    @property
    def backlog(self) -> int:
        if self.viewer is not None:
            self.viewer.pending = None
            self.viewer.size = 0
        return BACKLOG

    @property
    def window(self) -> int:
        return self.backlog // 2

    def post(self, viewers: Sequence[Viewer], items: Sequence[Any]) -> None: ...

    def do(self, work: Callable[..., None], *arguments: Any) -> None: ...

    def drop(self, viewer: Viewer) -> None: ...


MESSAGES = [Message(b"x" * 136, topic="t")] * 10
"""Of 200 bytes each, with what is counted for its place."""


def test_room_that_is_made_while_it_is_asked_for_is_seen() -> None:
    """Else the hub would wait to be told of it, by a loop that has nothing more to tell."""
    loop = Loop()
    viewer = Viewer(loop, frozenset({"t"}), None, "")
    viewer.put(b"x" * BACKLOG, None)
    loop.viewer = viewer
    assert viewer.room(MESSAGES[:3]) == 3
    assert not viewer.full


def test_history_is_granted_until_too_many_bytes_are_on_their_way() -> None:
    """What has arrived makes room again; live messages, which nobody granted, do not count."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, "")
    viewer.take_note(50)
    assert viewer.owed == 0
    assert viewer.room(MESSAGES) == 3
    assert viewer.full
    assert viewer.room(MESSAGES[3:]) == 0
    viewer.take_note(500)
    assert viewer.owed == 100
    assert viewer.room(MESSAGES[3:]) == 2


def test_one_message_is_granted_however_large_it_is() -> None:
    """A message larger than the backlog reaches a viewer for whom nothing waits, alone."""
    viewer = Viewer(Loop(), frozenset({"t"}), None, "")
    assert viewer.room([Message(b"x" * 10 * BACKLOG, topic="t")] * 2) == 1
    assert viewer.room(MESSAGES) == 0


def test_what_a_full_connection_has_not_taken_comes_first() -> None:
    """The rest of the head goes out before the stream begins anew, and that before what was published."""
    limits = ViewerLimits(None, None)
    limits.take("")
    ours, client = socketpair()
    client.settimeout(10)
    with bridge.connect("memory://") as channel, client:
        topic = channel.topic("news")
        loop = RealLoop(channel_of(topic), heartbeat=15, backlog=BACKLOG, limits=limits)
        viewer = loop.open(["news"], Cursor(), "")
        assert viewer.wait_established(10)
        topic.publish(b"1")
        taken = TakenConnection(socket(fileno=ours.detach()), chunked=False, unsent=b"head, ")
        taken.socket.setblocking(False)
        loop.adopt(viewer, taken, b"anew, ")
        received = b""
        while not received.endswith(b"data: 1\n\n"):
            received += client.recv(1000)
        assert received.startswith(b"head, anew, id: ")
        loop.do(loop.drop, viewer)
        assert client.recv(1) == b""


@pytest.mark.parametrize("behind", [False, True])
def test_one_live_message_may_be_larger_than_the_backlog(behind: bool) -> None:
    """A client that reads slowly gets it whole; with others behind it the client is cut off."""
    limits = ViewerLimits(None, None)
    limits.take("")
    ours, client = socketpair()
    ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
    client.settimeout(10)
    with bridge.connect(f"memory://large-{behind}") as channel, client:
        topic = channel.topic("news")
        loop = RealLoop(channel_of(topic), heartbeat=15, backlog=BACKLOG, limits=limits)
        viewer = loop.open(["news"], Cursor(), "")
        assert viewer.wait_established(10)
        taken = TakenConnection(socket(fileno=ours.detach()), chunked=False, unsent=b"")
        taken.socket.setblocking(False)
        loop.adopt(viewer, taken, b"")
        eventually(lambda: viewer.socket is not None)
        topic.publish(b"x" * 900_000)
        if behind:
            eventually(lambda: topic.publish(b"behind") and loop.cut_off == 1)
            return
        received = b""
        while not received.endswith(b"\n\n"):
            received += client.recv(100_000)
        assert received.count(b"x") == 900_000
        assert loop.cut_off == 0
        loop.do(loop.drop, viewer)


def test_viewers_of_older_states_are_cut_off_where_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers that read nothing of older states make room; the newest state may be too large alone."""
    monkeypatch.setattr("bridge.streams.loop.LARGE_TEXTS", 1_000_000)
    clients = []
    with bridge.connect("memory://states") as channel:
        topic = bridge.task_topic("t1")
        loop = RealLoop(
            channel_of(channel.topic(topic)), heartbeat=15, backlog=BACKLOG, limits=ViewerLimits(None, None)
        )
        viewers = []
        for _ in range(3):
            channel.publish(events.make("log", "t1", level="info", message="x" * 400_000))
            ours, client = socketpair()
            ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
            clients.append(client)
            loop._limits.take("")
            viewers.append(loop.open([topic], Cursor(), ""))
            taken = TakenConnection(socket(fileno=ours.detach()), chunked=True, unsent=b"")
            taken.socket.setblocking(False)
            loop.adopt(viewers[-1], taken, b"retry: 1\n")
            eventually(lambda: viewers[-1].gone or viewers[-1].size > 100_000)
        eventually(lambda: loop.cut_off == 2)
        assert [viewer.gone for viewer in viewers] == [True, True, False]
        for viewer in viewers:
            loop.do(loop.drop, viewer)
    for client in clients:
        client.close()
