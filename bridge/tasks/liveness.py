"""Publishes STALLED when the worker of a task has vanished, for tasks that viewers of this process watch.

A worker's main process publishes heartbeats on the topic `WORKERS`. A process with viewers publishes
heartbeats there too. Its clock for the others advances only when it receives its own heartbeats. So no time
passes while the backend cannot be reached or this process is delayed. Clocks of machines are not compared.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from bridge.backends.base import Item, States
from bridge.channel.transport import Transport
from bridge.errors import PositionLost, SubscriptionClosed
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.support.tokens import new_token
from bridge.tasks.changes import publication
from bridge.tasks.event_types import State
from bridge.tasks.events import carries_events, decode, is_followed, task_of, task_topic, type_of
from bridge.tasks.feed_limit import leave_feed
from bridge.tasks.heartbeats import WORKERS, Heartbeat, decode_heartbeat
from bridge.tasks.missing_worker import MissingWorkerCheck
from bridge.tasks.publisher import BackgroundPublisher
from bridge.tasks.snapshot import current_state, has_ended
from bridge.tasks.workers import Finding, WorkerTracker

# Any: the readers that the hub hands to `_post`, all of them this monitor.

TICK = 1.0
"""Seconds between two ticks. One heartbeat of our own moves the clock by two of them at most."""

PRUNE_EVERY = 60
"""Ticks after which tasks that nobody watches any more are forgotten."""


class LivenessMonitor:
    """Publishes the findings of a `WorkerTracker`. It is a reader of the hub, in the thread of the loop."""

    topics = frozenset({WORKERS})
    stateful = opens_with_state = False

    def __init__(self, transport: Transport, do: Callable[..., None]) -> None:
        self._transport = transport
        self._do = do
        self._publisher = BackgroundPublisher(transport)
        self._closed = False
        self.stalls = 0
        """How many tasks this process has found STALLED."""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        self._process = new_token().decode()
        self.workers = WorkerTracker()
        self.missing = MissingWorkerCheck(self._transport.location)
        self._joined = False
        self._ticks = 0
        self._echo_at = time.monotonic()
        self._passed = 0.0  # since the last tick, by that clock

    @property
    def misses_worker(self) -> bool:
        """Whether a watched task waits, and no worker is heard."""
        return self.missing.missing

    def see(self, items: Sequence[Item]) -> None:
        """Note the states of tasks in `items`, which are sent to viewers."""
        for item in items:
            if isinstance(item, States):
                self._see_states(item)
            elif type_of(item) == "state" and carries_events(item.topic):
                event = decode(item)
                if isinstance(event, State):
                    self.workers.note(event)
                    self.missing.note(
                        task_topic(event.task), pending=event.state == "PENDING", tags=event.tags or ()
                    )

    def _see_states(self, read: States) -> None:
        unknown = task_of(read.topic) is not None
        for state in read.states:
            unknown = unknown and state.topic != read.topic
            event = None if has_ended(state) else current_state(state)
            if event is not None:
                self.workers.note(event)
            else:
                self.workers.forget(task_of(state.topic) or "")
            pending = not has_ended(state) and (event is None or event.state == "PENDING")
            self.missing.note(state.topic, pending=pending, tags=(event and event.tags) or ())
        if unknown:
            self.missing.note(read.topic, pending=True)

    def tick(self, watched: Callable[[], Collection[str]]) -> None:
        """Publish a heartbeat, and what was found since the last call. Call it every `TICK` seconds.

        `watched` returns the topics that viewers of this process watch.
        """
        if self._closed or not (self.workers.workers or self.missing.waits):
            return
        passed, self._passed = self._passed, 0.0
        if self.missing.waits:
            self.missing.pass_time(passed, watched())
        self._ticks += 1
        if not self._join():
            return
        if not self._publisher.down:
            heartbeat = Heartbeat(self._process, None, self._ticks)
            self._publisher.put(Publication(WORKERS, heartbeat.encode()))
        if self._ticks % PRUNE_EVERY == 0:
            self.workers.prune(watched())
        findings = list(self.workers.findings())
        topics = watched() if findings else ()
        for finding in findings:
            # This process may have missed later events of a task that nobody watches.
            if is_followed(finding.last, topics):
                self._publish(finding)

    def stop(self) -> None:
        """Read and publish nothing more."""
        self._closed = True
        self._transport.hub.leave(self)
        self._publisher.stop()

    def _join(self) -> bool:
        """Read the heartbeats, unless this is done already; return whether the channel is open."""
        if not self._joined:
            self._joined = True
            try:
                self._transport.hub.join(self)
            except SubscriptionClosed:
                self._closed = True  # the application closes the channel before its viewers leave
        return not self._closed

    def _publish(self, finding: Finding) -> None:
        last, state = finding.last, finding.state
        stalled = state == "STALLED"
        self.stalls += stalled
        event = State(
            last.task,
            state=state,
            attempt=last.attempt or 1,
            resumed=None if stalled else True,
            was=last.state if stalled else None,
            name=last.name,
            worker=last.worker,
            process=last.process,
            stalls_after=last.stalls_after,
            canvas_id=last.canvas_id,
            tags=last.tags,
        )
        message = publication(event)
        if not finding.feed:
            leave_feed(message)
        # The token is the same in all processes that find the same, so that it is published once.
        found = (last.task, state, last.process, last.attempt, finding.heartbeat)
        message.token = hashlib.blake2b(repr(found).encode(), digest_size=8).hexdigest().encode()
        message.repeated = True
        self._publisher.put(message)

    def _hear(self, items: Sequence[Item]) -> None:
        """Note the heartbeats among `items`."""
        now = time.monotonic()
        for item in items:
            heartbeat = decode_heartbeat(item) if isinstance(item, Message) else None
            if heartbeat is None:
                continue
            if heartbeat.process == self._process:
                seconds = min(now - self._echo_at, 2 * TICK)
                self.workers.pass_time(seconds)
                self._passed += seconds
                self._echo_at = now
            else:
                self.workers.heard(heartbeat)
                if heartbeat.worker is not None:
                    self.missing.heard()

    # The methods of a reader, which the hub calls.

    @property
    def post(self) -> Callable[[Sequence[Any], Sequence[Item]], None]:
        return self._post

    def _post(self, readers: Sequence[Any], items: Sequence[Item]) -> None:
        self._do(self._hear, items)

    def establish(self, topic: str) -> None:
        """Do nothing: earlier heartbeats do not matter."""

    def room(self, items: Sequence[Item]) -> int:
        return len(items)

    def fail(self, reason: SubscriptionClosed) -> None:
        self._closed = not isinstance(reason, PositionLost)
        self._joined = False
