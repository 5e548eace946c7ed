"""A database as the carrier: from publish to receive, draining, and what an idle process costs."""

import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, insert, select, update

import bridge
from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.load import STAMP, payload
from benchmarks.servers import ROOT
from bridge.backends.sql import tables
from bridge.backends.sql.backend import SqlBackend
from bridge.channel.transport import transport_of
from tests.servers import Postgres

MESSAGES = pick(1000, 200)
RATE = 100
RATE_INSIDE = 1000
BACKLOG = pick(20_000, 2000)
PASSES = pick(7, 1)
RETAINED = pick(100_000, 5000)
IDLE_TOPICS = 100
IDLE_SECONDS = pick(10.0, 2.0)
BROADCAST = 100
TOPIC = "news"
POSTGRES, SQLITE, INSIDE = "postgresql://", "sqlite:///", "sqlite:///, one process"

LATENCY = Question(
    "sql_latency",
    f"A database: from publish to a reader, {RATE} messages a second",
    (Column("p50_ms", "p50 ms", ".2f", plot=True), Column("p99_ms", "p99 ms", ".2f", plot=True)),
    "The reader is in another process unless it says otherwise; poll_interval is the default, fsync on. "
    f"Within one process {RATE_INSIDE:,} messages a second: at fewer the machine falls asleep in between.",
)
DRAIN = Question(
    "sql_drain",
    f"A database: draining {BACKLOG:,} messages",
    (
        Column("rate", "messages/s", plot=True),
        Column("retained_rate", f"with {RETAINED:,} older ones kept", plot=True),
        Column("ratio", "ratio", ".2f"),
    ),
)
IDLE = Question(
    "sql_idle",
    f"A database: a process that reads {IDLE_TOPICS} quiet topics",
    (Column("cpu", "CPU %", ".2f"), Column("statements", "statements/s", ".1f")),
)
INSTANCES = Question(
    "sql_instances",
    f"A database: {BROADCAST} messages to two processes",
    (Column("first", "received by one"), Column("second", "received by the other")),
)


@contextmanager
def url_of(kind: str) -> Iterator[str]:
    """Yield the URL of a database of its own."""
    if kind == POSTGRES:
        with Postgres(fsync="on") as server:
            yield server.url()
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield f"sqlite:///{Path(folder) / 'bridge.db'}"


@contextmanager
def helper(*words: str) -> Iterator[Any]:
    """Run another process of this module until it says that it is ready; yield its lines of output."""
    command = [sys.executable, "-m", "benchmarks.sql", *words]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the reader did not start")
        yield process.stdout
    finally:
        process.kill()
        process.communicate()


def taken_by(message: bytes) -> int:
    return time.monotonic_ns() - int(message[1 : 1 + STAMP])


def read(url: str, count: int) -> None:
    """Be the reader: say when it is ready, then the nanoseconds that each message took."""
    with bridge.connect(url) as channel, channel.topic(TOPIC).subscribe() as subscription:
        print("ready", flush=True)
        print(
            json.dumps([taken_by(message) for message in itertools.islice(subscription, count)]), flush=True
        )


def engine_of(channel: object) -> Engine:
    """Return the engine of the database behind a channel."""
    backend = transport_of(channel).backend
    assert isinstance(backend, SqlBackend)
    return backend._database.engine


def idle(url: str) -> None:
    """Be the idle process: say what it cost."""
    with bridge.connect(url) as channel:
        for number in range(IDLE_TOPICS):
            channel.topic(f"topic {number}").subscribe()
        time.sleep(0.5)
        statements: list[str] = []
        engine = engine_of(channel)
        event.listen(engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
        cpu = time.process_time()
        time.sleep(IDLE_SECONDS)
        cpu = time.process_time() - cpu
    print("ready", flush=True)
    figures = {"cpu": 100 * cpu / IDLE_SECONDS, "statements": len(statements) / IDLE_SECONDS}
    print(json.dumps(figures), flush=True)


def publish_steadily(channel: bridge.BroadcastChannel, rate: int = RATE) -> Iterator[int]:
    """Publish at a steady rate; yield after each message."""
    producer = channel.topic(TOPIC).as_producer()
    began = time.monotonic()
    for number in range(MESSAGES):
        time.sleep(max(0.0, began + number / rate - time.monotonic()))
        producer.publish(payload(number))
        yield number


def latency(kind: str) -> dict[str, float]:
    with url_of(kind) as url, bridge.connect(url) as channel:
        channel.topic(TOPIC).publish(b"makes the tables")
        if kind == INSIDE:
            with bridge.connect(url) as other, other.topic(TOPIC).subscribe() as subscription:
                taken = [
                    taken_by(subscription.receive(timeout=5) or b"")
                    for _ in publish_steadily(channel, RATE_INSIDE)
                ]
        else:
            with helper("read", url, str(MESSAGES)) as output:
                for _ in publish_steadily(channel):
                    pass
                taken = json.loads(output.readline())
    taken.sort()
    return {"p50_ms": taken[len(taken) // 2] / 1e6, "p99_ms": taken[int(0.99 * len(taken))] / 1e6}


def fill(channel: Any, topic: str, count: int) -> str:
    """Put messages into the log of a topic, faster than by publishing; return the id of the first."""
    first: str = channel.topic(topic).publish(payload(0))
    _, number, mark = first.split("-")
    key = tables.key_of("bridge", topic)
    message = {"mark": int(mark), "token": "0" * 16, "payload": payload(0)}
    with engine_of(channel).begin() as connection:
        row = connection.execute(select(tables.TOPICS.c.id).where(tables.TOPICS.c.key == key)).one()
        added = [{"topic": row.id, "number": int(number) + 1 + offset, **message} for offset in range(count)]
        connection.execute(insert(tables.MESSAGES), added)
        moved = update(tables.TOPICS).where(tables.TOPICS.c.id == row.id)
        connection.execute(moved.values(number=tables.TOPICS.c.number + count))
    return first


def drained(url: str, topic: str, after: str) -> float:
    """Return the messages a second at which a channel of its own receives the backlog."""
    with bridge.connect(url) as channel:
        began = time.monotonic()
        with channel.topic(topic).subscribe(after=after) as subscription:
            for _ in range(BACKLOG):
                assert subscription.receive(timeout=10) is not None
        return BACKLOG / (time.monotonic() - began)


def drain(kind: str) -> dict[str, float]:
    with url_of(kind) as url, bridge.connect(url, retention_messages=2 * RETAINED) as channel:
        few = fill(channel, "few", BACKLOG)
        fill(channel, "many", RETAINED)
        many = fill(channel, "many", BACKLOG)
        found = [(drained(url, "few", few), drained(url, "many", many)) for _ in range(PASSES)]
    rate, retained_rate = (statistics.median(rates) for rates in zip(*found, strict=True))
    return {"rate": rate, "retained_rate": retained_rate, "ratio": retained_rate / rate}


def idling(kind: str) -> dict[str, float]:
    with url_of(kind) as url, helper("idle", url) as output:
        figures: dict[str, float] = json.loads(output.readline())
        return figures


def instances(kind: str) -> dict[str, float]:
    with url_of(kind) as url, bridge.connect(url) as channel:
        channel.topic(TOPIC).publish(b"makes the tables")
        with helper("read", url, str(BROADCAST)) as one, helper("read", url, str(BROADCAST)) as other:
            for number in range(BROADCAST):
                channel.topic(TOPIC).publish(payload(number))
            counts = [len(json.loads(output.readline())) for output in (one, other)]
    return {"first": counts[0], "second": counts[1]}


def main() -> None:
    prepare()
    if len(sys.argv) > 1:
        if sys.argv[1] == "read":
            read(sys.argv[2], int(sys.argv[3]))
        else:
            idle(sys.argv[2])
        return
    report(LATENCY, rounds({kind: partial(latency, kind) for kind in (POSTGRES, SQLITE, INSIDE)}))
    for question, measure in ((DRAIN, drain), (IDLE, idling), (INSTANCES, instances)):
        report(question, rounds({kind: partial(measure, kind) for kind in (POSTGRES, SQLITE)}))


if __name__ == "__main__":
    main()
