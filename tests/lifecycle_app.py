"""A Celery app with a task for every way in which a task can end, for the worker processes of the tests."""

import os
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore, Reject
from celery.signals import worker_init
from kombu.transport import TRANSPORT_ALIASES, filesystem
from kombu.utils.json import dumps

from bridge.celery import check_cancelled, install, publish
from bridge.celery.apps import flush_all

STALLS_AFTER = 4.0


class Channel(filesystem.Channel):
    """Writes a message before it shows it: kombu's own lets a worker read it empty, and end of that."""

    # kombu names this argument in two ways, in this class and in its base.
    def _put(self, queue: str, payload: Any, **_: Any) -> None:  # type: ignore[override]
        name = f"{time.monotonic_ns() // 1_000_000}_{uuid.uuid4()}"
        hidden = Path(self.data_folder_out, name)
        hidden.write_text(dumps(payload))
        hidden.rename(hidden.with_name(f"{name}.{queue}.msg"))


class Files(filesystem.Transport):
    """Kombu's filesystem transport, safe for a reader that is faster than the writer."""

    Channel = Channel


TRANSPORT_ALIASES["files"] = "tests.lifecycle_app:Files"


def make_app(broker: str, bridge_url: str) -> Celery:
    """The app of a worker and of who queues its tasks; `broker` is a URL, or a folder for files."""
    app = Celery("lifecycle", set_as_current=False)
    app.conf.update(
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        worker_prefetch_multiplier=1,
        task_create_missing_queues=True,
        worker_soft_shutdown_timeout=float(os.environ.get("LIFECYCLE_SOFT_SHUTDOWN", "0")),
    )
    if "://" in broker:
        app.conf.update(broker_url=broker, result_backend=broker)
        app.conf.broker_transport_options = {
            # Seconds; then what is not acknowledged counts as lost, also if it only waits for a slow child.
            "visibility_timeout": int(os.environ.get("LIFECYCLE_VISIBILITY", "4")),
            "unacked_restore_interval": 1, "unacked_restore_throttle": 1,
            # A worker that is killed while it looks for what to restore keeps others from it for so long.
            "unacked_mutex_expire": 2,
        }  # fmt: skip
    else:
        app.conf.update(broker_url="files://", task_ignore_result=True)
        folders = {"data_folder_in": f"{broker}/in", "data_folder_out": f"{broker}/in"}
        Path(broker, "in").mkdir(exist_ok=True)
        app.conf.broker_transport_options = {
            **folders, "control_folder": f"{broker}/control", "polling_interval": 0.05
        }  # fmt: skip
    install(app, bridge_url, heartbeat=0.5, stalls_after=STALLS_AFTER, timeout=2.0)
    plain = (succeed, fail, fall_ill, ignore, reject, sleep, give_up, replaced, die, leave, number_of)
    for task in (*plain, break_out):
        app.task(name=task.__name__)(task)
    # celery-types declares whole seconds; Celery takes parts of one.
    app.task(name="soft", soft_time_limit=0.5)(sleep)  # type: ignore[call-overload]
    app.task(name="hard", time_limit=1)(sleep)
    app.task(name="hang", bind=True)(hang)
    app.task(name="break_out_late", acks_late=True)(break_out)
    app.task(name="hang_late", bind=True, acks_late=True)(hang)
    app.task(name="retry", bind=True, max_retries=2)(retry)
    app.task(name="replace", bind=True)(replace)
    app.task(name="requeue", bind=True, acks_late=True)(requeue)
    app.task(name="die_late", bind=True, acks_late=True, reject_on_worker_lost=True)(die_late)
    return app


def succeed() -> str:
    return "done"


def fail() -> None:
    raise ValueError("no such file")


def fall_ill() -> object:
    """Return what no serializer takes."""
    return object()


def ignore() -> None:
    raise Ignore("not today")


def reject() -> None:
    raise Reject("no good", requeue=False)


def sleep(seconds: float) -> str:
    time.sleep(seconds)
    return "slept"


def give_up() -> None:
    """Run until somebody asks for the end."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        check_cancelled()
        time.sleep(0.01)


def retry(self: "Task[..., Any]") -> int:
    if self.request.retries == 0:
        raise self.retry(exc=ConnectionError("not yet"), countdown=0)
    return int(self.request.retries)


def replace(self: "Task[..., Any]") -> Any:
    return self.replace(self.app.signature("replaced"))


def replaced() -> str:
    return "replaced"


def _first_time(folder: str, task_id: str | None) -> bool:
    assert task_id is not None  # a task that runs has one
    try:
        Path(folder, task_id).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def requeue(self: "Task[..., Any]", folder: str) -> str:
    if _first_time(folder, self.request.id):
        raise Reject("not yet", requeue=True)
    return "second time"


def die(folder: str) -> None:
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def leave() -> None:
    raise SystemExit(3)


class OwnError(BaseException):
    """No `Exception`."""


BREAKING_OUT = {kind.__name__: kind for kind in (KeyboardInterrupt, GeneratorExit, OwnError)}


def break_out(kind: str) -> None:
    raise BREAKING_OUT[kind]("out")


def die_late(self: "Task[..., Any]", folder: str) -> str:
    if _first_time(folder, self.request.id):
        os.kill(os.getpid(), signal.SIGKILL)
    return "second time"


def hang(self: "Task[..., Any]", folder: str) -> str:
    if _first_time(folder, self.request.id):
        time.sleep(600)
    return "second time"


def number_of(total: int, port: int) -> list[int]:
    """Publish the numbers below `total`; return the inodes of this process's connections to `port`."""
    for number in range(total):
        publish("number", {"n": number})
    flush_all()
    return sorted(connections("self", port))


def connections(pid: int | str, port: int) -> set[int]:
    """The inodes of the TCP connections that a process has to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    there = {f"socket:[{row[9]}]": int(row[9]) for row in rows if row[2].endswith(f":{port:04X}")}
    links = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            links.add(str(path.readlink()))
    return {inode for link, inode in there.items() if link in links}


def hold(**_: Any) -> None:
    """Keep a worker from getting ready until it may."""
    folder = os.environ.get("LIFECYCLE_HOLD")
    if folder is not None:
        Path(folder, "held").touch()
        while not Path(folder, "may go on").exists():
            time.sleep(0.01)


if "LIFECYCLE_BROKER" in os.environ:
    worker_init.connect(hold)  # after the bridge's own
    app = make_app(os.environ["LIFECYCLE_BROKER"], os.environ["LIFECYCLE_BRIDGE"])
