"""A viewer: one open browser stream, a reader of the hub, with what has not been sent of it yet."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bridge.errors import SubscriptionClosed
from bridge.handover import Taken
from bridge.ports import Item
from bridge.script import Script, opens_with_state

GRANTED = 400
"""Messages of history that may be on their way to one viewer."""


class Server(Protocol):
    """Who serves viewers: the loop."""

    backlog: int

    def post(self, viewers: "Sequence[Viewer]", items: Sequence[Item]) -> None:
        """Have `items` sent to `viewers`."""
        ...

    def do(self, work: Callable[..., None], *arguments: Any) -> None:
        """Have `work` done in the loop's thread."""
        ...

    def drop(self, viewer: "Viewer") -> None:
        """Let go of a viewer; in the loop's thread."""
        ...


class Viewer:
    """One stream: a reader of the hub, and what has not been sent of it yet."""

    stateful = True
    __slots__ = (
        "__weakref__", "_awaited", "_changed", "_latest", "address", "arrived", "chunked", "full", "gone",
        "granted", "loop", "opens_with_state", "over", "pending", "script", "sent_at", "size", "socket",
        "topics", "turn",
    )  # fmt: skip

    def __init__(self, loop: Server, topics: frozenset[str], script: Script | None, address: str) -> None:
        self.loop = loop
        self.address = address
        self.topics = topics
        self.script = script
        self.opens_with_state = opens_with_state(topics)
        self.socket: Any = None
        self.chunked = self.full = self.gone = self.over = False
        # Each has one writer: the hub grants, the loop counts what has arrived.
        self.granted = self.arrived = self.size = 0
        self.sent_at = time.monotonic()
        self.turn: set[Viewer] | None = None  # where the wheel has it
        self.pending: deque[list[Any]] | None = None  # [what to send, the topic if it is but progress]
        self._latest: dict[str, list[Any]] | None = None
        self._awaited: set[str] | None = set(topics)
        # Guards what waits to be sent until the connection is taken over; then only the loop touches it.
        self._changed: threading.Condition | None = threading.Condition()

    @property
    def post(self) -> "Callable[[Sequence[Viewer], Sequence[Item]], None]":
        """Where items for viewers go, many viewers at a time."""
        return self.loop.post

    def establish(self, topic: str) -> None:
        awaited, changed = self._awaited, self._changed
        if awaited is not None:
            awaited.discard(topic)
            if not awaited:
                self._awaited = None
                self._notify(changed)

    def room(self, wanted: int) -> int:
        if self._crowded():
            self.full = True
            # The loop may have made room before it could see that somebody waits for it, and will not tell.
            if self._crowded():
                return 0
            self.full = False
        self.granted += wanted
        return wanted

    def _crowded(self) -> bool:
        return self.owed > GRANTED or self.size > self.loop.backlog // 2

    @property
    def owed(self) -> int:
        """Messages of history that are on their way to it."""
        return self.granted - self.arrived

    def take_note(self, count: int) -> None:
        """Note that so many messages have arrived; in the loop's thread, while the hub's grants more."""
        self.arrived = min(self.granted, self.arrived + count)

    def fail(self, reason: SubscriptionClosed) -> None:
        self.loop.do(self.loop.drop, self)

    def reset_after_fork(self) -> None:
        """The stream stayed in the parent."""

    def wait_established(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until nothing more can be missed; return whether it is so."""
        assert self._changed is not None
        if not self._awaited:
            return True
        with self._changed:
            return bool(self._changed.wait_for(lambda: not self._awaited or self.gone, timeout))

    def take(self, timeout: float) -> bytes:
        """Return what there is to send, waiting up to `timeout` seconds for it."""
        assert self._changed is not None
        with self._changed:
            self._changed.wait_for(lambda: self.pending or self.over or self.gone, timeout)
            return self.unsent()

    def unsent(self) -> bytes:
        """Take what waits to be sent."""
        data = b"".join(entry[0] for entry in self.pending or ())
        self.pending = self._latest = None
        self.size = 0
        return data

    def put(self, data: bytes, progress: str | None, over: bool = False) -> None:
        """Let `data` wait. Progress that waits already, not begun to be sent, gives way to newer."""
        changed = self._changed
        if changed is None:
            self._put(data, progress)
        else:
            with changed:
                self._put(data, progress)
                self.over |= over
                changed.notify_all()

    def _put(self, data: bytes, progress: str | None) -> None:
        if self.pending is None:
            self.pending = deque()
        entry = [data, progress]
        if progress is not None:
            self._latest = self._latest or {}
            older = self._latest.get(progress)
            if older is not None and older is not self.pending[0]:
                self.size -= len(older[0])
                older[0] = b""
            self._latest[progress] = entry
        self.pending.append(entry)
        self.size += len(data)

    def sent(self, count: int) -> bool:
        """Note that the first `count` bytes of what waits are sent; return whether that was all."""
        assert self.pending is not None
        self.size -= count
        while self.pending and count >= len(self.pending[0][0]):
            entry = self.pending.popleft()
            count -= len(entry[0])
            if self._latest is not None and self._latest.get(entry[1]) is entry:
                del self._latest[entry[1]]
        if self.pending:
            self.pending[0][0] = self.pending[0][0][count:]
            return False
        self.pending = self._latest = None
        return True

    def taken_over(self, taken: Taken) -> None:
        """From here on only the loop touches it."""
        self.socket, self.chunked = taken.socket, taken.chunked
        self._changed = None

    def leave(self) -> None:
        """Nothing more will be sent; whoever waits is told."""
        self.gone = True
        self._notify(self._changed)

    @staticmethod
    def _notify(changed: threading.Condition | None) -> None:
        if changed is not None:
            with changed:
                changed.notify_all()
