"""Heartbeats, which the main processes of workers publish, and their JSON."""

import json
from dataclasses import dataclass

WORKERS = "workers"
"""The topic of the heartbeats."""


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

    def encode(self) -> bytes:
        """Return the JSON of this heartbeat."""
        # The name `gone` is fixed: other versions of the bridge read it.
        members = {"process": self.process, "worker": self.worker, "number": self.number, "gone": self.last}
        if not self.feed:
            members["feed"] = False
        return json.dumps({"v": 1, "type": "beat", **members}).encode()


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
