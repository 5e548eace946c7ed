"""Workers that run canvases, and the streams on which they are watched."""

import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import httpx
import httpx_sse
from celery import Celery

import bridge
from bridge.channel.transport import transport_of
from tests import events
from tests.processes import explain, running
from tests.servers import eventually

SECONDS = 60


@contextmanager
def worker(pool: str = "prefork", children: int = 2, **env: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.canvas_app",
        "worker",
        "-P",
        pool,
        "-c",
        str(children),
    ]
    with running([*command, "-l", "INFO", "-n", f"{uuid.uuid4().hex}@localhost"], env=env) as log:
        eventually(lambda: " ready." in log.read_text(), SECONDS)
        yield


class Watched:
    """The stream of a canvas or a task up to its end."""

    def __init__(self, address: str, task_id: str) -> None:
        self.events: list[dict[str, Any]] = []
        try:
            self._watch(address, task_id)
        except BaseException:
            print(f"--- {task_id} has told", *self.events, sep="\n", file=sys.stderr)
            explain()
            raise

    def _watch(self, address: str, task_id: str) -> None:
        url = f"{address}/stream"
        with (
            httpx.Client(timeout=SECONDS, trust_env=False) as client,
            client.stream("GET", url, params={"topic": bridge.task_topic(task_id)}) as response,
        ):
            for event in httpx_sse.EventSource(response).iter_sse():
                self.events.append(event.json())

    def check(self) -> None:
        """The bar never steps back, every part is accounted for, and there is one end, at the end."""
        assert all(a <= b for a, b in pairwise(self.percents))
        assert all(sum(event["parts"].values()) == event["total"] for event in self.of("progress"))
        assert [event["type"] for event in self.events].count("end") == 1
        assert self.events[-1]["type"] == "end"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def percents(self) -> list[float]:
        told = [event.get("progress") if event["type"] == "snapshot" else event for event in self.events]
        return [event["percent"] for event in told if event and "percent" in event]

    @property
    def state(self) -> str:
        return str(self.events[-1]["state"])


def snapshot(channel: Any, task_id: str) -> dict[str, Any]:
    states = transport_of(channel).states(bridge.task_topic(task_id))
    return events.snapshot(states[0] if states else None, task_id)


def ended(channel: Any, result_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = snapshot(channel, result_id)
        return found if events.end_of(found) else None

    return eventually(look) or {}


def work_of(app: Celery) -> Any:
    return app.signature("work", app=app)
