"""Four processes publish task events to a database: events a second, and the CPU time of an event."""

import json
import os
import subprocess
import sys
import time
from functools import partial
from typing import Any

import bridge
from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import ROOT
from benchmarks.sql import POSTGRES, SQLITE, url_of
from bridge.channel.transport import transport_of
from bridge.tasks.changes import publication
from bridge.tasks.event_types import Progress
from bridge.tasks.publisher import BATCH

PROCESSES = 4
TASKS = 200
EVENTS = pick(20_000, 2_000)

INTAKE = Question(
    "sql_intake",
    f"A database: task events from {PROCESSES} processes",
    (
        Column("rate", "events/s", plot=True),
        Column("client_us", "CPU µs an event, publishers", ".0f"),
        Column("server_us", "CPU µs an event, server", ".0f"),
    ),
    f"Progress with state and feed, of {TASKS} tasks a process, in batches of {BATCH}; fsync on.",
)


def send(url: str, name: str) -> None:
    """Be a publisher: say when it is ready, publish on a line of input, then say the CPU time and wait."""
    with bridge.connect(url) as channel:
        backend = transport_of(channel).backend
        tasks = [f"{name}-{number}" for number in range(TASKS)]
        backend.publish_many([publication(Progress(task, current=0)) for task in tasks])
        print("ready", flush=True)
        sys.stdin.readline()
        cpu = time.process_time()
        for first in range(0, EVENTS, BATCH):
            numbers = range(first, min(first + BATCH, EVENTS))
            batch = [
                publication(Progress(tasks[number % TASKS], current=number, total=EVENTS, percent=12.34))
                for number in numbers
            ]
            while batch:
                batch = batch[backend.publish_many(batch) :]
        print(json.dumps(time.process_time() - cpu), flush=True)
        sys.stdin.readline()  # Its connections stay until the CPU time of the server is read.


def server_seconds(kind: str, url: str) -> float:
    """Return the CPU seconds that the processes of the server have used."""
    if kind != POSTGRES:
        return 0.0
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        listed: list[Any] = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name = 'celery-event-bridge'"
        ).fetchall()
    ticks = 0
    for (pid,) in listed:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
            ticks += sum(map(int, file.read().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def intake(kind: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.intake_sql"]
    with url_of(kind) as url:
        with bridge.connect(url) as channel:
            channel.topic("news").publish(b"makes the tables")
        senders = [
            subprocess.Popen(
                [*command, url, f"p{number}"],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(PROCESSES)
        ]
        try:
            for sender in senders:
                assert sender.stdout is not None
                if sender.stdout.readline() != "ready\n":
                    raise RuntimeError("a publisher did not start")
            server = server_seconds(kind, url)
            began = time.monotonic()
            for sender in senders:
                assert sender.stdin is not None
                sender.stdin.write("\n")
                sender.stdin.flush()
            cpu = sum(json.loads(sender.stdout.readline()) for sender in senders if sender.stdout is not None)
            taken = time.monotonic() - began
            server = server_seconds(kind, url) - server
        finally:
            for sender in senders:
                sender.kill()
                sender.communicate()
    count = PROCESSES * EVENTS
    return {"rate": count / taken, "client_us": cpu / count * 1e6, "server_us": server / count * 1e6}


def main() -> None:
    prepare()
    if len(sys.argv) > 1:
        send(sys.argv[1], sys.argv[2])
        return
    report(INTAKE, rounds({kind: partial(intake, kind) for kind in (POSTGRES, SQLITE)}))


if __name__ == "__main__":
    main()
