"""Databases under load: every reader goes on, and gets each message once, in order and soon.

`make soak`, or for one run `ROUNDS=1 python -m pytest -s tests/soak/sql.py`. It keeps the whole machine busy.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import ROOT
from tests.servers import Postgres, eventually

ROUNDS = int(os.environ.get("ROUNDS", "10"))
KILLS = 5
READERS = ("r0", "r1", "r2")
PUBLISHERS = ("p0", "p1", "p2")
EVERYONE = (*READERS, *PUBLISHERS)
BUSY = 4 * (os.cpu_count() or 1)

PROGRESS_WITHIN = 10.0
"""Seconds after the return of the server within which everyone goes on."""

SQLITE_SECONDS = 30.0
SOON = 5.0
"""Seconds within which a message is received where no server is killed; a lost wake-up takes up to 10."""

rounds = pytest.mark.parametrize("number", range(ROUNDS))


class Members:
    """The processes of a soak; each has a file for what it does and one for its log."""

    def __init__(self, url: str, folder: Path, pause: float) -> None:
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
        for name in EVERYONE:
            role = "reader" if name in READERS else "publisher"
            words = [role, url, name, str(folder / name), str(pause)]
            with (folder / f"{name}.log").open("wb") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "tests.soak.member", *words], cwd=ROOT, stdout=log, stderr=log
                )

    def size(self, name: str) -> int:
        """How much a reader has received, or the last number that a publisher has published."""
        file = self._folder / name
        if not file.exists():
            return 0
        return file.stat().st_size if name in READERS else int(file.read_text() or 0)

    def received(self, name: str) -> list[tuple[str, int, float]]:
        """Who sent what a reader has received, its number and its age."""
        rows = [line.split() for line in (self._folder / name).read_text().splitlines()]
        return [(row[0], int(row[1]), float(row[2])) for row in rows]

    def stop(self, *names: str) -> None:
        for name in names:
            self._processes[name].terminate()
        for name in names:
            assert self._processes[name].wait(60) == 0, name

    def tell(self) -> str:
        """Have every process write the stacks of its threads; return the ends of all logs."""
        for process in self._processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGUSR1)
        time.sleep(3)
        logs = {name: (self._folder / f"{name}.log").read_text(errors="replace") for name in EVERYONE}
        return "\n".join(f"--- {name}\n{log[-6000:]}" for name, log in logs.items())

    def close(self) -> None:
        for process in (*self._busy, *self._processes.values()):
            process.kill()
            process.wait()


@contextmanager
def members(url: str, folder: Path, pause: float) -> Iterator[Members]:
    """Run publishers and readers; if the test fails, show the stacks and logs of all of them."""
    running = Members(url, folder, pause)
    try:
        eventually(lambda: all(map(running.size, EVERYONE)), 100, "they did not begin")
        yield running
    except BaseException:
        print(running.tell())
        raise
    finally:
        running.close()


@pytest.mark.timeout(900)
@rounds
def test_readers_go_on_when_postgres_was_killed(tmp_path: Path, number: int) -> None:
    """Killed five times under load: each reader goes on within 10 s, and has each message once, in order."""
    with Postgres() as server, members(server.url(), tmp_path, 0) as running:
        slowest = 0.0
        try:
            for _ in range(KILLS):
                time.sleep(3)
                server.kill()
                server.start()
                slowest = max(slowest, progress(running))
            count, _ = check_all(running)
        except BaseException:
            print("--- server", Path(server.directory, "postgres.log").read_text(errors="replace")[-6000:])
            raise
    print(f"\n{count} messages, {KILLS} kills; all went on {slowest:.1f} s after the server's return")


@pytest.mark.timeout(900)
@rounds
def test_no_reader_of_sqlite_waits(tmp_path: Path, number: int) -> None:
    """Other processes publish now and then, and nothing for a while: each message is received soon."""
    with members(f"sqlite:///{tmp_path}/bridge.db", tmp_path, 0.5) as running:
        time.sleep(SQLITE_SECONDS)
        count, oldest = check_all(running)
        assert oldest < SOON, f"a message was received {oldest} s after it was published"
    print(f"\n{count} messages, the slowest was received after {oldest:.1f} s")


def check_all(running: Members) -> tuple[int, float]:
    """Stop; fail unless every reader has each message once and in order; return how many, and the oldest."""
    running.stop(*PUBLISHERS)
    sent = {name: running.size(name) + 1 for name in PUBLISHERS}
    count = sum(sent.values())
    eventually(lambda: all(len(running.received(name)) >= count for name in READERS), 60, "not all has come")
    running.stop(*READERS)
    oldest = 0.0
    for reader in READERS:
        received = running.received(reader)
        assert len(received) == count, reader
        for publisher, total in sent.items():
            own = [number for name, number, _ in received if name == publisher]
            assert own == list(range(total)), (reader, publisher)
        oldest = max(oldest, *(age for *_, age in received))
    return count, oldest


def progress(running: Members) -> float:
    """Return the seconds until all of them have gone on; fail if that takes too long."""
    before = {name: running.size(name) for name in EVERYONE}
    began = time.monotonic()
    waiting = list(EVERYONE)
    while waiting:
        waiting = [name for name in waiting if running.size(name) == before[name]]
        assert time.monotonic() - began < PROGRESS_WITHIN, f"{waiting} stand still"
        time.sleep(0.05)
    return time.monotonic() - began
