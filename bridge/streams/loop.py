"""The loop: one thread that sends to every viewer of a process.

Text is made once for all viewers of a topic and sent with one call each, without waiting; what a connection
does not take at once waits in that viewer's backlog, which is bounded.
"""

import atexit
import logging
import random
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any

from bridge.backends.base import Item, size_of
from bridge.channel.channel import Channel
from bridge.errors import SubscriptionClosed
from bridge.streams import sse
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder
from bridge.streams.limits import ViewerLimits
from bridge.streams.rendering import LargeText, Renderer, Text, make_text
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.viewer import Viewer
from bridge.support.fork import reset_in_child
from bridge.support.server import while_ending
from bridge.tasks.liveness import LivenessMonitor

logger = logging.getLogger("bridge.streams.loop")

TICK = 1.0
"""Seconds between two turns of the wheel that looks after silent viewers."""

ADOPTED_AT_ONCE = 50
"""Viewers that may wait to be adopted, for a second at most, before anything is to be sent to them."""

LARGE_TEXTS = 64 * 1024 * 1024
"""Bytes of large texts, of states above all, that may wait for viewers; the newest may be larger alone."""

WINDOWS = 64 * 1024 * 1024
"""Bytes of history and state that may be on their way to all viewers together, ..."""

WINDOW, SMALLEST_WINDOW = 256 * 1024, 16 * 1024
"""... and to one of them, however few or many there are."""

STOP_WITHIN = 1.0
"""Seconds that ending every stream may take when the process ends."""

# The end of the connection goes out in one packet with the last data: else a client that keeps connections
# might take this one for another request in between.
_WITH_END = getattr(socket, "MSG_MORE", 0)


class Loop:
    """Serves the viewers of one channel. Its thread starts with the first of them."""

    def __init__(self, channel: Channel, *, heartbeat: float, backlog: int, limits: ViewerLimits) -> None:
        self._channel = channel
        self._limits = limits
        self._heartbeat = heartbeat
        self.backlog = backlog
        self.opened = self.cut_off = self.taken_over = 0
        self._liveness = LivenessMonitor(channel, self.do)
        self._reset()
        reset_in_child(self)
        atexit.register(self.stop)

    def _reset(self) -> None:
        self.viewers: set[Viewer] = set()
        self._inbox: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._lock = threading.Lock()  # Guards the starting of the thread.
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._wake: socket.socket | None = None
        self._woken = False
        self._selector: Any = None
        self._now = time.monotonic()
        # The viewers to look at, by the turn in which it is their time.
        self._wheel: deque[set[Viewer]] = deque(
            set() for _ in range(max(1, round(self._heartbeat / TICK)) + 1)
        )
        self._renderer = Renderer(with_ids=self._channel.replays)

    def reset_after_fork(self) -> None:
        """The connections are the parent's: only the descriptors are closed here."""
        viewers, selector = self.viewers, self._selector
        self._reset()
        if selector is not None:
            selector.close()
        for viewer in viewers:
            if viewer.socket is not None:
                viewer.socket.close()

    # Any thread.

    @property
    def window(self) -> int:
        """Bytes of history and state that may be on their way to one viewer."""
        share = max(SMALLEST_WINDOW, WINDOWS // max(1, len(self.viewers)))
        return min(WINDOW, share, self.backlog // 2)

    def do(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have the loop's thread do `work`."""
        self._inbox.append((work, arguments))
        self._awake()

    def _awake(self) -> None:
        if not self._woken:
            self._woken = True
            wake = self._wake
            if wake is not None:
                with suppress(OSError):  # full: it will wake; closed: nobody is left
                    wake.send(b"w")

    def post(self, viewers: Sequence[Viewer], items: Sequence[Item]) -> None:
        """Have `items` sent to `viewers`."""
        self.do(self._deliver, viewers, items)

    def open(self, topics: Sequence[str], start: Cursor, address: str) -> Viewer:
        """Begin a stream for a viewer who has taken a seat; it subscribes at once.

        Raises `SubscriptionClosed` after the channel was closed.
        """
        self._start()
        replays = self._channel.replays
        # What one topic says is the same for all its viewers, and made once for them.
        encoder = Encoder(topics, start, with_ids=replays) if len(topics) > 1 else None
        running = frozenset(start.unfinished(topics))
        viewer = Viewer(self, running, encoder, address)
        viewer.over = not running
        self.viewers.add(viewer)
        try:
            self._channel.join(viewer, start.after if replays else None)
        except SubscriptionClosed:
            self.viewers.discard(viewer)
            raise
        self.opened += 1
        return viewer

    def adopt(self, viewer: Viewer, taken: TakenConnection, anew: bytes) -> None:
        """Serve a viewer through its own connection from now on; it gets `anew` before anything else."""
        self.taken_over += 1
        self._inbox.append((self._adopt, (viewer, taken, anew)))
        # With nothing to send it can wait: waking the thread for each of many who come together is dear.
        to_send = anew or taken.unsent or viewer.pending or viewer.over
        if to_send or len(self._inbox) > ADOPTED_AT_ONCE:
            self._awake()

    def close(self, viewer: Viewer) -> None:
        """Let go of a viewer that was not adopted."""
        self._channel.leave(viewer)
        self.viewers.discard(viewer)
        self.do(self.drop, viewer)

    def end(self) -> None:
        """End every stream, and let the browsers come back at different times."""
        self.do(self._end_all)

    def stop(self) -> None:
        """End every stream, with what is on its way, and then the thread."""
        if self._thread is not None:
            self.end()
            self.do(self._send_the_rest)
            self._stopped.wait(STOP_WITHIN)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                woken, self._wake = socket.socketpair()
                woken.setblocking(False)
                self._wake.setblocking(False)
                self._selector = selectors.DefaultSelector()
                self._selector.register(woken, selectors.EVENT_READ)
                self._thread = threading.Thread(
                    target=self._run, args=(woken,), name="bridge-viewers", daemon=True
                )
                self._thread.start()
                # gunicorn leaves an aborted worker no time for `atexit`, and uvicorn waits for open streams.
                while_ending(self.end)

    # Everything below runs in the loop's thread.

    def _run(self, woken: socket.socket) -> None:
        turn_at = time.monotonic() + TICK
        selector = self._selector
        # gevent carries a copy of this thread into a forked child, where another selector takes its place.
        while not self._stopped.is_set() and self._selector is selector:
            ready = selector.select(max(0.0, turn_at - time.monotonic()) if not self._inbox else 0)
            self._now = time.monotonic()
            for key, mask in ready:
                if key.data is None:
                    with suppress(BlockingIOError):
                        woken.recv(4096)
                else:
                    self._safely(self._serve, key.data, mask)
            self._woken = False
            for _ in range(len(self._inbox)):
                work, arguments = self._inbox.popleft()
                self._safely(work, *arguments)
            if self._now >= turn_at:
                turn_at += TICK
                self._safely(self._turn)
                self._safely(self._liveness.turn, self._watched)

    @staticmethod
    def _safely(work: Callable[..., None], *arguments: Any) -> None:
        """What goes wrong with one viewer must not end the others."""
        try:
            work(*arguments)
        except Exception:
            logger.exception("a viewer could not be served")

    def _serve(self, viewer: Viewer, mask: int) -> None:
        """Do what a viewer's connection is ready for."""
        if mask & selectors.EVENT_WRITE:
            self._flush(viewer)
        if mask & selectors.EVENT_READ and not viewer.gone:
            self._listen(viewer)

    def _deliver(self, viewers: Sequence[Viewer], items: Sequence[Item]) -> None:
        text = None
        size = 0
        large = len(self._renderer.large)
        self._liveness.see(items)
        for viewer in viewers:
            granted = viewer.granted != viewer.arrived
            if viewer.encoder is not None:
                self._write(viewer, self._renderer.for_one(viewer.encoder, items), live=not granted)
            else:
                if text is None:
                    text = self._renderer.for_all(items, viewer.opens_with_state)
                self._write(viewer, text, live=not granted)
            if granted:
                size = size or sum(map(size_of, items))
                viewer.take_note(size)
                self.tell_of_room(viewer)
        if len(self._renderer.large) > large:
            self._make_room()

    def _write(self, viewer: Viewer, text: Text | LargeText, *, live: bool = True) -> None:
        if viewer.gone or viewer.over:
            return
        waited = viewer.live
        if isinstance(text, LargeText):
            self._write_pieces(viewer, text, live)
        elif viewer.pending is None and viewer.socket is not None and text.raw:
            viewer.over = text.over
            self._send(viewer, text.chunked if viewer.chunked else text.raw, text.progress, live)
        elif text.raw:
            self._put(viewer, text.raw, text.chunked, text.progress, text.over, live)
        # One text may be larger than the backlog: only with others before it is the viewer too slow.
        if waited and viewer.live > self.backlog:
            self._cut_off(viewer, f"it does not read, and {viewer.live:,} bytes wait for it")

    def _write_pieces(self, viewer: Viewer, text: LargeText, live: bool) -> None:
        framed = viewer.socket is not None and viewer.chunked
        pieces = text.pieces(chunked=framed)
        for place, data in enumerate(pieces):
            over = text.over and place == len(pieces) - 1
            if viewer.pending is None and viewer.socket is not None and not viewer.gone:
                viewer.over = over
                self._send(viewer, data, None, live)
            else:
                self._put(viewer, data, data, None, over, live, (text, place))

    @staticmethod
    def _put(
        viewer: Viewer,
        raw: bytes,
        chunked: bytes,
        progress: str | None,
        over: bool,
        live: bool,
        piece: Any = None,
    ) -> None:
        """Let a text wait for the viewer."""
        if viewer.socket is None:
            viewer.put(raw, progress, over, live=live, piece=piece)
        else:
            viewer.over = over
            viewer.put(chunked if viewer.chunked else raw, progress, live=live, piece=piece)

    def _make_room(self) -> None:
        """Keep the large texts that wait within bounds: cut those off who have waited for the longest."""
        large = sorted(self._renderer.large, key=attrgetter("number"))
        surplus = sum(text.size for text in large) - LARGE_TEXTS
        for text in large[:-1]:
            if surplus <= 0:
                return
            surplus -= text.size
            for viewer in [viewer for viewer in self.viewers if viewer.waits_for(text)]:
                self._cut_off(viewer, f"it reads slowly, and others wait for {LARGE_TEXTS:,} bytes of state")

    def _cut_off(self, viewer: Viewer, reason: str) -> None:
        self.cut_off += 1
        if not viewer.gone:
            topics = sorted(viewer.topics)
            named = ", ".join(map(repr, topics[:3])) + (f" and {len(topics) - 3} more" if topics[3:] else "")
            logger.warning("closed a stream of %s to %s: %s", named, viewer.address or "unknown", reason)
        self.drop(viewer)

    def _send(self, viewer: Viewer, data: bytes, progress: str | None = None, live: bool = True) -> None:
        """Send at once to a viewer for whom nothing waits; what does not go out waits."""
        try:
            count = viewer.socket.send(data, _WITH_END if viewer.over else 0)
        except BlockingIOError:
            count = 0
        except OSError:
            self.drop(viewer)
            return
        viewer.sent_at = self._now
        if count < len(data):
            viewer.put(data[count:], None if count else progress, live=live)
            self._selector.modify(viewer.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, viewer)
        elif viewer.over:
            self._finish(viewer)

    def _flush(self, viewer: Viewer) -> None:
        """Send what waits, a bounded amount of it at a time and in one write."""
        if viewer.gone or viewer.pending is None:
            return
        data = viewer.next_bytes()
        try:
            count = viewer.socket.send(data, _WITH_END if viewer.over and len(data) == viewer.size else 0)
        except BlockingIOError:
            return
        except OSError:
            self.drop(viewer)
            return
        viewer.sent_at = self._now
        if viewer.sent(count):
            self._selector.modify(viewer.socket, selectors.EVENT_READ, viewer)
            if viewer.over:
                self._finish(viewer)
        self.tell_of_room(viewer)

    def tell_of_room(self, viewer: Viewer) -> None:
        """Let the hub go on with a viewer that was full of history, if there is room again."""
        if viewer.full and viewer.owed + viewer.size <= self.window // 2:
            viewer.full = False
            self._channel.has_room(viewer)

    def _adopt(self, viewer: Viewer, taken: TakenConnection, anew: bytes) -> None:
        if viewer.gone:
            taken.socket.close()
            return
        viewer.taken_over(taken, anew)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):  # a Unix socket has none
                taken.socket.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._heartbeat * 2000)
                )
        waits = selectors.EVENT_WRITE if viewer.pending else 0
        self._selector.register(taken.socket, selectors.EVENT_READ | waits, viewer)
        self._look_at_in(viewer, self._heartbeat)
        if viewer.pending:
            self._flush(viewer)
        elif viewer.over:
            self._finish(viewer)

    def _listen(self, viewer: Viewer) -> None:
        """Throw away what a viewer sends, and notice that it has gone."""
        try:
            if viewer.socket.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset, or timed out
        self.drop(viewer)

    def _finish(self, viewer: Viewer) -> None:
        """All is sent: let the client close first, so that nothing of it is cut off by a reset."""
        self._channel.leave(viewer)
        with suppress(OSError):  # it has gone already
            viewer.socket.shutdown(socket.SHUT_WR)

    def drop(self, viewer: Viewer) -> None:
        """Let go of a viewer."""
        if viewer.gone:
            return
        viewer.leave()
        if viewer.turn is not None:
            viewer.turn.discard(viewer)
        self._limits.release(viewer.address)
        self._channel.leave(viewer)
        self.viewers.discard(viewer)
        if viewer.socket is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(viewer.socket)
            viewer.socket.close()

    def _turn(self) -> None:
        """Look at those whose time it is: a heartbeat to the silent, an end to those who take nothing."""
        due = self._wheel.popleft()
        self._wheel.append(set())
        while due:
            viewer = due.pop()
            silent = self._now - viewer.sent_at
            if viewer.over or (viewer.pending is not None and silent >= 2 * self._heartbeat):
                if silent >= TICK:
                    if not viewer.over:
                        self._cut_off(viewer, f"it has taken nothing for {silent:.0f} s")
                    self.drop(viewer)
                    continue
            elif viewer.pending is None and silent >= self._heartbeat - TICK / 2:
                self._send(viewer, _HEARTBEAT.chunked if viewer.chunked else _HEARTBEAT.raw)
            if not viewer.gone:
                self._look_at_in(viewer, max(0.0, self._heartbeat - (self._now - viewer.sent_at)))

    def _look_at_in(self, viewer: Viewer, seconds: float) -> None:
        viewer.turn = self._wheel[min(len(self._wheel) - 1, int(seconds / TICK))]
        viewer.turn.add(viewer)

    def _watched(self) -> set[str]:
        """The topics of all viewers."""
        return set().union(*(viewer.topics for viewer in list(self.viewers)))

    def _end_all(self) -> None:
        for viewer in list(self.viewers):
            if viewer.over:
                continue
            come_back = sse.retry(sse.RETRY_SECONDS * random.uniform(0.25, 2.0))
            self._write(viewer, make_text(come_back + sse.HEARTBEAT, over=True))

    def _send_the_rest(self) -> None:
        """Give what could not be sent at once the rest of the time, and stop."""
        deadline = time.monotonic() + STOP_WITHIN / 2
        while time.monotonic() < deadline and any(v.pending and v.socket for v in self.viewers):
            for key, mask in self._selector.select(0.05):
                if key.data is not None and mask & selectors.EVENT_WRITE:
                    self._flush(key.data)
        self._stopped.set()


_HEARTBEAT = make_text(sse.HEARTBEAT)
