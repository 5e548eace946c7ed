"""The workers, as their heartbeats describe them: which are alive, and what they run."""

import time
from collections.abc import Sequence
from typing import NamedTuple

from bridge.support.recent import Recent
from bridge.tasks.heartbeats import KEPT_SECONDS, Heartbeat

_REMEMBERED = 1000
"""Workers of which this process remembers when their last heartbeat came."""


class _Seen(NamedTuple):
    """The last heartbeat of a worker that this process has seen, and when, by `time.monotonic`."""

    process: str
    number: int
    at: float
    is_new: bool
    """Whether it was seen to be new, and not only found."""


class Workers:
    """Says which workers are alive. Threads may share it.

    A clock of another machine may be wrong. So a worker whose heartbeats change is alive, whatever the time
    in them. Only while this process has seen no change, it believes the time.
    """

    def __init__(self) -> None:
        self._seen: Recent[str, _Seen] = Recent(_REMEMBERED)

    def listed(self, heartbeats: Sequence[Heartbeat]) -> list[dict[str, object]]:
        """Return what the page shows of each worker that was heard of lately."""
        now, clock = time.time(), time.monotonic()
        return [row for heartbeat in heartbeats if (row := self._row(heartbeat, now, clock)) is not None]

    def _row(self, heartbeat: Heartbeat, now: float, clock: float) -> dict[str, object] | None:
        report, name = heartbeat.report, heartbeat.worker
        if report is None or name is None:
            return None
        seen = self._noted(name, heartbeat, clock)
        age = clock - seen.at if seen.is_new else max(0.0, now - report.at)
        if age > KEPT_SECONDS:
            return None
        alive = not heartbeat.last and age <= report.stalls_after
        running = [
            {"task": task, "name": task_name, "started_at": started_at}
            for task, task_name, started_at in report.running
        ]
        return {
            "name": name,
            "alive": alive,
            "last_seen": round(now - age, 3),
            "since": report.since,
            "running": running if alive else [],
            "active": report.active if alive else 0,
            "succeeded": report.succeeded,
            "failed": report.failed,
        }

    def _noted(self, name: str, heartbeat: Heartbeat, clock: float) -> _Seen:
        """Note when the last heartbeat of a worker was seen."""
        before = self._seen.get(name)
        key = (heartbeat.process, heartbeat.number)
        if before is not None and (before.process, before.number) == key:
            return before
        self._seen[name] = seen = _Seen(*key, clock, before is not None)
        return seen
