"""gunicorn is restarted in each of the usual ways while a thousand watch."""

import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

import bridge
from tests.faults.crowd import Crowd
from tests.processes import running
from tests.servers import Valkey, eventually, free_port
from tests.serving import answers, command

VIEWERS = 1000
SECONDS = 30
ENDED_WITHIN = 5
"""Seconds. It takes less than one, but a busy machine does not read a thousand sockets in that time."""
TOPIC = "numbers"


class Counting(threading.Thread):
    """Publishes 0, 1, 2 and so on, twenty a second, until it is told to stop."""

    def __init__(self, channel: Any) -> None:
        super().__init__(name="counting")
        self._producer = channel.topic(TOPIC).as_producer()
        self._stopped = threading.Event()
        self.published = 0

    def run(self) -> None:
        while not self._stopped.wait(0.05):
            self._producer.publish(b"%d" % self.published)
            self.published += 1

    def stop(self) -> int:
        """Return the last number, when it is published."""
        self._stopped.set()
        self.join()
        return self.published - 1


@contextmanager
def counting(channel: Any) -> Iterator[Counting]:
    thread = Counting(channel)
    thread.start()
    try:
        yield thread
    finally:
        thread.stop()


@contextmanager
def gunicorn(port: int, given: dict[str, str]) -> Iterator[None]:
    """Run gunicorn beside any other on the same port."""
    words = command("gunicorn sync", port)
    words[-1:-1] = ["--reuse-port"]
    with running(words, env={f"SERVING_BRIDGE_{name}": value for name, value in given.items()}) as log:
        eventually(lambda: "Booting worker" in log.read_text(), SECONDS, "gunicorn did not start")
        eventually(lambda: answers(f"http://127.0.0.1:{port}"), SECONDS)
        yield


class Restarts:
    """Stops what serves a crowd, and waits until everyone is back."""

    def __init__(self, port: int, crowd: Crowd, numbers: Counting) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._crowd = crowd
        self._numbers = numbers

    def process(self, name: str) -> int:
        """Return the id of the worker (`own`) or of its arbiter (`parent`)."""
        number: int = httpx.get(
            f"{self._address}/pid", timeout=SECONDS, trust_env=False, verify=False
        ).json()[name]
        return number

    def strike(self, process: int, number: int) -> None:
        at = time.monotonic()
        os.kill(process, number)
        ends = eventually(lambda: self._crowd.ends(at), SECONDS, "not every stream has ended")
        times = [end.at for end in ends]
        # On SIGHUP gunicorn first boots a new worker, then sends SIGTERM to the old one.
        assert max(times) - (at if number == signal.SIGTERM else min(times)) < ENDED_WITHIN
        assert len({end.retry for end in ends}) > VIEWERS / 4
        assert {round(end.retry) for end in ends} >= {1, 2, 3, 4}
        latest = self._numbers.published
        eventually(lambda: self._crowd.have(latest), SECONDS, "not everyone has come back")


def test_a_rolling_restart_loses_nothing_of_a_thousand_viewers(valkey: Valkey) -> None:
    """A worker is stopped, reloaded, and its gunicorn replaced: each viewer has each number exactly once.

    What a stopped worker served ends at once, each stream with a time of its own to come back.
    """
    namespace, port, url = uuid.uuid4().hex, free_port(), valkey.url("redis")
    given = {"URL": url, "PUBLIC": "true", "NAMESPACE": namespace}
    with (
        bridge.connect(url, namespace=namespace) as channel,
        counting(channel) as numbers,
        gunicorn(port, given),
        Crowd(port, f"/stream?topic={TOPIC}", VIEWERS) as crowd,
    ):
        eventually(lambda: crowd.have(0), SECONDS, "not everyone has come")
        restarts = Restarts(port, crowd, numbers)
        restarts.strike(restarts.process("own"), signal.SIGTERM)
        restarts.strike(restarts.process("parent"), signal.SIGHUP)
        first = restarts.process("parent")
        with gunicorn(port, given):
            restarts.strike(first, signal.SIGTERM)
            last = numbers.stop()
            eventually(lambda: crowd.have(last), SECONDS)
    for member in crowd.members:
        assert member.numbers == [*range(member.numbers[0], last + 1)]
        assert member.refused == []
