"""The loop: what it sends through connections that were taken over, here ends of socket pairs."""

import socket as socketlib
from _socket import socket
from socket import SO_SNDBUF, SOL_SOCKET, socketpair

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams.cursor import Cursor
from bridge.streams.limits import Client, ViewerLimits
from bridge.streams.loop import Loop
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.viewer import Viewer
from bridge.support.memory import BUDGET
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
        loop.discard(viewer, "left")
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
        loop.discard(viewer, "left")


def stuck_viewer(loop: Loop, topic: str) -> tuple[Viewer, socketlib.socket]:
    """Return a viewer that takes a few kilobytes, and the end of its connection that nobody reads."""
    ours, client = socketpair()
    ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
    loop.limits.acquire(Client())
    viewer = loop.open([topic], Cursor(), Client())
    taken = TakenConnection(socket(fileno=ours.detach()), chunked=False, unsent=b"")
    taken.socket.setblocking(False)
    loop.adopt(viewer, taken, b"")
    eventually(lambda: viewer.established and viewer.socket is not None)
    return viewer, client


@pytest.mark.usefixtures("own_budget")
def test_the_slowest_viewers_are_closed_over_the_memory_budget(caplog: pytest.LogCaptureFixture) -> None:
    """What is too much goes with the viewer that has kept the most waiting for longest; one line says so."""
    with bridge.connect("memory://budget", memory=2_000_000, max_payload=2_000_000) as channel:
        loop = Loop(transport_of(channel), heartbeat=15, backlog=10_000_000, limits=ViewerLimits())
        stuck = {topic: stuck_viewer(loop, topic) for topic in ("large", "small", "new")}

        def publish(topic: str, size: int) -> None:
            channel.topic(topic).publish(b"x" * size)
            eventually(lambda: stuck["large"][0].closed or stuck[topic][0].unsent > size // 2)

        publish("large", 1_200_000)
        publish("small", 50_000)
        publish("new", 800_000)
        eventually(lambda: loop.stats()["viewers_cut_off_for_memory"])
        eventually(lambda: 800_000 < BUDGET.used()["backlogs"] < 1_000_000)
        assert {topic: viewer.closed for topic, (viewer, _) in stuck.items()} == {
            "large": True,
            "small": False,
            "new": False,
        }
        assert loop.stats()["viewers_cut_off"] == 1
        (line,) = [record.getMessage() for record in caplog.records if "memory budget" in record.getMessage()]
        assert "closed the 1 slowest viewers" in line
        assert "2,000,000 bytes" in line
        for viewer, client in stuck.values():
            loop.discard(viewer, "left")
            client.close()
        eventually(lambda: loop.stats()["viewers"] == 0 and BUDGET.used()["backlogs"] < 200_000)


@pytest.mark.usefixtures("own_budget")
def test_what_all_viewers_share_counts_once() -> None:
    """A text that waits for many viewers counts with its bytes, and its place in each backlog."""
    before = BUDGET.used()["backlogs"]
    with bridge.connect("memory://shared", memory=2_000_000) as channel:
        loop = Loop(transport_of(channel), heartbeat=15, backlog=10_000_000, limits=ViewerLimits())
        stuck = [stuck_viewer(loop, "news") for _ in range(10)]
        channel.topic("news").publish(b"x" * 900_000)
        eventually(lambda: all(viewer.unsent > 500_000 for viewer, _ in stuck))
        eventually(lambda: 900_000 < BUDGET.used()["backlogs"] - before < 950_000)
        assert loop.stats()["viewers_cut_off"] == 0
        for viewer, client in stuck:
            loop.discard(viewer, "left")
            client.close()
        eventually(lambda: BUDGET.used()["backlogs"] <= before)
