"""Viewers that are too many, viewers that leave, and a server that stops; that test is the last."""

import os
import re
import signal
import socket
import struct
import time

import bridge
from tests.listener import Listener, body_of
from tests.servers import eventually
from tests.sites import LIMITS, Site
from tests.sse_clients import LAST, LAST_FRAME, SECONDS


def test_a_viewer_over_the_limit_is_refused_until_another_leaves(served: Site, topic: str) -> None:
    """The answer is 503 with a Retry-After; when viewers have left there is room again."""
    served.await_no_viewers()
    listeners = []
    for _ in range(LIMITS["max_viewers"] * served.kind.processes + 1):
        listeners.append(Listener(served.address, topic))
        listeners[-1].until(b"\r\n\r\n")
    refused = [it.received for it in listeners if it.received.startswith(b"HTTP/1.1 503 ")]
    assert refused
    assert all(re.search(rb"(?i)^retry-after: \d+\r$", head, re.MULTILINE) for head in refused)
    assert served.count("viewers") <= LIMITS["max_viewers"] * served.kind.processes
    for listener in listeners:
        listener.socket.close()
    served.await_no_viewers()
    again = Listener(served.address, topic)
    assert again.until(b"retry: ").startswith(b"HTTP/1.1 200 ")
    again.socket.close()


def half_a_request(site: Site, topic: str, task: str) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", int(site.address.rpartition(":")[2])), timeout=SECONDS
    )
    connection.sendall(b"GET /stream?topic=orders HTTP/1.1\r\nHost:")
    return connection


def no_head_yet(site: Site, topic: str, task: str) -> socket.socket:
    return Listener(site.address, topic).socket


def the_head(site: Site, topic: str, task: str) -> socket.socket:
    listener = Listener(site.address, topic)
    listener.until(b"retry: ")
    return listener.socket


def half_a_snapshot(site: Site, topic: str, task: str) -> socket.socket:
    """The snapshot is larger than what sockets hold."""
    listener = Listener(site.address, task, receive_buffer=4096)
    listener.until(b"event: snapshot")
    return listener.socket


def a_live_event(site: Site, topic: str, task: str) -> socket.socket:
    listener = Listener(site.address, topic)
    listener.until(b"retry: ")
    site.publish(topic, ["live"])
    listener.until(b"data: live\n")
    return listener.socket


PHASES = (half_a_request, no_head_yet, the_head, half_a_snapshot, a_live_event)
"""What a client has sent or received when it leaves."""


def test_a_viewer_may_leave_in_every_phase(served: Site, topic: str) -> None:
    """It is forgotten, whether it closes or resets, and the viewer beside it misses nothing."""
    for _ in range(20):
        served.say(topic, "log", message="x" * 100_000)
    beside = Listener(served.address, topic)
    beside.until(b"retry: ")
    for phase in PHASES:
        for leave in (socket.socket.close, reset):
            for _ in range(3):
                leave(phase(served, topic, bridge.task_topic(topic)))
    (last,) = served.publish(topic, [LAST])
    received = body_of(beside.until(LAST_FRAME))
    assert received.count(b"data: live\n") == 6
    assert received.endswith(b"id: %b\n%b" % (last.id.encode(), LAST_FRAME))
    beside.socket.close()
    served.await_no_viewers()
    # Each process that has shown a task reads the heartbeats of workers.
    eventually(lambda: served.count("subscriptions") <= served.kind.processes, SECONDS)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def test_a_server_that_stops_ends_its_streams(served: Site, topic: str) -> None:
    """Each gets a retry of its own and an end; the server waits for none; its log tells of no fault."""
    handed_over = served.count("viewers_handed_over")
    listeners = [Listener(served.address, topic) for _ in range(20)]
    for listener in listeners:
        listener.until(b"retry: ")
    if served.kind.takes_over:  # an interrupt must not meet a stream that is being taken over
        eventually(lambda: served.count("viewers_handed_over") == handed_over + 20, SECONDS)
    log = served.log.read_text()
    assert log.count("connections cannot be taken over") == (0 if served.kind.takes_over else 1)
    assert served.faults() == [], log
    before = time.monotonic()
    os.kill(served.leader, signal.Signals[served.kind.signal])
    received = [listener.rest() for listener in listeners]
    assert time.monotonic() - before < 3
    eventually(lambda: has_ended(served.leader), SECONDS, "the server waits for something")
    if served.kind.ends:
        assert all(text.endswith(b"0\r\n\r\n") for text in received)
        retries = [re.findall(rb"^retry: (\d+)$", body_of(text), re.MULTILINE) for text in received]
        assert {len(found) for found in retries} == {2}
        assert len({found[1] for found in retries}) > len(listeners) // 2
        assert served.faults() == []


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
