"""What lifecycle events cost: 10,000 empty tasks through one prefork worker, with and without them."""

import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from celery import Celery

from benchmarks.common import ROUNDS, Column, Figures, Question, pick, prepare, report, say
from benchmarks.servers import ROOT
from bridge.celery import install
from tests.servers import Valkey, eventually

TASKS = pick(10_000, 1000)
BARE, WITH = "celery", "celery with install()"

QUESTION = Question(
    "lifecycle",
    f"The lifecycle of {TASKS:,} empty tasks",
    (
        Column("queue_s", "queueing s", ".2f"),
        Column("run_s", "running s", ".2f", plot=True),
        Column("us", "both, µs a task", ".0f"),
        Column("to_bare", "both, times celery", ".3f", plot=True),
        Column("run_to_bare", "running, times celery", ".3f"),
    ),
    "One prefork worker with one child, no result backend; broker and bridge on a Valkey each. All tasks are "
    "queued, then the worker starts, and is timed from the first task to the last. Both take turns; ratios "
    "are of the two in one round.",
)


def make_app(broker: str, bridge_url: str) -> Celery:
    app = Celery("lifecycle", broker=broker)
    app.conf.update(task_ignore_result=True, worker_hijack_root_logger=False)
    if bridge_url:
        install(app, bridge_url)

    @app.task(name="empty", shared=False)
    def empty() -> None:
        """Nothing is what is measured."""

    @app.task(name="mark", shared=False)
    def mark(path: str) -> None:
        Path(path).write_text(str(time.monotonic()))

    return app


if "LIFECYCLE_BROKER" in os.environ:
    app = make_app(os.environ["LIFECYCLE_BROKER"], os.environ["LIFECYCLE_BRIDGE"])


def measure(with_bridge: bool) -> dict[str, float]:
    """Queue all tasks, run them all; both timed."""
    with Valkey() as broker, Valkey() as carrier, tempfile.TemporaryDirectory() as folder:
        url = carrier.url("redis") if with_bridge else ""
        producer = make_app(broker.url("redis"), url)
        first, last = Path(folder) / "first", Path(folder) / "last"
        began = time.monotonic()
        producer.send_task("mark", [str(first)])
        for _ in range(TASKS):
            producer.tasks["empty"].delay()
        producer.send_task("mark", [str(last)])
        queued = time.monotonic() - began
        time.sleep(0.5)
        run = _run(broker.url("redis"), url, first, last)
        producer.close()
    return {"queue_s": queued, "run_s": run, "us": (queued + run) / TASKS * 1e6}


def _run(broker: str, bridge_url: str, first: Path, last: Path) -> float:
    env = {**os.environ, "LIFECYCLE_BROKER": broker, "LIFECYCLE_BRIDGE": bridge_url}
    options = ["-P", "prefork", "-c", "1", "-l", "WARNING", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.lifecycle", "worker", *options]
    worker = subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL)
    try:
        eventually(lambda: worker.poll() is not None or (last.exists() and last.read_text()), 300)
    finally:
        worker.terminate()
        worker.wait(30)
    return float(last.read_text()) - float(first.read_text())


def main() -> None:
    prepare()
    found: dict[str, list[Figures]] = {BARE: [], WITH: []}
    subjects = {BARE: partial(measure, False), WITH: partial(measure, True)}
    for number in range(ROUNDS):
        names = list(subjects)[:: 1 if number % 2 == 0 else -1]
        measured = {name: subjects[name]() for name in names}
        for name, figures in measured.items():
            figures["to_bare"] = figures["us"] / measured[BARE]["us"]
            figures["run_to_bare"] = figures["run_s"] / measured[BARE]["run_s"]
            found[name].append(figures)
            say(f"round {number + 1}: {name}: {figures}")
    report(QUESTION, found)


if __name__ == "__main__":
    main()
