"""A viewer: one open browser stream, a reader of the hub, with what has not been sent of it yet."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bridge.backends.base import Item, size_of
from bridge.errors import SubscriptionClosed
from bridge.streams.encoder import Encoder, opens_with_state
from bridge.streams.takeover.connection import LAST_CHUNK, TakenConnection, chunk

AT_ONCE = 256 * 1024
"""Bytes that are sent to one viewer before it is the turn of the next."""


class Server(Protocol):
    """Who serves viewers: the loop."""

    backlog: int

    @property
    def window(self) -> int:
        """Bytes of history and state that may be on their way to one viewer."""
        ...

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
        "__weakref__",
        "_awaited",
        "_changed",
        "_latest",
        "address",
        "arrived",
        "chunked",
        "encoder",
        "full",
        "gone",
        "granted",
        "live",
        "loop",
        "opens_with_state",
        "over",
        "pending",
        "sent_at",
        "size",
        "socket",
        "topics",
        "turn",
    )  # fmt: skip

    def __init__(self, loop: Server, topics: frozenset[str], encoder: Encoder | None, address: str) -> None:
        self.loop = loop
        self.address = address
        self.topics = topics
        self.encoder = encoder
        self.opens_with_state = opens_with_state(topics)
        self.socket: Any = None
        self.chunked = self.full = self.gone = self.over = False
        # Each has one writer: the hub grants bytes, the loop counts those that have arrived.
        self.granted = self.arrived = 0
        # Bytes that wait to be sent, and those of them that came without being granted.
        self.size = self.live = 0
        self.sent_at = time.monotonic()
        self.turn: set[Viewer] | None = None  # where the wheel has it
        # What to send, the topic if it is but progress, whether it counts as live, which piece it is.
        self.pending: deque[list[Any]] | None = None
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

    def room(self, items: Sequence[Item]) -> int:
        count = self._grant(items)
        if count < len(items):
            self.full = True
            # The loop may have made room before it could see that somebody waits for it, and will not tell.
            if count == 0 and (count := self._grant(items)) == len(items):
                self.full = False
        return count

    def _grant(self, items: Sequence[Item]) -> int:
        """Grant as many of `items` as begin within the window."""
        room = self.loop.window - self.owed - self.size
        count = granted = 0
        while count < len(items) and granted < room:
            granted += size_of(items[count])
            count += 1
        self.granted += granted
        return count

    @property
    def owed(self) -> int:
        """Bytes of history and state that are on their way to it."""
        return self.granted - self.arrived

    def take_note(self, count: int) -> None:
        """Note that so many bytes have arrived; in the loop's thread, while the hub's grants more."""
        self.arrived = min(self.granted, self.arrived + count)

    def fail(self, reason: SubscriptionClosed) -> None:
        self.loop.do(self.loop.drop, self)

    def reset_after_fork(self) -> None:
        """The stream stayed in the parent."""

    @property
    def established(self) -> bool:
        """Whether nothing more can be missed."""
        return not self._awaited

    def wait_established(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until nothing more can be missed; return whether it is so."""
        assert self._changed is not None
        if not self._awaited:
            return True
        with self._changed:
            return bool(self._changed.wait_for(lambda: not self._awaited or self.gone, timeout))

    def take(self, timeout: float) -> bytes:
        """Return what there is to send, or the first part of it, waiting up to `timeout` seconds for it."""
        assert self._changed is not None
        with self._changed:
            self._changed.wait_for(lambda: self.pending or self.over or self.gone, timeout)
            data = self.next_bytes()
            if data:
                self.sent(len(data))
            return data

    def next_bytes(self) -> bytes:
        """Return the first part of what waits to be sent, all of it if that is not much."""
        if not self.pending:
            return b""
        parts: list[bytes] = []
        size = 0
        for entry in self.pending:
            if parts and size + len(entry[0]) > AT_ONCE:
                break
            parts.append(entry[0])
            size += len(entry[0])
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def put(
        self, data: bytes, progress: str | None, over: bool = False, *, live: bool = True, piece: Any = None
    ) -> None:
        """Let `data` wait. Progress that waits already, not begun to be sent, gives way to newer.

        `live` says whether it counts against the backlog: what was granted does not. `piece` is the large
        text of which `data` is a piece, and the piece's place in it.
        """
        changed = self._changed
        if changed is None:
            self._put(data, progress, live, piece)
        else:
            with changed:
                self._put(data, progress, live, piece)
                self.over |= over
                changed.notify_all()

    def waits_for(self, text: object) -> bool:
        """Whether a piece of `text` waits to be sent to it."""
        # A copy in one step: the thread of a server may take from it meanwhile.
        return any(piece is not None and piece[0] is text for *_, piece in list(self.pending or ()))

    def _put(self, data: bytes, progress: str | None, live: bool, piece: Any = None) -> None:
        if self.pending is None:
            self.pending = deque()
        entry = [data, progress, live, piece]
        if progress is not None:
            self._latest = self._latest or {}
            older = self._latest.get(progress)
            if older is not None and older is not self.pending[0]:
                self._count(-len(older[0]), older[2])
                older[0] = b""
            self._latest[progress] = entry
        self.pending.append(entry)
        self._count(len(data), live)

    def _count(self, count: int, live: bool) -> None:
        self.size += count
        if live:
            self.live += count

    def sent(self, count: int) -> bool:
        """Note that the first `count` bytes of what waits are sent; return whether that was all."""
        assert self.pending is not None
        while self.pending and count >= len(self.pending[0][0]):
            entry = self.pending.popleft()
            count -= len(entry[0])
            self._count(-len(entry[0]), entry[2])
            if self._latest is not None and self._latest.get(entry[1]) is entry:
                del self._latest[entry[1]]
        if self.pending:
            first = self.pending[0]
            first[0] = first[0][count:]
            self._count(-count, first[2])
            return False
        self.pending = self._latest = None
        return True

    def taken_over(self, taken: TakenConnection, anew: bytes) -> None:
        """From here on only the loop touches it; what waits is framed for its connection."""
        self.socket, self.chunked = taken.socket, taken.chunked
        self._changed = None
        waiting = self.pending or ()
        self.pending = self._latest = None
        self.size = self.live = 0
        head = taken.unsent + (chunk(anew) if anew and self.chunked else anew)
        if head:
            self._put(head, None, live=False)
        for data, progress, live, piece in waiting:
            if piece is not None:
                text, place = piece
                self._put(text.pieces(chunked=self.chunked)[place], progress, live, piece)
            elif data:
                self._put(chunk(data) if self.chunked else data, progress, live)
        ends_itself = waiting and waiting[-1][3] is not None
        if self.over and self.chunked and not ends_itself:
            self._put(LAST_CHUNK, None, live=False)

    def leave(self) -> None:
        """Nothing more will be sent; whoever waits is told."""
        self.gone = True
        self._notify(self._changed)

    @staticmethod
    def _notify(changed: threading.Condition | None) -> None:
        if changed is not None:
            with changed:
                changed.notify_all()
