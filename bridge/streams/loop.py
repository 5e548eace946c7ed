"""The loop: one thread that serves every viewer of a process. This module is how other threads use it.

`selector_thread.py` is the thread, `connections.py` what it does for each viewer.
"""

import atexit
import selectors
import time
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from typing import Protocol

from bridge.backends.base import Item, size_of
from bridge.channel.transport import Transport
from bridge.errors import SubscriptionClosed
from bridge.streams.access.grant import Grant
from bridge.streams.backlog_memory import BacklogMemory
from bridge.streams.connections import Connections
from bridge.streams.counts import StreamCounts
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder, opens_with_state
from bridge.streams.grants import come_back
from bridge.streams.limits import Client, ViewerLimits
from bridge.streams.selector_thread import SelectorThread
from bridge.streams.silence import HEARTBEAT, NO_WORKER
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.tracing import StreamTraces
from bridge.streams.viewer import Viewer
from bridge.streams.wheel import TICK
from bridge.support.fork import reset_in_child
from bridge.support.memory import BUDGET
from bridge.support.server import while_ending
from bridge.support.tracing import tracer

ADOPTED_AT_ONCE = 50
"""Viewers that may wait to be adopted, for a second at most, before anything is to be sent to them."""

WINDOWS = 64 * 1024 * 1024
"""Bytes of history and state that may be in transit to all viewers together, ...

If a quarter of the memory budget is less, that counts.
"""

WINDOW, SMALLEST_WINDOW = 256 * 1024, 16 * 1024
"""... and to one of them, however few or many there are."""

STOP_WITHIN = 1.0
"""Seconds that ending every stream may take when the process ends."""


class Observer(Protocol):
    """Sees what goes to the viewers of a process. Only the loop's thread calls it."""

    @property
    def misses_worker(self) -> bool:
        """Whether a watched task waits, and no worker is heard."""
        ...

    def see(self, items: Sequence[Item]) -> None:
        """Note `items`, which are about to be sent."""
        ...

    def tick(self, watched: Callable[[], Collection[str]]) -> None:
        """Do what is due. Called once a second; `watched` returns the topics of all viewers."""
        ...


class Loop:
    """Serves the viewers of one channel. Its thread starts with the first viewer."""

    def __init__(self, transport: Transport, *, heartbeat: float, backlog: int, limits: ViewerLimits) -> None:
        """`heartbeat` is in seconds, `backlog` in bytes of live events that may wait for a viewer."""
        self._transport = transport
        self._backlog = backlog
        self.thread = SelectorThread("bridge-viewers")
        self.counts = StreamCounts()
        """What happened to the viewers, for metrics."""
        self._connections = Connections(
            transport, self.thread, heartbeat=heartbeat, backlog=backlog, limits=limits, counts=self.counts
        )
        self._memory = BacklogMemory(self._connections, self.thread)
        self.limits = limits
        self.observer: Observer | None = None
        self.on_open: Callable[[Viewer], None] | None = None
        """Called with each viewer that has joined its topics, in the thread that opens it."""
        self._traces = StreamTraces()
        self._taken_over = 0
        reset_in_child(self)
        atexit.register(self.stop)

    def reset_after_fork(self) -> None:
        """The connections are the parent's: the child closes only its copies of the descriptors."""
        viewers = self._connections.viewers
        self._connections.reset()
        self._memory.reset()
        self._traces.reset_after_fork()
        self.thread.reset_after_fork()
        for viewer in viewers:
            if viewer.socket is not None:
                viewer.socket.close()

    # Any thread.

    @property
    def window(self) -> int:
        """Bytes of history and state that may be in transit to one viewer."""
        windows = min(WINDOWS, BUDGET.limit // 4)
        share = max(SMALLEST_WINDOW, windows // max(1, len(self._connections.viewers)))
        return min(WINDOW, share, self._backlog // 2)

    @property
    def silence(self) -> bytes:
        """What a silent viewer without a connection of its own gets."""
        return self._connections.silence.raw

    def post(self, viewers: Sequence[Viewer], items: Sequence[Item]) -> None:
        """Have `items` of one topic sent to `viewers`. Waits if the loop has much to send already."""
        size = sum(map(size_of, items))
        self.thread.do(self._deliver, viewers, items, size)
        self._memory.post(size)

    def open(
        self, topics: Sequence[str], cursor: Cursor, client: Client, grant: Grant | None = None
    ) -> Viewer:
        """Begin a stream for a viewer that the limits have counted, and subscribe to its topics.

        Without `grant` the stream may go on for ever.

        Raises `SubscriptionClosed` after the channel was closed.
        """
        is_started = self.thread.selector is not None
        if not is_started and self.thread.start(self._connections.serve, self._tick, every=TICK):
            # gunicorn leaves an aborted worker no time for `atexit`, and uvicorn waits for open streams.
            while_ending(self.end)
        replays = self._transport.backend.replays
        # The text of one topic is the same for all its viewers, and rendered once.
        encoder = Encoder(topics, cursor, with_ids=replays) if len(topics) > 1 else None
        unfinished = frozenset(cursor.unfinished(topics)) if cursor.ended else _as_set(tuple(topics))
        with_state = opens_with_state(unfinished, cursor)
        viewer = Viewer(self, unfinished, encoder, client, grant, opens_with_state=with_state)
        viewer.finished = not unfinished
        self._connections.viewers.add(viewer)
        try:
            self._transport.hub.join(viewer, cursor.after if replays else None)
        except SubscriptionClosed:
            self._connections.viewers.discard(viewer)
            raise
        if grant is not None:
            self._connections.grants.add(viewer)
        if self.on_open is not None:
            self.on_open(viewer)
        self.counts.note_opened()
        if replays and cursor.after:
            self.counts.returns(viewer)
        self._traces.opened(viewer, resumes=bool(cursor.after))
        return viewer

    def adopt(self, viewer: Viewer, connection: TakenConnection, resets: bytes) -> None:
        """Serve a viewer through its own connection from now on. `resets` is sent before anything else."""
        self._taken_over += 1
        self.thread.inbox.append((self._connections.adopt, (viewer, connection, resets)))
        # With nothing to send the viewer can wait: waking the thread for each of many is expensive.
        to_send = resets or connection.unsent or viewer.backlog or viewer.finished
        if to_send or len(self.thread.inbox) > ADOPTED_AT_ONCE:
            self.thread.wake()

    def announce_room(self, viewer: Viewer) -> None:
        """Note that something was taken from a viewer that has no connection of its own."""
        self.thread.do(self._connections.announce_room, viewer)

    def close(self, viewer: Viewer) -> None:
        """Close a viewer that was not adopted, and unsubscribe it at once."""
        self._transport.hub.leave(viewer)
        self._connections.viewers.discard(viewer)
        self.discard(viewer, "left")

    def discard(self, viewer: Viewer, reason: str) -> None:
        """Have the loop's thread close a viewer. `reason` is one word for metrics."""
        self.thread.do(self._connections.drop, viewer, reason)

    def end_some(self, viewers: Sequence[Viewer], reason: str) -> None:
        """Have streams ended that may not go on."""
        self.thread.do(self._end_some, viewers, reason)

    def end(self) -> None:
        """End every stream. The browsers reconnect at different times."""
        self.thread.do(self._end_all)

    def stop(self) -> None:
        """End every stream, with what waits for it, and then the thread."""
        if self.thread.selector is not None:
            self.end()
            self.thread.do(self._send_the_rest)
            self.thread.join(STOP_WITHIN)

    def stats(self) -> dict[str, int]:
        """Return what the loop counts, by name."""
        return {
            "viewers": len(self._connections.viewers),
            "viewers_opened": self.counts.opened,
            "viewers_cut_off": self._connections.cut_off,
            "viewers_cut_off_for_memory": self._memory.closed,
            "viewers_refused": self.limits.refused,
            "viewers_handed_over": self._taken_over,
        }

    # The loop's thread.

    def _deliver(self, viewers: Sequence[Viewer], items: Sequence[Item], size: int) -> None:
        try:
            if self.observer is not None:
                self.observer.see(items)
            self._connections.deliver(viewers, items)
            if tracer() is not None:
                self._traces.delivered(viewers, items)
        finally:
            self._memory.delivered(size)

    def _tick(self) -> None:
        try:
            self._connections.tick()
            self._connections.grants.tick()
            self._memory.tick()
            # Behind what is in the inbox, which may belong to a stream that opens.
            for waiting in (self.counts, self._traces):
                if waiting.waits:
                    self.thread.do(waiting.settle)
        finally:
            if self.observer is not None:
                self.observer.tick(self._watched)
                self._connections.silence = NO_WORKER if self.observer.misses_worker else HEARTBEAT

    def _watched(self) -> set[str]:
        """Return the topics of all viewers."""
        return set().union(*(viewer.topics for viewer in list(self._connections.viewers)))

    def end_where(self, is_over: Callable[[Viewer], bool], reason: str) -> None:
        """End the streams of the viewers for which `is_over` returns true."""
        self._end_some([viewer for viewer in list(self._connections.viewers) if is_over(viewer)], reason)

    def _end_some(self, viewers: Sequence[Viewer], reason: str) -> None:
        for viewer in viewers:
            if not viewer.finished:
                self._connections.grants.end(viewer, reason)

    def _end_all(self) -> None:
        for viewer in list(self._connections.viewers):
            if viewer.finished:
                continue
            self._connections.write(viewer, come_back("restart"))

    def _send_the_rest(self) -> None:
        """Send what waits, for a bounded time, and stop the thread."""
        selector = self.thread.selector
        deadline = time.monotonic() + STOP_WITHIN / 2
        viewers = self._connections.viewers
        while selector is not None and time.monotonic() < deadline:
            if not any(viewer.backlog and viewer.socket for viewer in list(viewers)):
                break
            for key, mask in selector.select(0.05):
                if key.data is not None and mask & selectors.EVENT_WRITE:
                    self._connections.flush(key.data)
        self.thread.stop()


@lru_cache(1000)
def _as_set(topics: tuple[str, ...]) -> frozenset[str]:
    """Return the topics of a viewer. Many viewers have the same, and share the set."""
    return frozenset(topics)
