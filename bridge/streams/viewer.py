"""A viewer: one open browser stream, which reads through the hub and is served by the loop."""

import _socket  # a taken connection is a native socket, also under gevent
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from bridge.backends.base import Item, size_of
from bridge.errors import SubscriptionClosed
from bridge.streams.access.grant import Grant
from bridge.streams.backlog import Backlog, Entry
from bridge.streams.encoder import Encoder
from bridge.streams.limits import Client
from bridge.streams.takeover.connection import LAST_CHUNK, TakenConnection, chunk


class ViewerLoop(Protocol):
    """What a viewer asks of the loop that serves it. Any thread may call it."""

    @property
    def window(self) -> int:
        """Bytes of history and state that may be in transit to one viewer."""
        ...

    def post(self, viewers: "Sequence[Viewer]", items: Sequence[Item]) -> None:
        """Send `items` to `viewers`, later and in the loop's thread."""
        ...

    def discard(self, viewer: "Viewer", reason: str) -> None:
        """Close a viewer, later and in the loop's thread. `reason` is one word for metrics."""
        ...


class Viewer:
    """One stream: a reader of the hub, and what has not been sent to it yet.

    The hub calls `establish`, `room` and `fail` in its thread. Until `attach` the server's thread waits for
    and takes what is to be sent; after it, only the loop's thread uses the viewer.
    """

    stateful = True
    """The hub gives it states, not only messages."""

    topics: frozenset[str]
    client: Client
    encoder: Encoder | None
    """The encoder of a stream of several topics. One topic has the same text for all its viewers."""
    grant: Grant | None
    """What allows the stream to go on; `None` if it has no end."""
    opens_with_state: bool
    """Whether the stream begins with the state of its topics."""
    socket: _socket.socket | None
    """The connection, once it is taken over."""
    chunked: bool
    """Whether what is sent is framed as HTTP chunks."""
    finished: bool
    """Whether the stream has its last text, sent or waiting."""
    closed: bool
    """Whether nothing more will be sent."""
    full: bool
    """Whether the hub holds back history until `Hub.has_room` is called."""
    granted: int
    """Bytes of history and state that the hub was allowed to send. Only the hub's thread writes it."""
    arrived: int
    """Those of them that have reached the loop. Only the loop's thread writes it."""
    backlog: Backlog | None
    """What waits to be sent; `None` if nothing does."""
    sent_at: float
    """When something was last sent."""
    wheel_slot: "set[Viewer] | None"
    """Where the timer wheel keeps the viewer."""
    on_change: Callable[[], None] | None
    """Called by any thread when there is something to take, for a coroutine that waits. Must not block."""

    __slots__ = (
        "__weakref__", "_awaited", "_lock", "_loop", "_waiting", "arrived", "backlog", "chunked", "client",
        "closed", "encoder", "finished", "full", "grant", "granted", "on_change", "opens_with_state",
        "sent_at", "socket", "topics", "wheel_slot",
    )  # fmt: skip

    def __init__(
        self,
        loop: ViewerLoop,
        topics: frozenset[str],
        encoder: Encoder | None,
        client: Client,
        grant: Grant | None = None,
        *,
        opens_with_state: bool = False,
    ) -> None:
        self._loop = loop
        self.grant = grant
        self.client = client
        self.topics = topics
        self.encoder = encoder
        self.opens_with_state = opens_with_state
        self.chunked = self.finished = self.closed = self.full = False
        self.granted = self.arrived = 0
        self.sent_at = time.monotonic()
        self.socket = self.backlog = self.wheel_slot = self.on_change = None
        self._awaited: set[str] | None = set(topics)  # topics that are not established yet
        # Guards the backlog, `finished` and `_waiting`; `None` once the connection is taken over.
        self._lock: threading.Lock | None = threading.Lock()
        # Where the server's thread waits. Most viewers never do, and a condition takes time to make.
        self._waiting: threading.Condition | None = None

    # Called by the hub.

    @property
    def post(self) -> "Callable[[Sequence[Viewer], Sequence[Item]], None]":
        """What takes items for viewers, many viewers at a time."""
        return self._loop.post

    def establish(self, topic: str) -> None:
        """Note that nothing of `topic` can be missed any more."""
        awaited, lock = self._awaited, self._lock
        if awaited is not None:
            awaited.discard(topic)
            if not awaited:
                self._awaited = None
                self._notify(lock)

    def room(self, items: Sequence[Item]) -> int:
        """Return how many of `items`, of history or state, the hub may send now."""
        count = self._grant(items)
        if count < len(items):
            self.full = True
            # The loop may have made room before it could see `full`. Then it does not call `has_room`.
            if count == 0 and (count := self._grant(items)) == len(items):
                self.full = False
        return count

    def _grant(self, items: Sequence[Item]) -> int:
        """Grant as many of `items` as begin within the window."""
        room = self._loop.window - self.unsent
        count = granted = 0
        while count < len(items) and granted < room:
            granted += size_of(items[count])
            count += 1
        self.granted += granted
        return count

    def fail(self, reason: SubscriptionClosed) -> None:
        """Close the stream: the hub sends nothing more."""
        self._loop.discard(self, "failed")

    def reset_after_fork(self) -> None:
        """The stream stayed in the parent."""

    # Called by the loop.

    @property
    def in_transit(self) -> int:
        """Bytes of history and state that were granted and have not reached the loop yet."""
        return self.granted - self.arrived

    @property
    def unsent(self) -> int:
        """Bytes in transit, and bytes that wait to be sent."""
        backlog = self.backlog
        return self.in_transit + (backlog.size if backlog is not None else 0)

    def note_arrival(self, count: int) -> None:
        """Note that `count` bytes have arrived. The hub's thread may grant more at the same time."""
        self.arrived = min(self.granted, self.arrived + count)

    def has_room_again(self) -> bool:
        """Whether the hub holds back history that there is room for again. Resets `full` then."""
        if self.full and self.unsent <= self._loop.window // 2:
            self.full = False
            return True
        return False

    def put(self, entry: Entry, final: bool = False) -> None:
        """Add what waits to be sent. `final` says that it is the last of the stream."""
        lock = self._lock
        if lock is None:
            self._put(entry)
            self.finished |= final
        else:
            with lock:
                self._put(entry)
                self.finished |= final
            self._notify(lock)

    def _put(self, entry: Entry) -> None:
        if self.backlog is None:
            self.backlog = Backlog(time.monotonic())
        self.backlog.put(entry)

    def sent(self, count: int) -> bool:
        """Note that the first `count` bytes of the backlog are sent; return whether that was everything."""
        assert self.backlog is not None
        if self.backlog.remove(count):
            self.backlog = None
            return True
        return False

    def attach(self, connection: TakenConnection, resets: bytes) -> None:
        """Use a connection of its own from now on: send it `resets`, then what waits, framed for it."""
        self.socket, self.chunked = connection.socket, connection.chunked
        self._lock = self._waiting = self.on_change = None
        waiting, self.backlog = self.backlog, None
        head = connection.unsent + (chunk(resets) if resets and self.chunked else resets)
        if head:
            self._put(Entry(head, None, live=False))
        last = None
        for last in waiting or ():
            data = last.data
            if last.text is not None:
                data = last.text.piece(last.place, chunked=self.chunked)
            if data:
                self._put(Entry(data, last.progress, last.live, last.text, last.place))
        # The last text of a stream has the last chunk already.
        if self.finished and self.chunked and (last is None or last.text is None):
            self._put(Entry(LAST_CHUNK, None, live=False))

    def close(self) -> None:
        """Drop what waits: nothing more will be sent. Wake the thread that waits."""
        lock = self._lock
        self.closed = True
        if lock is None:
            self.backlog = None
        else:
            with lock:  # the server's thread may be taking from the backlog
                self.backlog = None
            self._notify(lock)

    def _notify(self, lock: "threading.Lock | None") -> None:
        """Wake who waits for a change."""
        if lock is not None:
            with lock:
                if self._waiting is not None:
                    self._waiting.notify_all()
            if self.on_change is not None:
                self.on_change()

    # Called by the thread of the server, before the connection is taken over.

    @property
    def established(self) -> bool:
        """Whether nothing more can be missed."""
        return not self._awaited

    def wait_established(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until nothing more can be missed; return whether that is so."""
        if not self._awaited:
            return True
        assert self._lock is not None
        with self._lock:
            self._wait_for(lambda: not self._awaited or self.closed, timeout)
        return not self._awaited or self.closed

    def take(self, timeout: float) -> bytes:
        """Return what there is to send, or its first part, after waiting up to `timeout` seconds for it."""
        assert self._lock is not None
        with self._lock:
            self._wait_for(lambda: bool(self.backlog or self.finished or self.closed), timeout)
            data = bytes(self.backlog.next_bytes()) if self.backlog is not None else b""
            if data:
                self.sent(len(data))
            return data

    def _wait_for(self, condition: Callable[[], bool], timeout: float) -> None:
        """Wait up to `timeout` seconds until `condition` holds. Requires holding `_lock`."""
        if self._waiting is None:
            self._waiting = threading.Condition(self._lock)
        self._waiting.wait_for(condition, timeout)
