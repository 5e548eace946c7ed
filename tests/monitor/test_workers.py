"""Which workers are alive, from what their heartbeats say and from when they come."""

import time
from typing import Any
from unittest.mock import patch

from bridge.monitor.workers import Workers
from bridge.tasks.heartbeats import KEPT_SECONDS, Heartbeat, Report, Running

NOW = 1_800_000_000.0


def beat(number: int, at: float, name: str = "w@h", *, last: bool = False) -> Heartbeat:
    """A heartbeat of a worker that runs one task."""
    running = [Running("t1", "work", at - 1)]
    report = Report(at, at - 60, stalls_after=15, succeeded=3, failed=1, running=running, active=1)
    return Heartbeat("p1", name, number, last, report=report)


def listed(workers: Workers, heartbeat: Heartbeat, after: float = 0.0) -> dict[str, Any] | None:
    """Return the row of a worker `after` seconds, by both clocks of this machine."""
    with (
        patch.object(time, "time", return_value=NOW + after),
        patch.object(time, "monotonic", return_value=1000.0 + after),
    ):
        rows = workers.listed([heartbeat])
    return dict(rows[0]) if rows else None


def test_a_worker_is_alive_until_it_is_silent_for_too_long() -> None:
    """It is listed with what it runs; then with when it was last seen and nothing that runs; then not."""
    workers = Workers()
    alive = listed(workers, beat(1, NOW))
    assert alive is not None
    assert alive == {
        "name": "w@h",
        "alive": True,
        "last_seen": NOW,
        "since": NOW - 60,
        "running": [{"task": "t1", "name": "work", "started_at": NOW - 1}],
        "active": 1,
        "succeeded": 3,
        "failed": 1,
    }
    silent = listed(workers, beat(1, NOW), after=20)
    assert silent is not None
    assert (silent["alive"], silent["last_seen"], silent["running"]) == (False, NOW, [])
    assert listed(workers, beat(1, NOW), after=KEPT_SECONDS + 1) is None


def test_a_worker_that_has_ended_is_not_alive() -> None:
    """The last heartbeat of a worker that stops counts at once."""
    ended = listed(Workers(), beat(9, NOW, last=True))
    assert ended is not None
    assert ended["alive"] is False


def test_a_wrong_clock_does_not_matter_once_a_heartbeat_has_changed() -> None:
    """A worker whose clock is hours late is alive as soon as this process sees another heartbeat of it."""
    workers, wrong = Workers(), NOW - 1800
    before = listed(workers, beat(1, wrong))
    assert before is not None
    assert before["alive"] is False
    after = listed(workers, beat(2, wrong + 5), after=5)
    assert after is not None
    assert (after["alive"], after["last_seen"]) == (True, NOW + 5)
    silent = listed(workers, beat(2, wrong + 5), after=30)
    assert silent is not None
    assert (silent["alive"], silent["last_seen"]) == (False, NOW + 5)
