"""Heartbeats, which the main processes of workers publish, and their JSON.

The last heartbeat of each worker is also a field in the state of the topic, so that a reader who comes later
knows the workers at once, on every backend.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from bridge.model.publication import Change, Publication

WORKERS = "workers"
"""The topic of the heartbeats."""

KEPT_SECONDS = 3600.0
"""Seconds that a worker stays in the state after its last heartbeat."""

_LONGEST_NAME = 200
"""Characters that a report has of the name of a task."""

_FIELD = "worker."


class Running(NamedTuple):
    """A task that a worker runs."""

    task: str
    name: str
    started_at: float


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of itself. Times are in seconds since the epoch, by its own clock."""

    at: float
    since: float
    """When the worker has started."""
    stalls_after: float
    """Seconds without a heartbeat after which the worker counts as silent."""
    succeeded: int = 0
    failed: int = 0
    running: Sequence[Running] = ()
    """The tasks that run, some of them if there are many."""
    active: int = 0
    """How many tasks run."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A message that a process publishes on the topic `WORKERS` at regular intervals."""

    process: str
    worker: str | None
    """The name of the worker. `None` if the process is not a worker, but watches them."""
    number: int
    """Counts the heartbeats of the process."""
    last: bool = False
    """Whether the process ends."""
    feed: bool = True
    """Whether the feed of all tasks gets the events of the tasks of the process."""
    report: Report | None = None

    def encode(self) -> bytes:
        """Return the JSON of this heartbeat."""
        # The name `gone` is fixed: other versions of the bridge read it.
        members = {"process": self.process, "worker": self.worker, "number": self.number, "gone": self.last}
        if not self.feed:
            members["feed"] = False
        return json.dumps({"v": 1, "type": "beat", **members, **_members_of(self.report)}).encode()

    def publication(self) -> Publication:
        """Return this heartbeat as a message to publish. That of a worker with a report is a field too."""
        payload = self.encode()
        if self.worker is None or self.report is None:
            return Publication(WORKERS, payload)
        change = Change(0, final=False, fields={_field(self.worker): payload}, entry=False, groups=())
        return Publication(WORKERS, payload, change=change)


def _field(worker: str) -> str:
    """Return the name of the field of a worker, which has a bounded length."""
    return _FIELD + hashlib.blake2b(worker.encode("utf-8", "replace"), digest_size=12).hexdigest()


def _members_of(report: Report | None) -> dict[str, object]:
    if report is None:
        return {}
    running = [
        {"task": task, "name": name[:_LONGEST_NAME], "started_at": started_at}
        for task, name, started_at in report.running
    ]
    return {
        "at": report.at,
        "since": report.since,
        "stalls_after": report.stalls_after,
        "succeeded": report.succeeded,
        "failed": report.failed,
        "active": report.active,
        "running": running,
    }


def decode_heartbeat(payload: bytes) -> Heartbeat | None:
    """Return the heartbeat in `payload`, or `None`: anyone may publish anything to the topic."""
    try:
        members = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    match members:
        case {"type": "beat", "process": str(process), "number": int(number), "gone": bool(last)}:
            worker = members.get("worker")
            name = worker if isinstance(worker, str) else None
            return Heartbeat(process, name, number, last, members.get("feed") is not False)
    return None


def decode_report(payload: bytes) -> Heartbeat | None:
    """Return the heartbeat in a field of the state, with its report; `None` if it has none."""
    heartbeat = decode_heartbeat(payload)
    if heartbeat is None or heartbeat.worker is None:
        return None
    match json.loads(payload):
        case {
            "at": int() | float() as at,
            "since": int() | float() as since,
            "stalls_after": int() | float() as stalls_after,
            "succeeded": int(succeeded),
            "failed": int(failed),
            "active": int(active),
            "running": [*tasks],
        }:
            running = [found for task in tasks if (found := _running(task)) is not None]
            report = Report(at, since, stalls_after, succeeded, failed, running, active)
            return replace(heartbeat, report=report)
    return None


def _running(members: object) -> Running | None:
    match members:
        case {"task": str(task), "name": str(name), "started_at": int() | float() as started_at}:
            return Running(task, name, started_at)
    return None


def reports(fields: Mapping[str, bytes]) -> list[Heartbeat]:
    """Return the last heartbeat of each worker in the fields of the state, in the order of their names."""
    found = [decode_report(payload) for name, payload in fields.items() if name.startswith(_FIELD)]
    known = [heartbeat for heartbeat in found if heartbeat is not None]
    return sorted(known, key=lambda heartbeat: heartbeat.worker or "")


def outdated(fields: Mapping[str, bytes], now: float) -> list[str]:
    """Return the names of the fields of workers that were last heard of longer than `KEPT_SECONDS` ago.

    A clock that is wrong by less than that removes no worker that lives, and one that lives comes back with
    its next heartbeat.
    """
    names = []
    for name, payload in fields.items():
        if name.startswith(_FIELD):
            heartbeat = decode_report(payload)
            if heartbeat is None or heartbeat.report is None or now - heartbeat.report.at > KEPT_SECONDS:
                names.append(name)
    return names
