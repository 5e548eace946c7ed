"""The loop: what it sends through connections that were taken over, here ends of socket pairs."""

from _socket import socket
from socket import SO_SNDBUF, SOL_SOCKET, socketpair

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams.cursor import Cursor
from bridge.streams.limits import Client, ViewerLimits
from bridge.streams.loop import Loop
from bridge.streams.takeover.connection import TakenConnection
from tests import events
from tests.servers import eventually

BACKLOG = 1000


def test_what_a_full_connection_has_not_taken_comes_first() -> None:
    """The rest of the head goes out before the resets, and these before what was published."""
    limits = ViewerLimits()
    limits.acquire(Client())
    ours, client = socketpair()
    client.settimeout(10)
    with bridge.connect("memory://") as channel, client:
        topic = channel.topic("news")
        loop = Loop(transport_of(topic), heartbeat=15, backlog=BACKLOG, limits=limits)
        viewer = loop.open(["news"], Cursor(), Client())
        assert viewer.wait_established(10)
        topic.publish(b"1")
        taken = TakenConnection(socket(fileno=ours.detach()), chunked=False, unsent=b"head, ")
        taken.socket.setblocking(False)
        loop.adopt(viewer, taken, b"resets, ")
        received = b""
        while not received.endswith(b"data: 1\n\n"):
            received += client.recv(1000)
        assert received.startswith(b"head, resets, id: ")
        loop.discard(viewer)
        assert client.recv(1) == b""


@pytest.mark.parametrize("behind", [False, True])
def test_one_live_message_may_be_larger_than_the_backlog(behind: bool) -> None:
    """A client that reads slowly gets it whole; with others behind it the client is cut off."""
    limits = ViewerLimits()
    limits.acquire(Client())
    ours, client = socketpair()
    ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
    client.settimeout(10)
    with bridge.connect(f"memory://large-{behind}") as channel, client:
        topic = channel.topic("news")
        loop = Loop(transport_of(topic), heartbeat=15, backlog=BACKLOG, limits=limits)
        viewer = loop.open(["news"], Cursor(), Client())
        assert viewer.wait_established(10)
        taken = TakenConnection(socket(fileno=ours.detach()), chunked=False, unsent=b"")
        taken.socket.setblocking(False)
        loop.adopt(viewer, taken, b"")
        eventually(lambda: viewer.socket is not None)
        topic.publish(b"x" * 900_000)
        if behind:
            eventually(lambda: topic.publish(b"behind") and loop.stats()["viewers_cut_off"] == 1)
            return
        received = b""
        while not received.endswith(b"\n\n"):
            received += client.recv(100_000)
        assert received.count(b"x") == 900_000
        assert loop.stats()["viewers_cut_off"] == 0
        loop.discard(viewer)


def test_viewers_of_older_states_are_cut_off_where_too_much_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Viewers that read nothing of older states make room; the newest state may be too large alone."""
    monkeypatch.setattr("bridge.streams.rendering.LARGE_TEXTS", 1_000_000)
    clients = []
    with bridge.connect("memory://states") as channel:
        topic = bridge.task_topic("t1")
        loop = Loop(transport_of(channel.topic(topic)), heartbeat=15, backlog=BACKLOG, limits=ViewerLimits())
        viewers = []
        for _ in range(3):
            transport_of(channel).publish(events.make("log", "t1", level="info", message="x" * 400_000))
            ours, client = socketpair()
            ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
            clients.append(client)
            loop.limits.acquire(Client())
            viewers.append(loop.open([topic], Cursor(), Client()))
            taken = TakenConnection(socket(fileno=ours.detach()), chunked=True, unsent=b"")
            taken.socket.setblocking(False)
            loop.adopt(viewers[-1], taken, b"retry: 1\n")
            eventually(lambda: viewers[-1].closed or viewers[-1].unsent > 100_000)
        eventually(lambda: loop.stats()["viewers_cut_off"] == 2)
        assert [viewer.closed for viewer in viewers] == [True, True, False]
        for viewer in viewers:
            loop.discard(viewer)
    for client in clients:
        client.close()
