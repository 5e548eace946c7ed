"""Connections: sends to the viewers of a process, each through the connection that was taken over for it.

Text is rendered once for all viewers of a topic, and sent with one call for each viewer, without waiting.
What a connection does not take at once waits in the viewer's backlog, which is bounded.
"""

import _socket  # a taken connection is a native socket, also under gevent
import selectors
import socket
from collections.abc import Sequence
from contextlib import suppress

from bridge.backends.base import Item, size_of
from bridge.channel.transport import Transport
from bridge.streams.backlog import Entry
from bridge.streams.counts import StreamCounts
from bridge.streams.cut_off_log import CutOffLog
from bridge.streams.grants import Grants
from bridge.streams.limits import ViewerLimits
from bridge.streams.rendering import LargeText, Renderer, Text
from bridge.streams.selector_thread import SelectorThread
from bridge.streams.silence import HEARTBEAT
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.viewer import Viewer
from bridge.streams.waiting_texts import WaitingTexts
from bridge.streams.wheel import TICK, Wheel

READ_SIZE = 65536
"""Bytes that are read from a connection with one call."""

KERNEL_BYTES = 128 * 1024
"""Bytes that wait in the kernel for a viewer, beside those on the network. More would be a copy for each."""

# The end of the connection goes out in one packet with the last data. Otherwise a client that keeps
# connections might use this one for another request in between.
_WITH_END = getattr(socket, "MSG_MORE", 0)


class Connections:
    """The viewers of a process and their connections. Every method runs in the loop's thread."""

    def __init__(
        self,
        transport: Transport,
        thread: SelectorThread,
        *,
        heartbeat: float,
        backlog: int,
        limits: ViewerLimits,
        counts: StreamCounts,
    ) -> None:
        """`heartbeat` is in seconds, `backlog` in bytes of live events that may wait for a viewer."""
        self._transport = transport
        self._thread = thread
        self._heartbeat = heartbeat
        self._backlog = backlog
        self._limits = limits
        self._counts = counts
        self.cut_off = 0
        """How many viewers were closed because they read too slowly."""
        self.silence = HEARTBEAT
        """What silent viewers get."""
        self._log = CutOffLog()
        self.reset()

    def reset(self) -> None:
        """Forget every viewer."""
        self.viewers: set[Viewer] = set()
        """The open viewers. Other threads add to it, and remove from it."""
        self._wheel = Wheel(self._heartbeat)
        self._renderer = Renderer(with_ids=self._transport.backend.replays)
        self.grants = Grants(self._thread, self.write)
        """What ends the streams that may not go on."""
        self.waiting = WaitingTexts()
        """What waits for the viewers."""

    # Texts.

    def deliver(self, viewers: Sequence[Viewer], items: Sequence[Item]) -> None:
        """Send `items` of one topic to `viewers`."""
        text = None
        size = written = alone = 0
        granted = False
        renderer, write = self._renderer, self.write
        for viewer in viewers:
            granted = viewer.granted != viewer.arrived
            if viewer.encoder is not None:
                own = renderer.for_one(viewer.encoder, items)
                alone += 1
                written += own.length
                write(viewer, own, not granted)
            else:
                if text is None:
                    text = renderer.for_all(items, viewer.opens_with_state)
                write(viewer, text, not granted)
            if granted:
                size = size or sum(map(size_of, items))
                viewer.note_arrival(size)
                self.announce_room(viewer)
        if text is not None:
            written += text.length * (len(viewers) - alone)
        self._counts.delivered(viewers, items, written, self._thread.now, live=not granted)

    def write(self, viewer: Viewer, text: Text | LargeText, live: bool = True) -> None:
        """Send a text, or let it wait. `live` says whether it counts against the backlog."""
        if viewer.closed or viewer.finished:
            return
        if text.final:
            self._counts.count(self._counts.closed, text.reason)
        connection = viewer.socket
        if viewer.backlog is None and connection is not None and isinstance(text, Text):
            if text.raw:
                viewer.finished = text.final
                data = text.chunked if viewer.chunked else text.raw
                self._send(viewer, connection, data, text, live)
        else:
            self._write_behind(viewer, text, live)

    def _write_behind(self, viewer: Viewer, text: Text | LargeText, live: bool) -> None:
        """Let a text wait."""
        # The thread of a server may empty the backlog at any time, so each attribute is read once.
        backlog = viewer.backlog
        waited = backlog is not None and backlog.live
        if isinstance(text, LargeText):
            self._write_pieces(viewer, text, live)
        elif text.raw:
            framed = viewer.socket is not None and viewer.chunked
            data = text.chunked if framed else text.raw
            self._put(viewer, Entry(data, text.progress, live, text), text.final)
        # One text may be larger than the backlog. The viewer is too slow only if others wait before it, and
        # if its connection takes nothing more.
        while waited and (backlog := viewer.backlog) is not None and backlog.live > self._backlog:
            if not self.flush(viewer) and not viewer.closed:
                self._cut_off(viewer, f"it does not read, and {backlog.live:,} bytes wait for it")

    def _write_pieces(self, viewer: Viewer, text: LargeText, live: bool) -> None:
        """Let the pieces of a text wait. The viewers get them in turn."""
        pieces = text.pieces(chunked=viewer.socket is not None and viewer.chunked)
        for place, data in enumerate(pieces):
            self._put(viewer, Entry(data, None, live, text, place), text.final and place == len(pieces) - 1)

    def _put(self, viewer: Viewer, entry: Entry, final: bool = False) -> None:
        """Let an entry wait for a viewer."""
        connection, waits = viewer.socket, viewer.backlog is not None
        viewer.put(entry, final)
        if entry.text is not None:
            self.waiting.add(entry.text)
        if connection is not None and not waits:
            self._selector.modify(connection, selectors.EVENT_READ | selectors.EVENT_WRITE, viewer)

    def announce_room(self, viewer: Viewer) -> None:
        """Let the hub continue with a viewer that was full of history, if there is room again."""
        if viewer.full and viewer.has_room_again():
            self._transport.hub.has_room(viewer)

    # Sockets.

    def adopt(self, viewer: Viewer, connection: TakenConnection, resets: bytes) -> None:
        """Serve a viewer through its own connection from now on. `resets` is sent before anything else."""
        if viewer.closed:
            connection.socket.close()
            return
        viewer.attach(connection, resets)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            with suppress(OSError):  # a Unix socket does not have it
                connection.socket.setsockopt(
                    socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(self._heartbeat * 2000)
                )
            with suppress(OSError):
                connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_BYTES)
        waits = selectors.EVENT_WRITE if viewer.backlog is not None else 0
        self._selector.register(connection.socket, selectors.EVENT_READ | waits, viewer)
        self._wheel.add(viewer, self._heartbeat)
        if viewer.backlog is not None:
            self.flush(viewer)
        elif viewer.finished:
            self._finish(viewer, connection.socket)

    def serve(self, viewer: Viewer, mask: int) -> None:
        """Do what a viewer's connection is ready for."""
        if mask & selectors.EVENT_WRITE:
            self.flush(viewer)
        if mask & selectors.EVENT_READ and not viewer.closed:
            self._read(viewer)

    def _send(self, viewer: Viewer, connection: _socket.socket, data: bytes, text: Text, live: bool) -> None:
        """Send `data` to a viewer for which nothing waits. What does not go out waits."""
        try:
            count = connection.send(data, _WITH_END if viewer.finished else 0)
        except BlockingIOError:
            count = 0
        except OSError:
            self.drop(viewer)
            return
        viewer.sent_at = self._thread.now
        if count < len(data):
            self._put(viewer, Entry(data, text.progress, live, text))
            if count:
                viewer.sent(count)
        elif viewer.finished:
            self._finish(viewer, connection)

    def flush(self, viewer: Viewer) -> bool:
        """Send what waits, up to a bounded number of bytes and in one call. Return whether any was sent."""
        connection, backlog = viewer.socket, viewer.backlog
        if viewer.closed or backlog is None or connection is None:
            return False
        data = backlog.next_bytes()
        try:
            count = connection.send(data, _WITH_END if viewer.finished and len(data) == backlog.size else 0)
        except BlockingIOError:
            return False
        except OSError:
            self.drop(viewer)
            return False
        viewer.sent_at = self._thread.now
        if viewer.sent(count):
            self._selector.modify(connection, selectors.EVENT_READ, viewer)
            if viewer.finished:
                self._finish(viewer, connection)
        self.announce_room(viewer)
        return True

    def _read(self, viewer: Viewer) -> None:
        """Discard what a viewer sends, and notice that it has left."""
        assert viewer.socket is not None
        try:
            if viewer.socket.recv(READ_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset, or timed out
        self.drop(viewer)

    def _finish(self, viewer: Viewer, connection: _socket.socket) -> None:
        """Everything is sent: let the client close first, so that no reset cuts off the last data."""
        self._transport.hub.leave(viewer)
        with suppress(OSError):  # the client has left
            connection.shutdown(socket.SHUT_WR)

    def drop(self, viewer: Viewer, reason: str = "left") -> None:
        """Close a viewer and forget it. Its connection is closed soon, so that many at once delay nobody.

        `reason` is one word for metrics; the end of a stream with a last text is counted already.
        """
        if viewer.closed:
            return
        if not viewer.finished:
            self._counts.count(self._counts.closed, reason)
        viewer.close()
        self._wheel.remove(viewer)
        self.grants.remove(viewer)
        self._limits.release(viewer.client)
        self.viewers.discard(viewer)
        self._thread.later.append((self._release, (viewer,)))

    def _release(self, viewer: Viewer) -> None:
        self._transport.hub.leave(viewer)
        if viewer.socket is not None:
            with suppress(KeyError, ValueError):  # it is not registered
                self._selector.unregister(viewer.socket)
            viewer.socket.close()

    def _cut_off(self, viewer: Viewer, reason: str) -> None:
        self.cut_off += 1
        if not viewer.closed:
            self._log.add(viewer, reason)
        self.drop(viewer, "slow")

    @property
    def _selector(self) -> selectors.BaseSelector:
        assert self._thread.selector is not None
        return self._thread.selector

    # Time.

    def tick(self) -> None:
        """Check the viewers that are due: send a heartbeat to silent ones, drop those that take nothing."""
        self._log.tick()
        due = self._wheel.tick()
        while due:
            self._check(due.pop())

    def _check(self, viewer: Viewer) -> None:
        viewer.wheel_slot = None
        silent = self._thread.now - viewer.sent_at
        if viewer.finished or (viewer.backlog is not None and silent >= 2 * self._heartbeat):
            if silent >= TICK:
                if not viewer.finished:
                    self._cut_off(viewer, f"it has taken nothing for {silent:.0f} s")
                self.drop(viewer)
                return
        elif viewer.backlog is None and silent >= self._heartbeat - TICK / 2 and viewer.socket is not None:
            data = self.silence.chunked if viewer.chunked else self.silence.raw
            self._send(viewer, viewer.socket, data, self.silence, live=True)
        if not viewer.closed:
            self._wheel.add(viewer, self._heartbeat - (self._thread.now - viewer.sent_at))
