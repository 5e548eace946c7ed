"""Viewers that never read, and messages of a megabyte: the process stays small, and the others get all."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from tests.faults.test_large import Served, served
from tests.readers import Reader, read_until
from tests.servers import Valkey, eventually

MIB = 1024 * 1024
BUDGET = 64 * MIB
SECONDS = 60


@contextmanager
def publishing(server: Served, topics: list[str], size: int) -> Iterator[None]:
    """Publish a message of `size` bytes to one topic after the other until the context ends."""
    stop = threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            server.channel.topic(topics[number % len(topics)]).publish(b"x" * size)
            number += 1

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("topics", [1, 100])
def test_viewers_that_never_read_stay_in_the_budget(valkey: Valkey, topics: int) -> None:
    """200 of them, of one topic or of many, are closed, told in few lines, and harm nobody else."""
    with served(
        valkey.url("redis"),
        BRIDGE_MEMORY=str(BUDGET),
        BRIDGE_VIEWER_BACKLOG=str(100 * MIB),
        BRIDGE_RETENTION_MESSAGES="5",
    ) as server:
        names = [f"large-{number}" for number in range(topics)]
        quick = [Reader(server.port, "/stream?topic=small") for _ in range(20)]
        eventually(lambda: server.told("/stats")["viewers_handed_over"] == 20, SECONDS)
        before = server.told("/pid")["peak"]
        stuck = [
            Reader(server.port, f"/stream?topic={names[number % topics]}", receive_buffer=4096)
            for number in range(200)
        ]
        eventually(lambda: server.told("/stats")["viewers_handed_over"] == 220, SECONDS)
        sent = 0
        with publishing(server, names, MIB - 100):
            deadline = time.monotonic() + SECONDS
            while sent < 50 or not server.told("/stats")["viewers_cut_off_for_memory"]:
                assert time.monotonic() < deadline, server.told("/stats")
                server.channel.topic("small").publish(b"#%d#" % sent)
                sent += 1
                read_until(quick, sent, within=SECONDS)
        stats = server.told("/stats")
        assert stats["memory_limit"] == BUDGET
        assert server.told("/pid")["peak"] - before < 2 * BUDGET
        lines = [line for line in server.log.read_text().splitlines() if "slowest viewers" in line]
        assert 1 <= len(lines) <= 2
        assert "raise BRIDGE_MEMORY" in lines[0]
        assert stats["viewers"] >= 20
        for reader in stuck:
            with suppress(OSError):
                reader.socket.close()
