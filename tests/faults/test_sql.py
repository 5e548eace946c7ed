"""Databases that are killed, cut off, locked or full: every message arrives once, and nothing dies."""

import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge.backends.sql import listener as reader
from bridge.channel.transport import transport_of
from bridge.errors import ConnectionLost
from bridge.model.publication import Publication
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.servers import Postgres, eventually, free_port

OUTAGE = 10.0
"""Seconds of an outage that is waited out."""


class Publishing:
    """Publishes numbers from a thread, each again with its token until it is taken, as an outbox does."""

    def __init__(self, url: str, **options: Any) -> None:
        self._channel: Any = bridge.connect(url, timeout=1, **options)
        self.sent = 0
        self.refused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            publication = Publication("numbers", b"%d" % self.sent)
            while True:
                try:
                    transport_of(self._channel).publish(publication)
                    break
                except bridge.PublishError:
                    publication.repeated = True
                    self.refused += 1
                    time.sleep(0.05)
            self.sent += 1
            time.sleep(0.002)

    def stop(self) -> int:
        """Return how many numbers were sent."""
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._channel.close()
        return self.sent


@pytest.fixture
def publishing() -> Iterator[Callable[..., Publishing]]:
    started: list[Publishing] = []

    def start(url: str, **options: Any) -> Publishing:
        started.append(Publishing(url, **options))
        return started[-1]

    yield start
    for one in started:
        one.stop()


def check_all(subscription: bridge.Subscription, count: int) -> None:
    """Every number from 0 on is received, once and in order."""
    for number in range(count):
        assert subscription.receive(timeout=30) == b"%d" % number


def established(topic: Any, **start: Any) -> Any:
    """Return a subscription of a channel with a short timeout, on a machine that may be busy."""

    def attempt() -> Any:
        with suppress(ConnectionLost):
            return topic.subscribe(**start)

    return eventually(attempt, 30)


@pytest.mark.parametrize("how", ["killed", "killed and away", "stopped", "terminated", "paused"])
def test_a_postgres_outage_loses_and_repeats_nothing(
    own_postgres: Postgres, publishing: Callable[..., Publishing], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers and publishers outlive it by themselves: each message once and in order."""
    monkeypatch.setattr(reader, "COMPARE_EVERY", 1.0)
    with bridge.connect(own_postgres.url(), timeout=1) as channel:
        subscription = established(channel.topic("numbers"))
        durable = established(channel.topic("numbers"), durable="indexer")
        publisher = publishing(own_postgres.url())
        for _ in range(1 if how == "killed and away" else 3):
            reached = publisher.sent + 50
            eventually(lambda: publisher.sent > reached, 30)  # noqa: B023
            if how == "terminated":
                own_postgres.terminate_connections()
            elif how == "paused":
                own_postgres.pause()
                refused = publisher.refused
                eventually(lambda: publisher.refused > refused, 20)  # noqa: B023
                own_postgres.resume()
            else:
                own_postgres.end(signal.SIGINT if how == "stopped" else signal.SIGKILL)
                if how == "killed and away":
                    time.sleep(OUTAGE)
                own_postgres.start()
        reached = publisher.sent + 50
        eventually(lambda: publisher.sent > reached, 30)
        count = publisher.stop()
        check_all(subscription, count)
        check_all(durable, count)


def test_a_locked_file_is_waited_for(tmp_path: Path, publishing: Callable[..., Publishing]) -> None:
    """Locked for 10 s by someone else: publishing is refused meanwhile, and nothing is lost or dead after."""
    url = f"sqlite:///{tmp_path}/bridge.db"
    with bridge.connect(url, timeout=1) as channel:
        topic = channel.topic("numbers")
        subscription = established(topic)
        publisher = publishing(url)
        eventually(lambda: publisher.sent > 50)
        with sqlite3.connect(tmp_path / "bridge.db", timeout=10, isolation_level=None) as locking:
            locking.execute("BEGIN EXCLUSIVE")
            sent = publisher.sent
            started = time.monotonic()
            with pytest.raises(bridge.PublishError, match=r"bridge\.db.*locked"):
                channel.topic("others").publish(b"one")
            assert time.monotonic() - started < 3
            assert topic.history(limit=1), "reading needs no lock"
            time.sleep(max(0.0, started + OUTAGE - time.monotonic()))
            assert publisher.sent <= sent + 1
            locking.execute("COMMIT")
        locking.close()
        reached = publisher.sent + 50
        eventually(lambda: publisher.sent > reached, 30)
        check_all(subscription, publisher.stop())


def test_a_task_goes_on_while_the_file_is_locked(tmp_path: Path) -> None:
    """The outbox of a worker takes events at once, and sends them in order when the lock is gone."""
    channel = bridge.connect(f"sqlite:///{tmp_path}/bridge.db", timeout=0.5)
    transport_of(channel).backend.ping()
    publisher = BackgroundPublisher(transport_of(channel))
    task = bridge.task_topic("t1")
    with sqlite3.connect(tmp_path / "bridge.db", isolation_level=None) as locking:
        locking.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        for number in range(100):
            publisher.put(events.make("log", "t1", message=str(number)))
        assert time.monotonic() - started < 1
        assert publisher.flush(5) is False
        locking.execute("COMMIT")
    locking.close()
    eventually(lambda: publisher.flush(1))
    sent = [events.decode(message) for message in channel.topic(task).history(limit=1000)]
    assert [event["message"] for event in sent if event] == [str(number) for number in range(100)]
    assert publisher.dropped == 0
    publisher.close()


def mounted(folder: Path) -> bool:
    """Mount a file system of 8 MiB; return whether that is possible here."""
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,mode=1777", "tmpfs", str(folder)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of 8 MiB; where none can be mounted, its tests are not collected."""
    folder = Path(tempfile.mkdtemp(prefix="small-disk-"))
    assert mounted(folder)
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
    folder.rmdir()


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        if not mounted(Path(folder)):
            return False
        subprocess.run(["umount", folder], check=True)
        return True


def check_a_full_disk(url: str, folder: Path, within: Path) -> None:
    """Fill the disk, publish, make room, publish: what was accepted is there, what was refused is not."""
    accepted: list[bytes] = []
    refused = 0
    payload = b"x" * 20_000
    with bridge.connect(url, timeout=2) as channel:
        topic = channel.topic("numbers")
        topic.publish(b"first")
        accepted.append(b"first")
        with topic.subscribe() as subscription:
            ballast = within / "ballast"
            fill(ballast)
            for number in range(400):
                message = b"%d " % number + payload
                try:
                    topic.publish(message)
                    accepted.append(message)
                except bridge.PublishError:
                    refused += 1
                    if refused == 3:
                        ballast.unlink()
                if refused > 3 or len(accepted) > 150:
                    break
            assert refused >= 3, "the disk was never full"
            eventually(lambda: publishes(topic, b"last"), 30)
            accepted.append(b"last")
            for expected in accepted[1:]:
                assert subscription.receive(timeout=20) == expected
        assert topic.history(limit=1000) == accepted


def fill(ballast: Path) -> None:
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def publishes(topic: bridge.Topic, payload: bytes) -> bool:
    try:
        topic.publish(payload)
    except bridge.PublishError:
        return False
    return True


def owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


if can_mount():  # elsewhere the test that follows is what there is

    def test_a_full_disk_refuses_what_it_cannot_keep(small_disk: Path) -> None:
        """SQLite on a full disk: refused, and with room again all goes on; nothing accepted is missing."""
        check_a_full_disk(f"sqlite:///{small_disk}/bridge.db", small_disk, small_disk)

    def test_a_full_disk_under_postgres(own_postgres: Postgres, small_disk: Path) -> None:
        """PostgreSQL with its tables on a full disk: the same."""
        folder = small_disk / "tables"
        folder.mkdir()
        if os.geteuid() == 0:
            folder.chmod(0o777)
            os.chown(folder, *owner_of(Path(own_postgres.directory)))
        own_postgres.query(f"CREATE TABLESPACE small LOCATION '{folder}'")
        own_postgres.query("ALTER ROLE postgres SET default_tablespace = small")
        check_a_full_disk(own_postgres.url(), small_disk, small_disk)
        own_postgres.kill()  # before its disk is gone


def test_a_file_that_may_not_grow_is_a_refusal(tmp_path: Path) -> None:
    """A process whose files may not grow (RLIMIT_FSIZE) has its messages refused, and publishes later on."""
    program = f"""
import resource, signal, bridge
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
topic = bridge.connect("sqlite:///{tmp_path}/bridge.db", timeout=1).topic("numbers")
topic.publish(b"first")
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
refused = 0
for number in range(100):
    try:
        topic.publish(b"x" * 50_000)
    except bridge.PublishError as error:
        refused += 1
        last = error
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
topic.publish(b"last")
print(refused, len(topic.history(limit=1000)), topic.history(limit=1), last)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    refused, kept, last, *said = done.stdout.split(maxsplit=3) or [done.stderr]
    assert int(refused) > 0
    assert int(refused) + int(kept) == 102
    assert "last" in last + str(said)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_killed_publisher_leaves_all_or_nothing(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """kill -9 in the midst of publishing: numbers have no hole, and the feed has what the tasks have."""
    url = f"sqlite:///{tmp_path}/bridge.db"
    if kind == "postgresql":
        url = request.getfixturevalue("own_postgres").url()
    program = f"""
import bridge, itertools, sys
from bridge.channel.transport import transport_of
from bridge.errors import ConnectionLost
from tests import events
transport = transport_of(bridge.connect({url!r}))
for number in itertools.count():
    transport.publish(events.make("progress", "t1", current=number))
"""
    with bridge.connect(url, timeout=5) as channel:
        task, feed = channel.topic(bridge.task_topic("t1")), channel.topic(bridge.FEED)
        transport_of(channel).backend.ping()
        watching = task.subscribe()
        for _ in range(5):
            before = len(task.history(limit=10_000))
            process = subprocess.Popen([sys.executable, "-c", program])
            eventually(lambda: len(task.history(limit=10_000)) > before + 20, 30)  # noqa: B023
            process.kill()
            process.wait()
        eventually(lambda: publishes(task, b"end"), 20)
        published = task.history(limit=10_000)
        assert [int((message.id or "").split("-")[1]) for message in published] == list(
            range(1, len(published) + 1)
        )
        assert feed.history(limit=10_000) == published[:-1]
        received = [watching.receive(timeout=10) for _ in published]
        assert received == published


@pytest.mark.parametrize(
    "url",
    ["postgresql://ann:secret@127.0.0.1:{port}/x", "postgresql://ann:secret@no-such-host.invalid/x"],
)
def test_an_unreachable_host_is_told_without_its_password(url: str) -> None:
    """Within the timeout, publish and subscribe say what they could not reach."""
    url = url.format(port=free_port())
    with bridge.connect(url, timeout=2) as channel:
        started = time.monotonic()
        with pytest.raises(bridge.PublishError, match="ann:") as unpublished:
            channel.topic("orders").publish(b"one")
        with pytest.raises(bridge.ConnectionLost, match="ann:") as refused:
            channel.topic("orders").subscribe()
        with pytest.raises(bridge.ConnectionLost):
            transport_of(channel).backend.ping()
        assert time.monotonic() - started < 15
        assert "secret" not in f"{unpublished.value} {refused.value}"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A file that cannot be made is named, when it is first used."""
    with bridge.connect(f"sqlite:///{tmp_path}/no/bridge.db", timeout=1) as channel:
        with pytest.raises(bridge.PublishError, match=r"no/bridge\.db.*unable to open"):
            channel.topic("orders").publish(b"one")
        (tmp_path / "no").mkdir()
        channel.topic("orders").publish(b"one")
