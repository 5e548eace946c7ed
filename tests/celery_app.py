"""A Celery app with the bridge installed, for worker processes of the tests."""

import contextvars
import logging
import os
import threading
import time

from celery import Celery, Task, shared_task
from celery.utils.log import get_task_logger

from bridge.celery import check_cancelled, install, log, progress, publish, step, track

app = Celery("tests", broker=os.environ["APP_BROKER"], backend=os.environ["APP_BROKER"])
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)
install(
    app,
    os.environ["APP_BRIDGE"],
    timeout=0.5,
    capture=True,
    capture_logs="INFO",
    arguments=True,
    heartbeat=1.0,
    stalls_after=15.0,
)


@app.task
def add(a: int, b: int) -> int:
    return a + b


@app.task
def fail() -> None:
    raise ValueError("no such file")


@app.task
def chatty(times: int) -> float:
    """Publish over and over; return the seconds that one call took on average."""
    started = time.perf_counter()
    for number in range(times):
        progress(number, total=times, message="working")
    log("worked", level="warning")
    publish("preview", {"url": "x"})
    return (time.perf_counter() - started) / (times + 2)


@app.task(bind=True, max_retries=2)
def second_time_lucky(self: "Task[..., int]") -> int:
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)
    return self.request.retries


@app.task(bind=True, max_retries=1)
def later(self: "Task[..., int]", countdown: float) -> int:
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("not yet"), countdown=countdown)
    return self.request.retries


@app.task(bind=True)
def measured(self: "Task[..., int]", times: int) -> int:
    """Use all there is to tell progress."""
    load, save = step("load", weight=1), step("save", weight=3)
    with load:
        total = sum(track(range(times), message="loading"))
    with save:
        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(progress, 1, 2, "from a thread"))
        thread.start()
        thread.join()
        time.sleep(0.3)
    return total


@app.task(bind=True)
def legacy(self: "Task[..., str]") -> str:
    """Know nothing of the bridge."""
    logging.getLogger("shop").info("packing %s", "boxes")
    self.update_state(state="PROGRESS", meta={"current": 1, "total": 4, "description": "packing"})
    get_task_logger(__name__).warning("only one left")
    self.update_state(state="SHIPPING", meta={"current": 3, "total": 4})
    self.send_event("task-shipped", parcel=7)
    return self.name


@app.task
def in_a_plain_thread() -> None:
    thread = threading.Thread(target=log, args=("from a plain thread",))
    thread.start()
    thread.join()
    log("from the task")


@app.task
def flood(times: int) -> float:
    """Publish more than can be sent; return the seconds that one call took on average."""
    started = time.perf_counter()
    for number in range(times):
        publish("number", number)
    return (time.perf_counter() - started) / times


@app.task
def until_cancelled() -> None:
    """Wait to be cancelled."""
    for _ in range(1000):
        check_cancelled()
        time.sleep(0.05)


class Custom(Task):  # type: ignore[type-arg]  # `Task` takes no parameters at run time
    """A Task class of the user's own."""

    def __call__(self, *args: object, **kwargs: object) -> object:
        log("custom")
        return super().__call__(*args, **kwargs)


@app.task(base=Custom)
def custom() -> str:
    return "done"


@shared_task
def shared() -> str:
    log("shared")
    return "done"


@app.task
def unprintable() -> object:
    log("returns what JSON cannot express")
    raise Unprintable


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")

    __repr__ = __str__


@app.task
def start(name: str, *args: object) -> str:
    """Start another task; return its id."""
    return str(app.send_task(name, args).id)
