"""Worker processes for tests, and what viewers see of the tasks they run."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery

import bridge
from bridge.channel.transport import transport_of
from tests import events
from tests.processes import running
from tests.servers import eventually

SECONDS = 30


POOLS = ("prefork", "threads", "gevent", "solo")


class Worker:
    """A worker process, and a client of its broker."""

    def __init__(self, app: Celery, log_file: Path) -> None:
        self.app = app
        self._log_file = log_file

    def run(self, name: str, *args: object) -> tuple[str, Any]:
        """Run a task; return its id and its result or exception."""
        sent = self.app.send_task(f"tests.celery_app.{name}", args)
        return sent.id, sent.get(timeout=SECONDS, propagate=False)

    def log(self) -> str:
        return self._log_file.read_text(errors="replace")


@contextmanager
def worker(broker: str, bridge_url: str, pool: str = "prefork") -> Iterator[Worker]:
    """Start a real worker with one process, thread or greenlet; end it with everything it started."""
    celery = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"]
    name = f"{uuid.uuid4().hex}@localhost"
    environment = {"APP_BROKER": broker, "APP_BRIDGE": bridge_url}
    with (
        running([*celery, "-P", pool, "-c", "1", "-l", "INFO", "-n", name], env=environment) as log_file,
        Celery(broker=broker, backend=broker) as app,
    ):
        eventually(lambda: " ready." in log_file.read_text(), SECONDS)
        yield Worker(app, log_file)


def snapshot(channel: Any, task: str) -> dict[str, Any]:
    """The snapshot of a task that has ended."""

    def ended() -> dict[str, Any] | None:
        states = transport_of(channel).states(bridge.task_topic(task))
        found = events.snapshot(states[0], task) if states else {"type": "snapshot"}
        return found if events.end_of(found) else None

    return eventually(ended, SECONDS) or {}
