"""Which worker has which tasks, and which workers have stopped publishing heartbeats. No I/O."""

import random
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

from bridge.tasks.event_types import State
from bridge.tasks.events import FEED, is_followed
from bridge.tasks.heartbeats import Heartbeat

AT_ONCE = 1000
"""Tasks whose state is changed in one tick."""

SPREAD = 1.0
"""Seconds within which the processes that watch a worker give up on it, one after another."""

_AT_NO_WORKER = frozenset({"PENDING", "RETRY"})


class Finding(NamedTuple):
    """A task whose state changes because its worker has vanished, or publishes again."""

    last: State
    """The last event of the task."""
    state: str
    """The state that the task is in now."""
    heartbeat: int
    """The number of the last heartbeat."""
    feed: bool
    """Whether the feed of all tasks gets the events of the task."""


class _Worker:
    """The main process of a worker, and the tasks that it has."""

    def __init__(self, stalls_after: float, heard_at: float) -> None:
        self.stalls_after = stalls_after
        self.heard_at = heard_at
        self.heartbeat = 0
        self.heartbeats_since_silence = 0
        self.ended = False
        self.feed = True
        self.running: dict[str, State] = {}
        self.stalled: dict[str, State] = {}

    def lost(self) -> list[str]:
        """Return the tasks that are lost. An ended worker requeues those that it had only received."""
        return [
            task for task, event in self.running.items() if not (self.ended and event.state == "RECEIVED")
        ]


class WorkerTracker:
    """Keeps the tasks of each worker and the time of its last heartbeat. For one thread."""

    def __init__(self) -> None:
        self.workers: dict[str, _Worker] = {}
        self._process_of: dict[str, str] = {}
        self._clock = 0.0
        # One of the many that watch gives up first, and the others see what it publishes.
        self._patience = random.uniform(0.0, SPREAD)

    def note(self, event: State) -> None:
        """Note the state that a task is in."""
        if event.state == "RETRY" and self._attempt(event.task) > (event.attempt or 1):
            return  # It is late: a worker already has the next attempt.
        self.forget(event.task)
        if event.process is None or event.ended or event.state in _AT_NO_WORKER:
            return
        worker = self.workers.get(event.process)
        if worker is None and event.stalls_after is not None:
            worker = self.workers[event.process] = _Worker(event.stalls_after, self._clock)
        if worker is not None:
            self._process_of[event.task] = event.process
            tasks = worker.stalled if event.state == "STALLED" else worker.running
            tasks[event.task] = event

    def _attempt(self, task: str) -> int:
        """The attempt of a task that is with a worker, 0 if it is with none."""
        worker = self.workers.get(self._process_of.get(task, ""))
        event = worker and (worker.running.get(task) or worker.stalled.get(task))
        return event.attempt or 1 if event else 0

    def forget(self, task: str) -> None:
        """Note that a task is with no worker, or that its worker does not matter any more."""
        worker = self.workers.get(self._process_of.pop(task, ""))
        if worker is not None:
            worker.running.pop(task, None)
            worker.stalled.pop(task, None)

    def heard(self, heartbeat: Heartbeat) -> None:
        """Note a heartbeat."""
        worker = self.workers.get(heartbeat.process)
        if worker is not None:
            worker.heard_at, worker.ended = self._clock, heartbeat.last
            worker.heartbeats_since_silence += 1
            worker.heartbeat, worker.feed = heartbeat.number, heartbeat.feed

    def pass_time(self, seconds: float) -> None:
        """Add time in which heartbeats would have been received."""
        self._clock += seconds

    def prune(self, watched: Collection[str]) -> None:
        """Forget tasks whose topic is not watched any more, and workers without tasks."""
        if FEED not in watched:
            for worker in self.workers.values():
                for event in (*worker.running.values(), *worker.stalled.values()):
                    if not is_followed(event, watched):
                        self.forget(event.task)
        for process in [name for name, has in self.workers.items() if not (has.running or has.stalled)]:
            del self.workers[process]

    def findings(self) -> Iterator[Finding]:
        """Yield each task whose state has changed since the last call."""
        for worker in self.workers.values():
            if self._clock - worker.heard_at > worker.stalls_after + self._patience:
                worker.heartbeats_since_silence = 0
                for task in worker.lost()[:AT_ONCE]:
                    event = worker.running.pop(task)
                    worker.stalled[task] = replace(event, state="STALLED", was=event.state)
                    yield Finding(event, "STALLED", worker.heartbeat, worker.feed)
            elif worker.heartbeats_since_silence > 1:
                # Not at the first heartbeat: other events of the worker may be on their way.
                for task in list(worker.stalled)[:AT_ONCE]:
                    event = worker.stalled.pop(task)
                    state = event.was or "STARTED"
                    worker.running[task] = replace(event, state=state)
                    yield Finding(event, state, worker.heartbeat, worker.feed)
