"""The matrix: every pool, every ending, every broker, each seen by a real viewer; and workers that vanish."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import product
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

import httpx
import httpx_sse
import pytest

import bridge
from bridge.celery import cancel, tags
from bridge.channel.transport import transport_of
from tests import events
from tests.lifecycle_app import BREAKING_OUT, connections, make_app
from tests.processes import ROOT
from tests.servers import Valkey, eventually
from tests.serving import serving

POOLS = ("prefork", "threads", "gevent", "solo")
BROKERS = ("valkey", "filesystem")
WITHIN = 90.0

# The last state of each ending; then what comes where a pool of Celery's cannot do it, or a broker differs.
ENDINGS: dict[str, tuple[str, dict[str, str]]] = {
    "success": ("SUCCESS", {}),
    "failure": ("FAILURE", {}),
    # Without a result backend nothing has to be stored.
    "result that cannot be stored": ("FAILURE", {"filesystem": "SUCCESS"}),
    "retry, then success": ("SUCCESS", {}),
    "replaced by another task": ("SUCCESS", {}),
    "revoked while queued": ("REVOKED", {}),
    "expired": ("REVOKED", {}),
    "gives up when asked": ("REVOKED", {}),
    # Threads cannot be killed, and solo hears of it when the task is over: it runs to its end.
    "terminated": ("REVOKED", {"threads": "SUCCESS", "solo": "SUCCESS"}),
    # Only prefork has soft limits; the others run to the end.
    "soft time limit": ("FAILURE", {"threads": "SUCCESS", "gevent": "SUCCESS", "solo": "SUCCESS"}),
    "hard time limit": ("FAILURE", {"threads": "SUCCESS", "solo": "SUCCESS"}),
    "ignored": ("IGNORED", {}),
    "rejected": ("REJECTED", {}),
    "requeued, then success": ("SUCCESS", {}),
    "unknown to the worker": ("FAILURE", {}),
}
# A solo worker ends with it.
NOT_OF_SOLO: dict[str, tuple[str, dict[str, str]]] = {
    "leaves the process": ("FAILURE", {}),
    **{f"raises {kind}": ("FAILURE", {}) for kind in BREAKING_OUT},
}
# Only prefork has a child to lose; elsewhere that is the worker, which the last two endings are about.
OF_PREFORK: dict[str, tuple[str, dict[str, str]]] = {
    "child killed": ("FAILURE", {}),
    # The filesystem transport forgets a message when it is read, but the worker itself still has it.
    "child killed, then rerun": ("SUCCESS", {}),
}
OF_A_KILLED_WORKER: dict[str, tuple[str, dict[str, str]]] = {
    # Solo runs a task before the acknowledgement can leave: the message comes back.
    "worker killed": ("STALLED", {"solo-valkey": "SUCCESS"}),
    # A message that was read from the filesystem is gone with the worker: nobody runs it again.
    # Under gevent kombu never gives Redis messages back to the queue: only its event loop does.
    "worker killed, then rerun": ("SUCCESS", {"filesystem": "STALLED", "gevent": "STALLED"}),
}


TALKED_TO = ("gives up when asked", "terminated")
KILLING = ("terminated", "hard time limit", "leaves the process", "raises KeyboardInterrupt")


def endings_of(pool: str) -> list[str]:
    """The endings that a worker with this pool outlives."""
    own = (NOT_OF_SOLO if pool != "solo" else {}) | (OF_PREFORK if pool == "prefork" else {})
    return [*ENDINGS, *own]


class Watcher:
    """A viewer of some tasks' stream, in a thread: keeps what it is told of each."""

    def __init__(self, address: str, tasks: list[str], feed: str = bridge.FEED) -> None:
        self.events: dict[str, list[dict[str, Any]]] = defaultdict(list)
        topics = [("topic", bridge.task_topic(task)) for task in tasks] or [("topic", feed)]
        self._url = f"{address}/stream?{urlencode(topics)}"
        self._client = httpx.Client(timeout=httpx.Timeout(None, connect=10), trust_env=False)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with suppress(httpx.HTTPError), httpx_sse.connect_sse(self._client, "GET", self._url) as source:
            for frame in source.iter_sse():
                if frame.data:
                    event = frame.json()
                    self.events[event["task"]].append(event)

    def states(self, task: str) -> list[str]:
        return [event["state"] for event in self.events[task] if event["type"] in ("state", "snapshot")]

    def last(self, task: str) -> str | None:
        return next(iter(self.states(task)[::-1]), None)

    def of(self, task: str, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events[task] if event["type"] == kind]

    def ended(self, *tasks: str) -> bool:
        return all(self.of(task, "end") for task in tasks)


class Worker:
    """A worker process that can be killed with -9 and started again."""

    def __init__(
        self, broker: str, bridge_url: str, folder: Path, pool: str, concurrency: int, *options: str
    ) -> None:
        name = f"{uuid.uuid4().hex[:8]}@localhost"
        limits = ["--without-gossip", "--without-mingle", "-l", "INFO", "-n", name, *options]
        command = ["celery", "-A", "tests.lifecycle_app", "worker", "-P", pool, "-c", str(concurrency)]
        self._command = [sys.executable, "-m", *command, *limits]
        self._env = {**os.environ, "LIFECYCLE_BROKER": broker, "LIFECYCLE_BRIDGE": bridge_url}
        self.log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        # Under gevent the worker hears of a revoke a little later than it is ready.
        said = (b" ready.", *([b"pidbox: Connected"] if "gevent" in self._command else []))
        eventually(lambda: all(words in self.log.read_bytes() for words in said), WITHIN)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            print(self.log.read_text(errors="replace")[-6000:])
        self.kill()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: int) -> None:
        os.killpg(self.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Cells:
    """One pool with one broker: its tasks by ending, and what their viewer was told."""

    def __init__(self, pool: str, broker: str, where: str, stage: "Stage") -> None:
        self.pool, self.broker, self._where, self._stage = pool, broker, where, stage
        self._app = make_app(where, stage.bridge_url)
        self._folder = str(stage.folder)
        self.tasks = {name: f"{pool}-{broker}-{number}" for number, name in enumerate(endings_of(pool))}
        self.lost = {name: f"{pool}-{broker}-lost-{n}" for n, name in enumerate(OF_A_KILLED_WORKER)}

    def run(self) -> Self:
        """Have every task end, and the workers killed; what the viewer was told is in `told`."""
        self.told = Watcher(self._stage.address, [*self.tasks.values(), *self.lost.values()])
        # Who declares a queue of files while a worker starts may end it: kombu reads half a file.
        self._send("success")
        with self._worker():
            self._await_ends(["success"])
            together = [name for name in self.tasks if name not in ("success", *self._apart())]
            for name in sorted(together, key=TALKED_TO.__contains__):
                self._send(name)
            self._await_ends(together)
        for name in self._apart():
            with self._worker():
                self._send(name)
                self._await_ends([name])
        # A solo worker does one thing at a time.
        killed, rerun = self.lost
        for names in [[killed], [rerun]] if self.pool == "solo" else [[killed, rerun]]:
            with self._worker():
                for name in names:
                    self._send_one(self.lost[name], "hang" if name == killed else "hang_late", self._folder)
                    self._await_state(self.lost[name], "STARTED")
            for name in names:
                self._await_state(self.lost[name], "STALLED")
        with self._worker():
            ending = [name for name in self.lost if self.expected(name) in events.ENDS]
            self._await_ends(ending)
        self._app.close()
        return self

    def expected(self, ending: str) -> str:
        state, instead = {**ENDINGS, **NOT_OF_SOLO, **OF_PREFORK, **OF_A_KILLED_WORKER}[ending]
        here = (f"{self.pool}-{self.broker}", self.pool, self.broker)
        return next((instead[place] for place in here if place in instead), state)

    def _worker(self) -> Worker:
        stage, concurrency = self._stage, 1 if self.pool == "solo" else 4
        return Worker(self._where, stage.bridge_url, stage.folder, self.pool, concurrency)

    def _send_one(self, task_id: str, name: str, *args: Any, **options: Any) -> None:
        self._app.send_task(name, args, task_id=task_id, **options)

    def _apart(self) -> list[str]:
        """The endings that need a worker of their own."""
        if self.pool != "prefork":
            return []
        # Without an event loop the children share one queue, which a child that is killed may leave locked.
        return [*KILLING, *OF_PREFORK] if self.broker == "filesystem" else [*OF_PREFORK]

    def _send(self, ending: str) -> None:
        """Queue the task of an ending, and do what it takes."""
        task = self.tasks[ending]
        sent: dict[str, tuple[Any, ...]] = {
            "success": ("succeed",),
            "failure": ("fail",),
            "result that cannot be stored": ("fall_ill",),
            "retry, then success": ("retry",),
            "replaced by another task": ("replace",),
            "soft time limit": ("soft", 2),
            "hard time limit": ("hard", 4),
            "ignored": ("ignore",),
            "rejected": ("reject",),
            "requeued, then success": ("requeue", self._folder),
            "unknown to the worker": ("unknown",),
            "leaves the process": ("leave",),
            **{f"raises {kind}": ("break_out", kind) for kind in BREAKING_OUT},
            "child killed": ("die", self._folder),
            "child killed, then rerun": ("die_late", self._folder),
            "gives up when asked": ("give_up",),
            "terminated": ("sleep", 3),
        }
        match ending:
            case "revoked while queued":
                self._send_one(task, "succeed", countdown=1.5)
                cancel(task, app=self._app)
            case "expired":
                self._send_one(task, "succeed", countdown=1, expires=0.5)
            case _:
                self._send_one(task, *sent[ending])
        if ending in TALKED_TO:
            self._await_state(task, "STARTED")
            cancel(task, terminate=ending == "terminated", app=self._app)

    def _await(self, so: Callable[[], bool], why: str) -> None:
        try:
            eventually(so, WITHIN)
        except AssertionError:
            told = {name: self.told.states(task) for name, task in {**self.tasks, **self.lost}.items()}
            raise AssertionError(f"{self.pool} on {self.broker}: {why}: {told}") from None

    def _await_ends(self, endings: list[str]) -> None:
        tasks = [{**self.tasks, **self.lost}[name] for name in endings]
        self._await(lambda: self.told.ended(*tasks), f"{endings} have not ended")

    def _await_state(self, task: str, state: str) -> None:
        self._await(lambda: state in self.told.states(task), f"{task} did not become {state}")


class Stage:
    """Everything but the workers, and all cells at work at once."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self._brokers = stack.enter_context(Valkey())
        carrier = stack.enter_context(Valkey())
        self.bridge_url = carrier.url("redis")
        settings = {"BRIDGE_URL": self.bridge_url, "BRIDGE_PUBLIC": "true"}
        self.address = stack.enter_context(serving("gunicorn gevent", **settings))
        pool = stack.enter_context(ThreadPoolExecutor(len(POOLS) * len(BROKERS)))
        self.cells: dict[tuple[str, str], Future[Cells]] = {
            key: pool.submit(Cells(*key, self._where(*key), self).run) for key in product(POOLS, BROKERS)
        }

    def _where(self, pool: str, broker: str) -> str:
        if broker == "valkey":
            return f"redis://127.0.0.1:{self._brokers.port}/{POOLS.index(pool)}"
        folder = self.folder / pool
        folder.mkdir()
        return str(folder)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with ExitStack() as stack:
        yield Stage(tmp_path_factory.mktemp("lifecycle"), stack)


MATRIX = [
    (pool, broker, ending)
    for pool, broker in product(POOLS, BROKERS)
    for ending in (*endings_of(pool), *OF_A_KILLED_WORKER)
]


@pytest.mark.timeout(240)
@pytest.mark.parametrize(("pool", "broker", "ending"), MATRIX)
def test_every_ending_is_the_right_one_and_comes_once(
    stage: Stage, pool: str, broker: str, ending: str
) -> None:
    """The viewer's last event says how the task ended; a task that is over has one end, another has none."""
    cells = stage.cells[pool, broker].result()
    task = {**cells.tasks, **cells.lost}[ending]
    expected = cells.expected(ending)
    states = cells.told.states(task)
    assert states[-1] == expected, states
    assert [event["state"] for event in cells.told.of(task, "end")] == (
        [expected] if expected in events.ENDS else []
    )
    assert len([state for state in states if state in events.ENDS]) == (expected in events.ENDS)
    assert states == sorted(states, key=states.index) or ending in RUN_TWICE, states


RUN_TWICE = {
    "retry, then success",
    "requeued, then success",
    "replaced by another task",
    "child killed, then rerun",
    *OF_A_KILLED_WORKER,
}


@pytest.fixture
def carrier() -> Iterator[Valkey]:
    """A server for broker and bridge."""
    with Valkey() as server:
        yield server


@pytest.mark.parametrize("feed", [bridge.FEED, bridge.tag_topic("who")], ids=["of all", "of a tag"])
def test_twenty_tasks_of_a_killed_worker(carrier: Valkey, tmp_path: Path, feed: str) -> None:
    """Of twenty tasks all show STALLED when their worker is killed; those to be run again then end."""
    url = carrier.url("redis")
    app = make_app(url, url)
    names = {f"{name}-{number}": name for number in range(10) for name in ("hang", "hang_late")}
    with serving("gunicorn sync", BRIDGE_URL=url, BRIDGE_PUBLIC="true") as address:
        told = Watcher(address, [], feed)
        with Worker(url, url, tmp_path, "threads", 20):
            for task_id, name in names.items():
                app.send_task(name, [str(tmp_path)], task_id=task_id, headers=tags("who"))
            eventually(lambda: all(told.last(task) == "STARTED" for task in names), WITHIN)
        eventually(lambda: all(told.last(task) == "STALLED" for task in names), WITHIN)
        with Worker(url, url, tmp_path, "threads", 20):
            late = [task for task, name in names.items() if name == "hang_late"]
            eventually(lambda: all(told.last(task) == "SUCCESS" for task in late), WITHIN)
        for task, name in names.items():
            assert told.states(task)[-1] == ("SUCCESS" if name == "hang_late" else "STALLED")
            assert told.states(task).count("STALLED") == 1
    app.close()


@pytest.mark.parametrize("seconds", [0, 1], ids=["at once", "soft"])
def test_a_worker_that_is_stopped_by_force_ends_what_never_runs_again(
    carrier: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Of two tasks at SIGQUIT the one that was acknowledged has its end; the other runs again elsewhere."""
    monkeypatch.setenv("LIFECYCLE_SOFT_SHUTDOWN", str(seconds))
    url = carrier.url("redis")
    app = make_app(url, url)
    with serving("gunicorn sync", BRIDGE_URL=url, BRIDGE_PUBLIC="true") as address:
        told = Watcher(address, ["early", "late"])
        with Worker(url, url, tmp_path, "prefork", 2) as worker:
            app.send_task("hang", [str(tmp_path)], task_id="early")
            app.send_task("hang_late", [str(tmp_path)], task_id="late")
            eventually(lambda: all(told.last(task) == "STARTED" for task in ("early", "late")), WITHIN)
            os.kill(worker.pid, signal.SIGQUIT)
            eventually(lambda: told.ended("early"), WITHIN)
        with Worker(url, url, tmp_path, "prefork", 2):
            eventually(lambda: told.ended("late"), WITHIN)
    assert told.states("early")[-2:] == ["STARTED", "REVOKED"]
    assert told.of("early", "state")[-1]["reason"] == "worker stopped"
    assert len(told.of("early", "end")) == 1
    assert told.last("late") == "SUCCESS"
    app.close()


def test_a_worker_that_was_held_up_is_heard_of_again(carrier: Valkey, tmp_path: Path) -> None:
    """A worker that was stopped for a while shows its task as STALLED, then as STARTED again, and ends it."""
    url = carrier.url("redis")
    app = make_app(url, url)
    with serving("gunicorn sync", BRIDGE_URL=url, BRIDGE_PUBLIC="true") as address:
        told = Watcher(address, ["held"])
        with Worker(url, url, tmp_path, "threads", 1) as worker:
            app.send_task("give_up", task_id="held")
            eventually(lambda: told.last("held") == "STARTED", WITHIN)
            worker.signal(signal.SIGSTOP)
            eventually(lambda: told.last("held") == "STALLED", WITHIN)
            worker.signal(signal.SIGCONT)
            eventually(lambda: told.last("held") == "STARTED", WITHIN)
            assert told.of("held", "state")[-1]["resumed"]
            assert cancel("held", app=app)
            eventually(lambda: told.ended("held"), WITHIN)
    assert told.states("held")[-4:] == ["STARTED", "STALLED", "STARTED", "REVOKED"]
    assert not cancel("held", app=app)
    app.close()


def test_what_is_cancelled_while_no_worker_is_there_is_not_begun(carrier: Valkey, tmp_path: Path) -> None:
    """A worker that starts later knows of it, though Celery's own revoke reached nobody."""
    url = carrier.url("redis")
    app = make_app(url, url)
    channel: Any = bridge.connect(url)
    app.send_task("succeed", task_id="early")
    assert cancel("early", app=app)
    app.send_task("succeed", task_id="after")

    def shown(task: str) -> dict[str, Any]:
        states = transport_of(channel).states(bridge.task_topic(task))
        return events.snapshot(states[0] if states else None, task)

    assert "cancel_requested" in shown("early")
    with Worker(url, url, tmp_path, "solo", 1):
        eventually(lambda: events.end_of(shown("after")), WITHIN)
    assert (shown("early")["state"], shown("early")["reason"]) == ("REVOKED", "revoked")
    assert "started_at" not in shown("early")
    channel.close()
    app.close()


def test_what_is_cancelled_while_a_worker_starts_is_not_begun(
    carrier: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between what a worker learns at its start and the first revoke it can hear nothing is lost."""
    monkeypatch.setenv("LIFECYCLE_HOLD", str(tmp_path))
    url = carrier.url("redis")
    app = make_app(url, url)
    app.send_task("succeed", task_id="meanwhile")
    with ThreadPoolExecutor(1) as pool, bridge.connect(url) as channel:
        worker = Worker(url, url, tmp_path, "solo", 1)
        started = pool.submit(worker.__enter__)
        try:
            eventually((tmp_path / "held").exists, WITHIN)
            assert cancel("meanwhile", app=app)
            (tmp_path / "may go on").touch()
            started.result()
            history = channel.topic(bridge.task_topic("meanwhile")).history

            def end() -> dict[str, Any] | None:
                said = [event for event in map(events.decode, history(limit=100)) if event]
                return next((event for event in said if event.get("state") in events.ENDS), None)

            assert eventually(end, WITHIN)["state"] == "REVOKED"
        finally:
            worker.kill()
    app.close()


def test_eight_children_publish_at_once(
    carrier: Valkey, own_valkey: Valkey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost, doubled or out of order, and no process has a connection of another."""
    monkeypatch.setenv("LIFECYCLE_VISIBILITY", "600")
    url, total = carrier.url("redis"), 400
    broker = own_valkey.url("redis")
    app = make_app(broker, url)
    channel = bridge.connect(url)
    # A new child for each task: it is forked while the main process has connections in use.
    with Worker(broker, url, tmp_path, "prefork", 8, "--max-tasks-per-child", "1") as worker:
        sent = [app.send_task("number_of", [total, carrier.port]) for _ in range(16)]
        owned = [set(task.get(timeout=WITHIN)) for task in sent]
        of_main = connections(worker.pid, carrier.port)
    for task in sent:
        topic = channel.topic(bridge.task_topic(task.id))
        told = [event for event in map(events.decode, topic.history(limit=10_000)) if event]
        assert [event["data"]["n"] for event in told if event["type"] == "number"] == [*range(total)]
    assert all(owned)
    assert of_main
    everyone = [*owned, of_main]
    assert len(set().union(*everyone)) == sum(map(len, everyone))
    channel.close()
    app.close()
