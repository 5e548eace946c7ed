"""Tasks to compose, for worker processes of the tests."""

import os
import signal
import time
from pathlib import Path
from typing import Any

from celery import Celery, group

from bridge.celery import install, log, progress
from bridge.celery.apps import installed
from bridge.celery.canvas import reports
from tests.processes import dump_on_signal

broker = os.environ["APP_BROKER"]
app = Celery("tests", broker=broker, backend=os.environ.get("APP_RESULTS", broker))
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
install(app, os.environ["APP_BRIDGE"])
dump_on_signal()
if "APP_SLOWLY" in os.environ:
    bridge = installed(app)
    assert bridge is not None
    transport = bridge.transport
    publish_many = transport.publish_many

    def slowly(*arguments: Any, **options: Any) -> int:
        time.sleep(0.2)
        return publish_many(*arguments, **options)

    # The worker is a process of its own, which ends with this in place.
    transport.publish_many = slowly  # type: ignore[method-assign]
reports.PROGRESS_EVERY = 0.0  # so that a test sees all that a task reports


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@app.task
def fail(*_: object) -> None:
    raise ValueError("no")


@app.task
def halves(_: int) -> None:
    progress(1, total=2)
    progress(2, total=2)


@app.task(bind=True, max_retries=2)
def second_time_lucky(self: Any) -> None:
    log(f"retries: {self.request.retries}")
    progress(9 if self.request.retries == 0 else 1, total=10)
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)


@app.task(acks_late=True, reject_on_worker_lost=True)
def killed_once(marker: str) -> None:
    """Kill the worker's process at the first attempt; the broker delivers the task again."""
    if not Path(marker).exists():
        Path(marker).touch()
        os.kill(os.getpid(), signal.SIGKILL)


@app.task
def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@app.task
def start_group(size: int) -> str:
    """Start a group; return its id."""
    return str(group(add.s(number, 1) for number in range(size)).apply_async().id)


@app.task(bind=True)
def swap(self: Any, number: int) -> Any:
    return self.replace(add.s(number, 1))


@app.task(bind=True)
def swap_for_chain(self: Any, number: int) -> Any:
    return self.replace(add.s(number, 1) | add.s(1))


@app.task(bind=True)
def swap_for_group(self: Any, number: int) -> Any:
    return self.replace(group(add.s(number, 1), add.s(number, 2)))


@app.task(bind=True)
def swap_for_chord(self: Any, number: int) -> Any:
    return self.replace(add.s(number, 1) | group(add.s(1), add.s(2)) | total.s())


@app.task(bind=True)
def swap_for_failure(self: Any) -> Any:
    return self.replace(add.s(1, 1) | fail.s() | add.s(1))
