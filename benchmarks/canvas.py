"""What a part of a group costs, told and summed up by the backend, and a snapshot of it, by its size."""

import statistics
import time
import uuid
from typing import Any

import bridge
from benchmarks.common import ROUNDS, Column, Question, pick, prepare, report, say
from benchmarks.publish import start
from benchmarks.servers import has_scheme
from bridge.channel.transport import transport_of
from bridge.tasks import canvas as canvas_events
from bridge.tasks.snapshot import read_snapshot, snapshot_text

SIZES = (100, 1000, 10_000)
LAST = pick(100, 50)
SCHEMES = ("memory", "redis", "redis+pubsub")

COLUMNS = (
    Column("start_us", "µs a start", ".1f"),
    Column("end_us", "µs an end", ".1f", plot=True),
    Column("last_us", f"µs each of the last {LAST} ends", ".1f", plot=True),
    Column("snapshot_us", "µs a snapshot", ".0f"),
    Column("snapshot_bytes", "bytes of it", ",.0f"),
)
NOTE = (
    "One thread publishes the start and the end of each part to its canvas, one at a time, Valkey on another "
    "core; medians. A snapshot is read before the last part ends."
)
QUESTION = Question("canvas", "A part of a group of 100, 1,000 and 10,000", COLUMNS, NOTE)


def measure(channel: Any, size: int) -> dict[str, float]:
    canvas_id = uuid.uuid4().hex
    topic = bridge.task_topic(canvas_id)
    parts = [uuid.uuid4().hex for _ in range(size)]

    def tell(state: str) -> list[float]:
        taken = []
        for part in parts:
            told = canvas_events.make(canvas_id, size, part, state, name="tests.add")
            before = time.perf_counter_ns()
            transport_of(channel).publish(told)
            taken.append((time.perf_counter_ns() - before) / 1000)
            if part is parts[-2] and state == "SUCCESS":
                found.update(snapshot(channel, canvas_id))
        return taken

    found: dict[str, float] = {}
    transport_of(channel).publish(canvas_events.declare(canvas_id, size, canvas="group"))
    starts, ends = tell("STARTED"), tell("SUCCESS")
    assert read_snapshot(transport_of(channel).states(topic)[0], canvas_id).state == "SUCCESS"
    return {
        "start_us": statistics.median(starts),
        "end_us": statistics.median(ends),
        "last_us": statistics.median(ends[-LAST:]),
        **found,
    }


def snapshot(channel: Any, canvas_id: str) -> dict[str, float]:
    topic, taken, text = bridge.task_topic(canvas_id), [], b""
    for _ in range(20):
        before = time.perf_counter_ns()
        text, _ = snapshot_text(transport_of(channel).states(topic)[0], canvas_id)
        taken.append((time.perf_counter_ns() - before) / 1000)
    return {"snapshot_us": statistics.median(taken), "snapshot_bytes": len(text)}


def main() -> None:
    prepare()
    valkey = start()
    found: dict[str, list[dict[str, float]]] = {}
    try:
        for number in range(ROUNDS):
            for scheme in filter(has_scheme, SCHEMES):
                url = "memory://canvas" if scheme == "memory" else valkey.url(scheme)
                with bridge.connect(url, namespace=uuid.uuid4().hex) as channel:
                    for size in SIZES:
                        found.setdefault(f"bridge, {scheme}://, {size:,} parts", []).append(
                            measure(channel, size)
                        )
            say(f"round {number + 1} of {ROUNDS}")
    finally:
        valkey.stop()
    report(QUESTION, found)


if __name__ == "__main__":
    main()
