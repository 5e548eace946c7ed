"""What `bridge doctor` looks at. Each finding says what is wrong, and what to do."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# `Any` in this module: a Celery app, which not every installation has.
from typing import Any

from bridge.backends.base import Listing
from bridge.channel.channel import Channel
from bridge.channel.transport import Transport, transport_of
from bridge.cli.target import Target
from bridge.errors import BridgeError
from bridge.model.publication import Publication
from bridge.support.tokens import new_token
from bridge.tasks.events import FEED, task_of
from bridge.tasks.heartbeats import WORKERS, Heartbeat, decode_heartbeat
from bridge.tasks.snapshot import read_snapshot

HEARTBEAT = 6.0
"""Seconds in which every worker with the default interval has published a heartbeat."""

MOST_TASKS = 1000
"""Tasks that are looked at."""

ANSWER_WITHIN = 1.5
"""Seconds that workers have to answer Celery's broker."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that was found."""

    level: str
    """ok, note or problem."""
    text: str
    remedy: str = ""
    """What to do. Empty if there is nothing to do."""


@dataclass(slots=True)
class Heard:
    """What was received on the topic of the heartbeats."""

    workers: set[str]
    round_trip: float | None = None
    """Seconds from a publish to its receipt, `None` if it was not received."""


def diagnose(target: Target, wait: float) -> Iterator[Finding]:
    """Yield what is found at `target`. Listens for workers for `wait` seconds at most."""
    if target.url.startswith("memory:"):
        yield Finding(
            "problem",
            "memory:// lives in one process: workers, web processes and this command do not share it",
            "use redis://, or sqlite:///bridge.db without a server",
        )
        return
    with target.open() as channel:
        transport = transport_of(channel)
        try:
            transport.backend.ping()
        except BridgeError as error:
            yield Finding(
                "problem",
                f"the backend cannot be reached: {error}",
                "see that the server runs and that this machine can reach it, or correct the URL",
            )
            return
        yield Finding("ok", "the backend answers")
        if not transport.backend.replays:
            yield Finding(
                "note",
                "this backend keeps no messages: who comes back after a lost connection gets the state of a "
                "task, but not what was said meanwhile",
                "use redis:// if that matters",
            )
        yield from _of_workers(target, channel, wait)


def _of_workers(target: Target, channel: Channel, wait: float) -> Iterator[Finding]:
    """Yield what is found of publishing, of workers and of their tasks."""
    transport = transport_of(channel)
    answering = _celery_workers(target.app)
    try:
        heard = listen(channel, wait, answering or ())
    except (BridgeError, OSError) as error:
        yield Finding("problem", f"publishing does not work: {error}")
        return
    if heard.round_trip is None:
        yield Finding(
            "problem", "a message was published, but not received", "look at the log of the backend"
        )
    else:
        yield Finding("ok", f"a message is received {1000 * heard.round_trip:.1f} ms after it is published")
    for name in sorted(heard.workers):
        yield Finding("ok", f"the worker {name} publishes here")
    if answering is not None:
        yield from _of_celery(answering, heard.workers)
    waiting, stalled = _count(transport)
    if stalled:
        yield Finding(
            "problem",
            f"STALLED tasks: {stalled:,}; their worker vanished",
            "see why it ended (out of memory, killed), and start it again",
        )
    if not heard.workers:
        yield _no_worker(target, wait, waiting)
        yield from _elsewhere(target, transport)


def _no_worker(target: Target, wait: float, waiting: int) -> Finding:
    queued = f", although {waiting:,} tasks are queued here" if waiting else ""
    return Finding(
        "problem",
        f"no worker was heard in the namespace {target.namespace!r} for {wait:g} s{queued}",
        "start a worker, and see that the module of its Celery app calls bridge.celery.install(app, url) "
        "with this URL and namespace; install() in the web process alone is not enough",
    )


def _elsewhere(target: Target, transport: Transport) -> Iterator[Finding]:
    """Yield the other namespaces of the server in which workers publish, or did."""
    backend = transport.backend
    if not (backend.replays and isinstance(backend, Listing)):
        return
    others = [name for name in backend.namespaces(WORKERS) if name != target.namespace]
    if others:
        yield Finding(
            "note",
            f"on this server workers publish, or did, in other namespaces: {', '.join(map(repr, others))}",
            f"use the same namespace everywhere, for example --namespace {others[0]} here, or "
            f"install(app, url, namespace={target.namespace!r}) in the worker",
        )


def _of_celery(answering: Iterable[str], heard: set[str]) -> Iterator[Finding]:
    """Yield which of the workers that answer Celery's broker do not publish here."""
    silent = sorted(set(answering) - heard)
    if not answering:
        yield Finding("problem", "no worker answers on the broker of this Celery app", "start a worker")
    for name in silent:
        yield Finding(
            "problem",
            f"the worker {name} answers on Celery's broker, but publishes nothing here",
            "its app does not call install(), or with another URL or namespace, or it runs an older version "
            "of the module: see that the module of the app that it was started with (-A) calls "
            "install(app), and restart it",
        )


def _celery_workers(app: Any) -> list[str] | None:
    """Return the workers that answer on the broker of a Celery app, `None` if that cannot be known."""
    if app is None:
        return None
    try:
        replies = app.control.ping(timeout=ANSWER_WITHIN)
    except Exception:  # whatever the transport of the broker raises: it is Celery's to tell
        return None
    return [name for reply in replies for name in reply]


def listen(channel: Channel, wait: float, expected: Iterable[str] = ()) -> Heard:
    """Publish a message, and return what is heard of it and of workers.

    It waits `wait` seconds at most: until all `expected` workers are heard, or without any, until a worker is
    heard and the others have had time. Raises `BridgeError`.
    """
    process, missing, heard = new_token().decode(), set(expected), Heard(set())
    with channel.topic(WORKERS).subscribe() as subscription:
        started = time.monotonic()
        transport_of(channel).publish(Publication(WORKERS, Heartbeat(process, None, 1).encode()))
        while (passed := time.monotonic() - started) < wait:
            enough = heard.workers >= missing if missing else heard.workers and passed >= HEARTBEAT
            if enough and heard.round_trip is not None:
                break
            message = subscription.receive(timeout=0.2)
            heartbeat = decode_heartbeat(message) if message is not None else None
            if heartbeat is None:
                continue
            if heartbeat.process == process:
                heard.round_trip = time.monotonic() - started
            elif heartbeat.worker is not None and not heartbeat.last:
                heard.workers.add(heartbeat.worker)
    return heard


def _count(transport: Transport) -> tuple[int, int]:
    """Return how many of the newest tasks are queued, and how many are stalled."""
    states = Counter(
        read_snapshot(state, task_of(state.topic) or "").state for state in transport.states(FEED, MOST_TASKS)
    )
    return states["PENDING"], states["STALLED"]
