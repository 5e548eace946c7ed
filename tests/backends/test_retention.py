"""How long a state is kept: while its task has not ended, and `retention_seconds` from then on."""

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

import bridge
from bridge.backends.memory import members
from bridge.backends.redis import listener as redis_reader
from bridge.backends.sql import listener as sql_reader
from bridge.celery.apps import installed
from bridge.channel.channel import Channel
from bridge.channel.transport import transport_of
from bridge.model import state
from bridge.model.publication import MAX_MEMBERS
from bridge.tasks import canvas as canvas_events
from tests import events
from tests.celery.test_lifecycle import Watcher
from tests.conftest import LIVE_ONLY, Connect
from tests.processes import ROOT
from tests.retention_app import make_app
from tests.servers import Valkey, eventually
from tests.serving import serving

UNENDED = 3.0

of_workers = pytest.mark.parametrize("url", ["redis", "sqlite", "postgresql"], indirect=True)


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """States that are no end are kept for few seconds too."""
    monkeypatch.setattr(state, "UNENDED_SECONDS", 2.0)


def say(channel: Any, task: str, of: str) -> str | None:
    """Publish that a task is in a state; return the message's id."""
    message_id: str | None = transport_of(channel).publish(events.make("state", task, state=of))
    return message_id


def known(channel: Any, *tasks: str) -> set[str]:
    """Which of these tasks are known to those who ask for one, or for all; fail where the two differ."""
    # Some backends forget while somebody publishes.
    channel.topic("busy").publish(b"")
    listed = {found.topic for found in transport_of(channel).states(bridge.FEED)}
    alone = {task for task in tasks if transport_of(channel).states(bridge.task_topic(task))}
    if {bridge.task_topic(task) for task in alone} <= listed:
        return alone
    # One may have expired between the two.
    again = {task for task in tasks if transport_of(channel).states(bridge.task_topic(task))}
    assert {bridge.task_topic(task) for task in again} <= listed, (again, listed)
    return again


def test_a_task_that_has_not_ended_outlives_retention(
    connect: Connect, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued or silent, watched or not, it stays known, in the feed too; its numbers go on; then it ends."""
    monkeypatch.setattr(redis_reader, "COMPARE_EVERY", 0.1)
    monkeypatch.setattr(sql_reader, "COMPARE_EVERY", 0.1)
    channel = connect(retention_seconds=1)
    with channel.topic(bridge.task_topic("watched")).subscribe(), channel.topic(bridge.FEED).subscribe():
        say(channel, "queued", "PENDING")
        first = say(channel, "silent", "STARTED")
        say(channel, "watched", "RETRY")
        say(channel, "ended", "SUCCESS")
        tasks = ("queued", "silent", "watched")
        eventually(lambda: known(channel, *tasks, "ended") == set(tasks), 20)
    second = say(channel, "silent", "SUCCESS")
    if not url.startswith(LIVE_ONLY):
        assert first is not None
        assert second is not None
        assert first.split("-")[0] == second.split("-")[0]
        assert second.split("-")[1] == "2"
    eventually(lambda: known(channel, *tasks) == {"queued", "watched"}, 20)


@pytest.mark.usefixtures("soon")
def test_what_is_renewed_is_kept_until_its_end(connect: Connect) -> None:
    """Renewed, a state that is no end stays; what is not renewed, or has ended, goes."""
    channel: Any = connect(retention_seconds=1)
    for task in ("renewed", "renewed too"):
        say(channel, task, "STARTED")
    transport_of(channel).publish(canvas_events.make("canvas:w", 2, "renewed", "STARTED"))
    say(channel, "left alone", "STARTED")
    say(channel, "ended", "SUCCESS")
    tasks = ("renewed", "renewed too", "canvas:w", "left alone", "ended")

    def renewed(*names: str) -> set[str]:
        transport_of(channel).backend.renew(
            [bridge.FEED, "unknown", *(bridge.task_topic(name) for name in names)]
        )
        return known(channel, *tasks)

    kept = {"renewed", "renewed too", "canvas:w"}
    eventually(lambda: renewed(*kept, "ended") == kept, 20)
    (canvas,) = transport_of(channel).states(bridge.task_topic("canvas:w"))
    assert len(canvas.rows) == 1
    say(channel, "renewed", "SUCCESS")
    eventually(lambda: renewed(*kept) == kept - {"renewed"}, 20)
    eventually(lambda: known(channel, *tasks) == set(), 20)
    transport_of(channel).backend.renew([])


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_many_tasks_do_not_push_one_that_runs_out_of_memory(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The list of all tasks is bounded, and with it the states of those that have ended, but of no others."""
    monkeypatch.setattr(members, "MAX_OLDER_BYTES", 0)
    channel: Any = connect()
    say(channel, "ended", "SUCCESS")
    say(channel, "silent", "STARTED")
    for number in range(MAX_MEMBERS):
        say(channel, f"t{number}", "SUCCESS")
    assert not transport_of(channel).states(bridge.task_topic("ended"))
    assert transport_of(channel).states(bridge.task_topic("silent"))
    assert len(transport_of(channel).states(bridge.FEED)) == MAX_MEMBERS


class Worker:
    """A worker of `tests.retention_app`, and who queues its tasks."""

    def __init__(self, app: Celery, namespace: str, folder: Path, start: Callable[[], object]) -> None:
        self.app = app
        self.namespace = namespace
        found = installed(app)
        assert found is not None
        self.channel = Channel(found.transport)
        self.folder = folder
        self.start = start

    def queue(self, task: str, until: str, **options: Any) -> None:
        """Queue a task that ends when there is a file of the name `until`."""
        self.app.send_task("wait", [str(self.folder / until)], task_id=task, **options)

    def state_of(self, task: str) -> str:
        found = transport_of(self.channel).states(bridge.task_topic(task))
        return str(events.snapshot(found[0], task)["state"]) if found else "unknown"


@pytest.fixture
def unended() -> float:
    """How long the worker process keeps states that are no end."""
    return UNENDED


def leave_logging_alone(**_: object) -> None:
    """Stand in for the set-up of logging."""


@pytest.fixture
def worker(
    url: str, valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unended: float
) -> Iterator[Worker]:
    """A worker with one slot, not started yet: in this process where the backend is its memory."""
    monkeypatch.setattr(state, "UNENDED_SECONDS", unended)
    namespace = f"n{uuid.uuid4().hex}"
    broker = valkey.url("redis")
    app = make_app(broker, url, namespace)
    stack: list[Callable[[], object]] = []

    def start_here() -> None:
        # Else Celery sets the level of the root logger, for all tests that follow.
        signals.setup_logging.connect(leave_logging_alone)
        stack.append(lambda: signals.setup_logging.disconnect(leave_logging_alone))
        context = start_worker(app, pool="threads", concurrency=1, perform_ping_check=False)
        context.__enter__()
        stack.append(lambda: context.__exit__(None, None, None))
        signals.worker_ready.send(sender=type("Consumer", (), {"app": app, "hostname": "here"}))
        stack.append(lambda: signals.worker_shutdown.send(sender=app))

    def start_process() -> subprocess.Popen[bytes]:
        given = {"BROKER": broker, "BRIDGE": url, "NAMESPACE": namespace, "UNENDED": str(unended)}
        env = {**os.environ, **{f"RETENTION_{name}": value for name, value in given.items()}}
        command = ["celery", "-A", "tests.retention_app", "worker", "-c", "1", "--without-mingle"]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, "-n", f"{namespace}@localhost"],
                cwd=ROOT, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

        def stop() -> None:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            print((tmp_path / "log").read_text(errors="replace")[-4000:])

        stack.append(stop)
        return process

    yield Worker(app, namespace, tmp_path, start_here if url.startswith("memory") else start_process)
    (tmp_path / "end").touch()
    while stack:
        stack.pop()()
    app.close()


@pytest.mark.parametrize("url", ["memory", "redis", "sqlite", "postgresql"], indirect=True)
def test_what_a_worker_has_is_kept_until_retention_seconds_after_its_end(worker: Worker) -> None:
    """Run in silence, prefetched or waiting for its time: known while the worker has it, and not for ever."""
    worker.start()
    worker.queue("run", "end")
    eventually(lambda: worker.state_of("run") == "STARTED", 30)
    worker.queue("prefetched", "end")
    worker.queue("later", "end", countdown=20)
    had = {"run", "prefetched", "later"}
    eventually(lambda: {worker.state_of(task) for task in had} == {"STARTED", "RECEIVED"}, 20)
    # It is said last: when it has expired, so would have the others.
    worker.queue("nobody's", "end", queue="of nobody")
    eventually(lambda: "nobody's" in known(worker.channel, "nobody's"))
    eventually(lambda: known(worker.channel, *had, "nobody's") == had, 20)
    (worker.folder / "end").touch()
    eventually(lambda: known(worker.channel, *had) == {"later"}, 20)


@pytest.mark.parametrize("unended", [state.UNENDED_SECONDS])
@of_workers
def test_a_silent_task_stalls_for_who_comes_late(worker: Worker, url: str) -> None:
    """Silent, then lost with its worker, for longer than retention: the feed shows that it is STALLED."""
    worker.queue("queued", "end", queue="of nobody")
    process: Any = worker.start()
    worker.queue("silent", "never")
    eventually(lambda: worker.state_of("silent") == "STARTED", 30)
    say(worker.channel, "ended", "SUCCESS")
    eventually(lambda: known(worker.channel, "ended", "silent") == {"silent"}, 20)
    os.killpg(process.pid, signal.SIGKILL)
    say(worker.channel, "ended later", "SUCCESS")
    eventually(lambda: known(worker.channel, "ended later", "silent") == {"silent"}, 20)
    settings = {"BRIDGE_URL": url, "BRIDGE_PUBLIC": "true", "BRIDGE_NAMESPACE": worker.namespace}
    with serving("gunicorn gevent", **settings) as address:
        watcher = Watcher(address, [])
        eventually(lambda: watcher.last("silent") == "STALLED", 30)
        assert watcher.last("queued") == "PENDING"
