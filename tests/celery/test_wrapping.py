"""Celery is wrapped once, by the first `install`, and not by an import."""

import subprocess
import sys
import uuid
from pathlib import Path

from celery import Celery

from bridge.celery import install
from bridge.celery.wrapping import HANDLERS

ROOT = Path(__file__).parent.parent.parent

NOTE = """
import threading
from celery import Celery, chord, group, signals
from celery.app.task import Task
from celery.canvas import Signature, _chain, chunks
from celery.result import AsyncResult
from celery.utils.dispatch import Signal

CLASSES = AsyncResult, Celery, Signature, Task, _chain, chord, chunks, group

def receivers():
    # Under their names, without the keys, which hold addresses of objects.
    return {
        name: [receiver for _, receiver in signal.receivers]
        for name, signal in vars(signals).items() if isinstance(signal, Signal)
    }

def attributes():
    return {(kind, name): value for kind in CLASSES for name, value in vars(kind).items()}

def changed(before, after):
    other = [key for key in after if before.get(key) is not after[key]]
    return {f"{kind.__name__}.{name}" for kind, name in other}
"""

IMPORTED = """
for name in ("apply_async", "freeze"):  # Some names are taken over from other classes.
    for kind in (group, chord, _chain, Signature):
        getattr(kind, name)
before = receivers(), attributes()
import bridge.celery
import bridge.celery.wrapping
assert receivers() == before[0]
assert not changed(before[1], attributes())
assert threading.active_count() == 1
"""

INSTALLED = """
one, two, bare = (Celery(name, broker="memory://", set_as_current=False) for name in ("one", "two", "bare"))
bridge.celery.install(one, "memory://")
wrapped = receivers(), attributes()
assert changed(before[1], wrapped[1]) == {
    "Signature.freeze", "_chain.freeze", "_chord.freeze", "group._freeze_group_tasks",
    "group.apply_async", "_chain.apply_async", "_chord.apply_async",
}, changed(before[1], wrapped[1])
added = {name: len(found) - len(before[0][name]) for name, found in wrapped[0].items()}
assert sum(added.values()) == len(bridge.celery.wrapping.HANDLERS)
assert added["task_prerun"] == 5
assert added["worker_process_init"] == 0
sending = one.send_task
assert "send_task" not in vars(two)

for app in (one, two, one):
    bridge.celery.install(app, "memory://")
assert receivers() == wrapped[0]
assert not changed(wrapped[1], attributes())
assert one.send_task is sending
assert sending.__wrapped__.__func__ is Celery.send_task
assert two.send_task.__wrapped__.__func__ is Celery.send_task
assert "send_task" not in vars(bare)

for app in (bare, two):
    bridge.celery.install(app, "memory://", capture=True)
assert changed(wrapped[1], attributes()) == {"Task.update_state", "Task.send_event"}
"""


def run(program: str) -> None:
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)


def test_an_import_changes_nothing_in_celery() -> None:
    """Importing bridge.celery connects no signal and replaces no method, and starts no thread."""
    run(NOTE + IMPORTED)


def test_the_first_install_wraps_celery_and_further_ones_nothing_twice() -> None:
    """The first install wraps Celery's classes. Each app is wrapped once, however often it is installed."""
    run(NOTE + IMPORTED + INSTALLED)


def test_tasks_run_where_nothing_is_installed() -> None:
    """A process that only imports the package runs tasks and canvases as without it."""
    run(
        """
from celery import Celery, group
app = Celery("bare", broker="memory://", backend="cache+memory://")
app.conf.task_always_eager = True
import bridge.celery
@app.task
def add(a, b):
    list(bridge.celery.track([a, b]))
    bridge.celery.progress(1, 2)
    bridge.celery.check_cancelled()
    return a + b
assert group(add.s(1, n) for n in range(3)).apply_async().get() == [1, 2, 3]
"""
    )


def test_an_install_while_a_task_runs_publishes_its_end() -> None:
    """A task that installs the bridge itself runs on, and the next task publishes everything."""
    run(
        """
import bridge
from bridge.celery import install, log
from tests import events
from bridge.channel.transport import transport_of
from celery import Celery
app = Celery("late")
app.conf.task_always_eager = True
@app.task
def first():
    install(app, "memory://late")
    log("nobody listens yet")
@app.task
def second():
    log("now somebody does")
first.apply(task_id="first").get()
second.apply(task_id="second").get()
with bridge.connect("memory://late") as channel:
    states = [transport_of(channel).states(bridge.task_topic(task)) for task in ("first", "second")]
shown = [events.snapshot(*found, found[0].topic.removeprefix("task:")) for found in states]
assert [found["state"] for found in shown] == ["SUCCESS", "SUCCESS"]
assert [[event["message"] for event in found["events"]] for found in shown] == [[], ["now somebody does"]]
"""
    )


def test_threads_that_install_at_once_wrap_celery_once() -> None:
    """Many threads that install one app, at the same time, leave one wrapper around its `send_task`."""
    run(
        """
import sys, threading
from celery import Celery, group
from bridge.celery import install
sys.setswitchinterval(1e-6)
app = Celery("one", broker="memory://", set_as_current=False)
start, barrier = group.apply_async, threading.Barrier(8)
def work():
    barrier.wait()
    install(app, "memory://")
threads = [threading.Thread(target=work) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert app.send_task.__wrapped__.__func__ is Celery.send_task
assert group.apply_async.__wrapped__ is start
"""
    )


def test_every_handler_is_connected_once() -> None:
    """In a process with an installed app each signal has its handlers exactly once, in their order."""
    app = Celery("handlers", broker="memory://", set_as_current=False)
    install(app, f"memory://{uuid.uuid4().hex}")
    for signal in {signal for signal, _ in HANDLERS}:
        expected = [handler for other, handler in HANDLERS if other is signal]
        connected = [receiver for _, receiver in signal.receivers if receiver in expected]
        assert connected == expected
    app.close()
