"""`bridge stats`: count what the backend keeps."""

import time
from collections import Counter
from typing import Any  # Any: the values of a JSON object

import click

from bridge.backends.base import Listing
from bridge.channel.transport import Transport, transport_of
from bridge.cli.json_lines import print_object
from bridge.cli.target import Target, takes_url
from bridge.cli.terminal import console, is_terminal, state_text, table
from bridge.cli.text import plain
from bridge.tasks.events import FEED, task_of
from bridge.tasks.snapshot import read_snapshot

MOST = 10_000
"""Tasks, and topics, that are counted at most."""


@click.command("stats")
@takes_url()
def command(target: Target) -> None:
    """Count the newest tasks by state and by name, and the topics.

    What one web process counts, such as its viewers, is in its own stats().
    """
    with target.open() as channel:
        found = figures(transport_of(channel))
    if not is_terminal():
        print_object(found)
        return
    rows = table("what", "count")
    for name, value in found.items():
        if not isinstance(value, dict):
            rows.add_row(name, f"{value:,}")
    for state, count in found["states"].items():
        rows.add_row(state_text(state), f"{count:,}")
    for task, count in found["names"].items():
        rows.add_row(plain(task), f"{count:,}")
    console().print(rows)


def figures(transport: Transport) -> dict[str, Any]:
    """Return the figures by name. Raises `ConnectionLost`."""
    started = time.perf_counter()
    transport.backend.ping()
    found: dict[str, Any] = {"round_trip_ms": round(1000 * (time.perf_counter() - started), 2)}
    backend = transport.backend
    if backend.replays and isinstance(backend, Listing):
        found["topics"] = len(backend.topics(MOST).names)
    states, names = Counter[str](), Counter[str]()
    for state in transport.states(FEED, MOST):
        snapshot = read_snapshot(state, task_of(state.topic) or state.topic)
        states[snapshot.state] += 1
        names[snapshot.name or snapshot.canvas or "(unknown)"] += 1
    return {
        **found,
        "tasks": states.total(),
        "states": dict(states.most_common()),
        "names": dict(names.most_common()),
    }
