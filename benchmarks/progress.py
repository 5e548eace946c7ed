"""What progress costs a task: an item of a loop under `track()` beside tqdm, and a throttled `progress()`."""

import io
import time
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from celery import Celery
from tqdm import tqdm

from benchmarks.common import ROUNDS, Column, Question, pick, prepare, report, say
from benchmarks.servers import pin
from bridge.celery import install, log, progress, track

ITEMS = pick(2_000_000, 200_000)
CALLS = pick(500_000, 50_000)
LINES = pick(5_000, 1_000)

BARE, TQDM, TRACK = "bare loop", "tqdm, to nowhere", "bridge, track()"
ITEM = Question(
    "track",
    "One item of a loop over a range",
    (Column("ns", "ns an item", ".1f", plot=True), Column("to_tqdm", "times tqdm", ".2f")),
    "In a task that is watched: events are made ten times a second. The loops take turns.",
)
CALL = Question(
    "progress",
    "One call in a task",
    (Column("ns", "ns a call", ".0f", plot=True),),
    "Tight loops; progress is sent ten times a second. `log()` hands each line to the background "
    "publisher, whose thread, here with a backend in the same process, competes for the interpreter.",
)


def loop(items: Iterable[int]) -> float:
    """Return the nanoseconds that an item took."""
    before = time.perf_counter_ns()
    for _ in items:
        pass
    return (time.perf_counter_ns() - before) / ITEMS


def calls(call: Callable[[int], object], times: int) -> float:
    """Return the nanoseconds that a call took."""
    before = time.perf_counter_ns()
    for number in range(times):
        call(number)
    return (time.perf_counter_ns() - before) / times


def items_round() -> dict[str, dict[str, float]]:
    taken = {
        BARE: loop(range(ITEMS)),
        TQDM: loop(tqdm(range(ITEMS), file=io.StringIO())),
        TRACK: loop(track(range(ITEMS))),
    }
    return {name: {"ns": ns, "to_tqdm": ns / taken[TQDM]} for name, ns in taken.items()}


def calls_round() -> dict[str, dict[str, float]]:
    taken = {
        "bridge, progress(n)": calls(progress, CALLS),
        "bridge, progress(n, total, message)": calls(lambda n: progress(n, CALLS, "working"), CALLS),
        "bridge, progress(float)": calls(lambda n: progress(n + 0.5), CALLS),
        "bridge, log(line)": calls(lambda n: log("one line"), LINES),
    }
    return {name: {"ns": ns} for name, ns in taken.items()}


def measured() -> dict[str, Any]:
    """Run within a task; return both questions' rounds."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {ITEM.name: {}, CALL.name: {}}
    for number in range(ROUNDS):
        for question, measure in ((ITEM, items_round), (CALL, calls_round)):
            for name, figures in measure().items():
                found[question.name].setdefault(name, []).append(figures)
        say(f"round {number + 1} of {ROUNDS}")
    return found


def main() -> None:
    prepare()
    pin(first=True)
    app = Celery("benchmark", set_as_current=False)
    app.conf.update(task_always_eager=True, task_store_eager_result=False)
    install(app, f"memory://{uuid.uuid4().hex}")
    found = app.task(measured).delay().get()
    report(ITEM, found[ITEM.name])
    report(CALL, found[CALL.name])


if __name__ == "__main__":
    main()
