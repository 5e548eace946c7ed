"""`make demo`, as a person runs it: it tells the whole story, and leaves no process behind."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.demo import describe, free_port, lines_of
from api.processes import ROOT

Demo = subprocess.Popen[str]


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def demo(port: int) -> Iterator[Demo]:
    process = start("--port", str(port))
    yield process
    process.kill()
    process.communicate()


def start(*options: str, **env: str) -> Demo:
    command = (sys.executable, "-m", "api.demo", *options)
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **env},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def read_until(process: Demo, text: str) -> None:
    assert process.stdout
    for line in process.stdout:
        if text in line:
            return
    pytest.fail(f"the demo ended without {text!r}: {process.communicate()}")


def started_by(process: Demo, port: int) -> dict[int, str]:
    """Its worker and its API, the pool and gunicorn's own worker included: command lines by process id."""
    command = ("ps", "-axww", "-o", "pid=,args=")
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    marks = (f"--hostname demo-{process.pid}@localhost", f"--bind 127.0.0.1:{port}")
    pairs = (line.split(maxsplit=1) for line in listed.splitlines() if any(mark in line for mark in marks))
    return {int(pid): arguments for pid, arguments in pairs}


def test_once_shows_the_task_to_its_end_and_succeeds(port: int) -> None:
    """With --once the demo shows the task to its counts and exits 0."""
    process = start("--once", "--port", str(port))
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    lines = output.splitlines()
    assert lines[-2].split() == ["end", "SUCCESS"]
    assert lines[-1].startswith("import_csv succeeded: ")
    assert "rows 3376, loaded 3376, bad 0" in lines[-1]
    assert any(line.startswith("progress") for line in lines)
    assert "step       load started" in lines
    assert "{" not in output
    assert not started_by(process, port)


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("step", {"name": "load", "status": "succeeded"}, "load succeeded"),
        ("step", {"name": "a", "status": "failed", "path": ["load", "a"]}, "load / a failed"),
        ("token", {"data": {"text": "once", "index": 3}}, "text: once, index: 3"),
        ("note", {"data": "half of it is done"}, "half of it is done"),
        ("ratios", {"data": [1, None, {"a": "ä"}]}, '[1, null, {"a": "ä"}]'),
        ("nested", {"data": {"a": {"b": 1}, "c": []}}, "a: b: 1, c: []"),
        ("nothing", {"data": None}, "null"),
        ("cancel_requested", {"terminate": True}, "terminate: true"),
        ("reset", {}, ""),
        ("state", {"state": "STARTED", "attempt": 2, "worker": "w@h"}, "STARTED  attempt 2  w@h"),
        ("state", {"state": "RETRY", "error": {"type": "E", "message": "m"}}, "RETRY  E: m"),
        ("state", {"state": "REVOKED", "reason": "expired"}, "REVOKED  expired"),
        ("snapshot", {"state": "PENDING", "progress": None}, "PENDING"),
        ("progress", {"current": 1, "total": 4, "percent": 25.0, "message": "m"}, " 25 %  1 of 4  m"),
    ],
)
def test_every_event_is_described_in_words(kind: str, fields: dict[str, Any], words: str) -> None:
    """An event of any type is one readable line, without the fields that every event has."""
    assert describe(kind, {"v": 1, "type": kind, "task": "t", "at": 1.5, **fields}) == words


def test_a_snapshot_is_shown_as_the_events_before_it() -> None:
    """A stream that opens late shows every step that has started, the latest progress, and the state."""
    started, succeeded = ({"type": "step", "name": "load", "status": s} for s in ("started", "succeeded"))
    progress = {"type": "progress", "current": 4, "total": 4, "percent": 100.0}
    snapshot = {"type": "snapshot", "state": "SUCCESS", "events": [started, succeeded], "progress": progress}
    assert list(lines_of("snapshot", snapshot)) == [
        "step       load started",
        "step       load succeeded",
        "progress   100 %  4 of 4",
        "snapshot   SUCCESS",
    ]


@pytest.mark.parametrize("scheme", ["sqlite", "postgresql"])
def test_once_needs_no_redis_with_a_database(
    port: int, tmp_path: Path, scheme: str, request: pytest.FixtureRequest
) -> None:
    """With a database as BRIDGE_URL the demo tells the same story, and no Redis server is started."""
    url = (
        f"sqlite:///{tmp_path}/bridge.db" if scheme == "sqlite" else request.getfixturevalue("postgres").url()
    )
    process = start("--once", "--port", str(port), BRIDGE_URL=url)
    output, errors = process.communicate(timeout=90)
    assert process.returncode == 0, errors
    assert f"started    worker, api; the API at http://127.0.0.1:{port}" in output
    lines = output.splitlines()
    assert lines[-2].split() == ["end", "SUCCESS"]
    assert "rows 3376, loaded 3376, bad 0" in lines[-1]
    assert any(line.startswith("progress") for line in lines)


@pytest.mark.parametrize(
    ("signum", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_every_process(demo: Demo, port: int, signum: int, status: int) -> None:
    """Whatever signal ends the demo, worker, API and broker end with it."""
    read_until(demo, f"The monitor: http://127.0.0.1:{port}/monitor/")
    assert len(started_by(demo, port)) >= 4
    demo.send_signal(signum)
    assert demo.wait(30) == status
    assert not started_by(demo, port)


def test_kill_9_leaves_nothing_for_long(demo: Demo, port: int) -> None:
    """Even kill -9 of the demo leaves no process behind."""
    read_until(demo, "submitted")
    assert started_by(demo, port)
    demo.kill()
    deadline = time.monotonic() + 15
    while started_by(demo, port):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_a_child_that_dies_is_named_and_ends_the_rest(demo: Demo, port: int) -> None:
    """A part that dies is named with the end of its log, and the others are ended."""
    read_until(demo, "submitted")
    worker = min(pid for pid, arguments in started_by(demo, port).items() if "celery" in arguments)
    os.kill(worker, signal.SIGKILL)
    _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 1
    assert "demo: the worker stopped unexpectedly. The last lines of its log:" in errors
    assert not started_by(demo, port)


def test_a_port_that_is_taken_is_refused_at_once() -> None:
    """A port in use is told at once, with the way to choose another."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        process = start("--port", str(taken))
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert f"cannot use port {taken}" in errors
    assert "make demo PORT=" in errors
