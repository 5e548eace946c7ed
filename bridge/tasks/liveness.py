"""Finds the tasks whose worker has vanished: those that viewers of this process watch, and no others.

A worker's main process beats on the topic `events.WORKERS`. Who watches beats there too, and only its own
beats, as they come back, move the clock by which the others are missed: while the backend is away, or this
process is held up, no time passes. No clocks of two machines are compared.
"""

import hashlib
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from bridge.backends.base import Item, States
from bridge.channel.transport import Transport
from bridge.errors import PositionLost, SubscriptionClosed
from bridge.model.publication import Publication
from bridge.support.tokens import new_token
from bridge.tasks import events
from bridge.tasks import heartbeats as beats
from bridge.tasks.missing_worker import MissingWorkerCheck
from bridge.tasks.publisher import BackgroundPublisher

TURN = 1.0
"""Seconds between two turns, and the most that one beat of our own moves the clock, times two."""

AT_ONCE = 1000
"""Tasks told of in one turn."""

PRUNE_EVERY = 60
"""Turns after which tasks that nobody watches any more are forgotten."""

_AT_WORKERS = frozenset({"RECEIVED", "STARTED", "STALLED"})

_Event = Mapping[str, Any]


class _Worker:
    """The main process of a worker, and the tasks that it has."""

    def __init__(self, stalls_after: float, heard: float) -> None:
        self.stalls_after = stalls_after
        self.heard = heard
        self.number = 0
        self.beats_since_silence = 0
        self.gone = False
        self.running: dict[str, _Event] = {}
        self.stalled: dict[str, _Event] = {}

    def lost(self) -> list[str]:
        """The tasks that are no longer run; after a goodbye, those only received are queued again."""
        return [
            task for task, event in self.running.items() if not (self.gone and event["state"] == "RECEIVED")
        ]


class Watch:
    """Which tasks are with which worker, and which of these have fallen silent. No I/O, one thread."""

    def __init__(self) -> None:
        self.workers: dict[str, _Worker] = {}
        self._having: dict[str, str] = {}
        self._clock = 0.0
        # So that of many who watch one is first, and the others see what it said.
        self._patience = random.uniform(0.0, TURN)

    def see(self, items: Sequence[Item]) -> None:
        """Note what `items`, on their way to viewers, say of tasks."""
        for item in items:
            if isinstance(item, States):
                for state in item.states:
                    payload = events.last_state(state.fields)
                    if b'"process"' in payload:  # most have ended: not worth reading
                        self._note(payload)
                    else:
                        self._forget(events.task_of(state.topic) or "")
            elif events.says_state(item):
                self._note(item)

    def _note(self, payload: bytes) -> None:
        event = events.decode(payload)
        if event is None:
            return
        task, process, state = event["task"], event.get("process"), event.get("state")
        if state == "RETRY" and self._attempt(task) > event.get("attempt", 1):
            return  # told late: a worker has the next attempt
        self._forget(task)
        if isinstance(process, str) and state in _AT_WORKERS:
            limit = event.get("stalls_after")
            worker = self.workers.get(process)
            if worker is None and isinstance(limit, int | float):
                worker = self.workers[process] = _Worker(limit, self._clock)
            if worker is not None:
                self._having[task] = process
                (worker.stalled if state == "STALLED" else worker.running)[task] = event

    def _attempt(self, task: str) -> int:
        """The attempt of a task that is with a worker, 0 if it is with none."""
        worker = self.workers.get(self._having.get(task, ""))
        event = worker and (worker.running.get(task) or worker.stalled.get(task))
        return event.get("attempt", 1) if event else 0

    def _forget(self, task: str) -> None:
        worker = self.workers.get(self._having.pop(task, ""))
        if worker is not None:
            worker.running.pop(task, None)
            worker.stalled.pop(task, None)

    def heard(self, process: str, number: int, *, gone: bool) -> None:
        """Note a beat."""
        worker = self.workers.get(process)
        if worker is not None:
            worker.heard, worker.gone = self._clock, gone
            worker.beats_since_silence += 1
            worker.number = number

    def tick(self, seconds: float) -> None:
        """Let time pass in which beats were heard, had there been any."""
        self._clock += seconds

    def prune(self, watched: Collection[str]) -> None:
        """Forget tasks whose topic is not watched any more, and workers without tasks."""
        if events.FEED not in watched:
            for task in [task for task in self._having if events.task_topic(task) not in watched]:
                self._forget(task)
        for process in [name for name, has in self.workers.items() if not (has.running or has.stalled)]:
            del self.workers[process]

    def due(self) -> Iterator[tuple[_Event, str, int]]:
        """Yield the last event of each task whose state has changed, its state, and the beat last heard."""
        for worker in self.workers.values():
            if self._clock - worker.heard > worker.stalls_after + self._patience:
                worker.beats_since_silence = 0
                for task in worker.lost()[:AT_ONCE]:
                    event = worker.running.pop(task)
                    worker.stalled[task] = {**event, "state": "STALLED", "was": event["state"]}
                    yield event, "STALLED", worker.number
            elif worker.beats_since_silence > 1:
                # Not at the first beat: what else the worker has to say is on its way.
                for task in list(worker.stalled)[:AT_ONCE]:
                    event = worker.stalled.pop(task)
                    state = "RECEIVED" if event.get("was") == "RECEIVED" else "STARTED"
                    worker.running[task] = {**event, "state": state}
                    yield event, state, worker.number


class LivenessMonitor:
    """Tells of the tasks that `Watch` finds. A member of the hub; lives in the thread of the loop."""

    topics = frozenset({events.WORKERS})
    stateful = opens_with_state = False

    def __init__(self, transport: Transport, do: Callable[..., None]) -> None:
        self._transport = transport
        self._do = do
        self._publisher = BackgroundPublisher(transport)
        self._closed = False
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        self._me = new_token().decode()
        self._watch = Watch()
        self._silence = MissingWorkerCheck(self._transport.location)
        self._joined = False
        self._turns = 0
        self._echo = time.monotonic()
        self._passed = 0.0  # since the last turn, by that clock

    def see(self, items: Sequence[Item]) -> None:
        """Note what `items`, on their way to viewers, say of tasks."""
        self._watch.see(items)
        self._silence.see(items)

    def turn(self, watched: Callable[[], Collection[str]]) -> None:
        """Beat, and tell of tasks whose worker has vanished or come back; call it every `TURN` seconds."""
        if self._closed or not (self._watch.workers or self._silence.waits):
            return
        passed, self._passed = self._passed, 0.0
        if self._silence.waits:
            self._silence.tick(passed, watched())
        self._turns += 1
        if not self._joined:
            self._joined = True
            try:
                self._transport.hub.join(self)
            except SubscriptionClosed:
                self._closed = True  # the application closes the channel before its viewers have gone
                return
        if not self._publisher.down:
            self._publisher.put(Publication(events.WORKERS, events.beat(self._me, None, self._turns)))
        if self._turns % PRUNE_EVERY == 0:
            self._watch.prune(watched())
        found = list(self._watch.due())
        topics = watched() if found else ()
        for event, state, number in found:
            topic = events.task_topic(event["task"])
            # Of what nobody watches, this process does not know whether it is still so.
            if topic in topics or events.FEED in topics:
                self._tell(topic, event, state, number)

    def _tell(self, topic: str, event: _Event, state: str, number: int) -> None:
        said: dict[str, Any] = {
            key: event.get(key) for key in ("name", "worker", "process", "stalls_after", "attempt")
        }
        was = event["state"] if state == "STALLED" else None
        made = events.make("state", event["task"], state=state, resumed=was is None, was=was, **said)
        # The same for all who find the same, so that it is said once.
        token = hashlib.blake2b(f"{topic} {state} {said} {number}".encode(), digest_size=8).hexdigest()
        made.token, made.repeated = token.encode(), True
        self._publisher.put(made)

    def _beats(self, items: Sequence[Item]) -> None:
        now = time.monotonic()
        for item in items:
            if isinstance(item, States) or (said := events.beat_of(item)) is None:
                continue
            process, number, gone = said
            if process == self._me:
                seconds = min(now - self._echo, 2 * TURN)
                self._watch.tick(seconds)
                self._passed += seconds
                self._echo = now
            else:
                self._watch.heard(process, number, gone=gone)
                if beats.is_of_worker(item):
                    self._silence.heard()

    # What the hub asks of a member.

    @property
    def post(self) -> Callable[[Sequence[Any], Sequence[Item]], None]:
        return self._post

    def _post(self, members: Sequence[Any], items: Sequence[Item]) -> None:
        self._do(self._beats, items)

    def establish(self, topic: str) -> None:
        """Beats that were missed before do not matter."""

    def room(self, items: Sequence[Item]) -> int:
        return len(items)

    def fail(self, reason: SubscriptionClosed) -> None:
        self._closed = not isinstance(reason, PositionLost)
        self._joined = False
