"""Stuck viewers: what viewers that never read cost the others while messages of 1 MiB flow."""

import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import bridge
from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import Peer, Stage, peers, stage

STUCK = pick(1000, 1000)
OTHERS = 50
READERS = 5
RATE = 20
LARGE_RATE = 5
SIZE = 1024 * 1024 - 1000
SECONDS = pick(30.0, 10.0)
TOPIC, LARGE = "news", "large"

QUESTION = Question(
    "stuck",
    f"Stuck viewers: {STUCK:,} that never read, {LARGE_RATE} messages of 1 MiB a second",
    (
        Column("p50_ms", "others: latency p50 ms", ".2f"),
        Column("p99_ms", "latency p99 ms", ".2f", plot=True),
        Column("lost", "lost"),
        Column("grown_mb", "memory of the server grew by MB", ",.1f", plot=True),
        Column("stuck", "stuck viewers"),
    ),
    f"{OTHERS} viewers get {RATE} small messages a second, and {READERS} read the large ones. "
    "The stuck viewers open before the large messages begin. The kernel's buffers are not in the memory.",
)


def connect(on: Stage) -> socket.socket:
    """Open a viewer of the large messages; return its connection when the stream has begun."""
    connection = socket.create_connection(("127.0.0.1", on.place.port), timeout=60)
    path = on.peer.path.format(topic=LARGE)
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    connection.recv(4096)
    connection.setblocking(False)
    return connection


@contextmanager
def large_flow(on: Stage, read: Sequence[socket.socket]) -> Iterator[None]:
    """Publish large messages, and read them from some connections, until the context ends."""
    over = threading.Event()

    def publish() -> None:
        with bridge.connect(on.place.valkey.url(on.peer.url), retention_messages=5) as channel:
            began, count = time.monotonic(), 0
            while not over.wait(max(0.0, began + count / LARGE_RATE - time.monotonic())):
                channel.topic(LARGE).publish(b"x" * SIZE)
                count += 1

    def take() -> None:
        with selectors.DefaultSelector() as selector:
            for connection in read:
                selector.register(connection, selectors.EVENT_READ)
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    key.fileobj.recv(1 << 20)  # type: ignore[union-attr]  # all are sockets

    threads = [threading.Thread(target=work) for work in (publish, take)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


def measure(peer: Peer, stuck: int) -> dict[str, float]:
    with stage(peer) as on, ExitStack() as connections:
        on.open(OTHERS, TOPIC)
        opened = [connections.enter_context(connect(on)) for _ in range(READERS + stuck)]
        on.settle([TOPIC])
        before = most = on.memory()
        with large_flow(on, opened[:READERS]):
            began = time.monotonic()
            for tick in range(round(RATE * SECONDS)):
                time.sleep(max(0.0, began + tick / RATE - time.monotonic()))
                on.publish([TOPIC])
                if tick % RATE == 0:
                    most = max(most, on.memory())
            answer = on.load.until(on.number, 30)
        return {
            "p50_ms": answer["p50_ms"],
            "p99_ms": answer["p99_ms"],
            "lost": OTHERS * round(RATE * SECONDS) - answer["frames"] + answer["repeated"],
            "grown_mb": (most - before) / 1024 / 1024,
            "stuck": stuck,
        }


def main() -> None:
    prepare()
    subjects = {
        f"{peer.name}, {stuck:,} stuck": partial(measure, peer, stuck)
        for peer in peers()
        if peer.resumes and peer.url == "redis"
        for stuck in (0, STUCK)
    }
    report(QUESTION, rounds(subjects))


if __name__ == "__main__":
    main()
