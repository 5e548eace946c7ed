"""A reader with a bounded queue: the hub puts messages in, one thread or greenlet takes them out."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Protocol, Self

from bridge.backends.base import Item, size_of
from bridge.errors import ConnectionLost, SlowConsumer, SubscriptionClosed
from bridge.model.message import Gap, Message
from bridge.model.position import Position

HISTORY_BYTES = 4 * 1024 * 1024
"""About how much history waits for one reader. Live messages wait too, within `queue_size`."""


class Owner(Protocol):
    """Who feeds a subscription: the hub."""

    def discard(self, subscription: "QueuedSubscription") -> None:
        """The subscription is closed."""
        ...

    def has_room(self, subscription: "QueuedSubscription") -> None:
        """The subscription, whose queue was full of history, has room again."""
        ...


def _nobody() -> bool:
    """Stands for `woken` where the reader waits here."""
    return True


class QueuedSubscription:
    """The `Subscription` of every backend.

    `woken`, for a reader that cannot wait here, is called without the lock, by any thread, whenever there is
    something new: an item, the end, or that the subscription is established. It returns whether there is
    still someone to read.
    """

    stateful = opens_with_state = False

    def __init__(
        self,
        topics: Iterable[str],
        owner: Owner,
        *,
        queue_size: int,
        acknowledge: Callable[[Position], None] | None = None,
        woken: Callable[[], bool] | None = None,
    ) -> None:
        self.topics = frozenset(topics)
        self._queue_size = queue_size
        self._owner = owner
        self._acknowledge = acknowledge
        self._woken = woken or _nobody
        # Guards everything below.
        self._changed = threading.Condition(threading.Lock())
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._awaited = set(self.topics)
        self._filled = False
        self._closed = False
        self._reason: SubscriptionClosed | None = None

    def receive(self, timeout: float | None = 0.1) -> Message | None:
        with self._changed:
            if not self._wait(timeout):
                return None
            item = self._items.popleft()
            self._bytes -= size_of(item)
            emptied = self._emptied()
        if emptied:
            self._owner.has_room(self)
        assert isinstance(item, Message), "States are for those who are stateful"
        if self._acknowledge is not None and not isinstance(item, Gap):
            item = item.for_reader(self._acknowledge)
        return item

    def _wait(self, timeout: float | None) -> bool:
        """Wait for an item; return whether there is one. Requires holding `_changed`."""
        if not self._items and not self._over():
            self._changed.wait_for(lambda: self._items or self._over(), timeout)
        if self._closed:
            raise SubscriptionClosed("the subscription is closed")
        if self._items:
            return True
        if self._reason is not None:
            raise self._reason.with_traceback(None)
        return False

    def _emptied(self) -> bool:
        """Whether the owner waits to hear of room, and there is some. Requires holding `_changed`."""
        emptied = (
            self._filled and len(self._items) <= self._queue_size // 2 and self._bytes <= HISTORY_BYTES // 2
        )
        if emptied:
            self._filled = False
        return emptied

    def _over(self) -> bool:
        return self._closed or self._reason is not None

    @property
    def closed(self) -> bool:
        """Whether `close` was called, rather than that it ended for a reason."""
        return self._closed

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                message = self.receive(timeout=None)
            except SubscriptionClosed:
                if self._closed:
                    return
                raise
            if message is not None:
                yield message

    def close(self) -> None:
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._woken()
        self._owner.discard(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def wait_established(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until it misses nothing of any topic; return whether it is so.

        Raises the reason if the subscription is closed for one meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._awaited or self._over(), timeout)
            if self._reason is not None and self._awaited:
                raise self._reason.with_traceback(None)
            return not self._awaited

    # What follows is called by the hub.

    def establish(self, topic: str) -> None:
        """Note that it misses nothing of `topic` from now on."""
        with self._changed:
            if topic not in self._awaited:
                return
            self._awaited.discard(topic)
            self._changed.notify_all()
        self._woken()

    def room(self, items: Sequence[Item]) -> int:
        """How many of `items` fit; if not all, the owner hears of it when the queue has emptied."""
        with self._changed:
            room, size = self._queue_size - len(self._items), self._bytes
            count = 0
            while count < min(room, len(items)) and size < HISTORY_BYTES:
                size += size_of(items[count])
                count += 1
            self._filled = count < len(items)
            return count

    def deliver(self, items: Sequence[Item]) -> bool:
        """Queue `items`; return False, and close for `SlowConsumer`, if they do not fit."""
        with self._changed:
            if self._over():
                return True
            room = self._queue_size - len(self._items)
            queued = items[:room] if room < len(items) else items
            self._items.extend(queued)
            self._bytes += sum(map(size_of, queued))
            self._changed.notify()
        if not self._woken():
            self.close()
            return True
        if room >= len(items):
            return True
        names = ", ".join(sorted(map(repr, self.topics)))
        self.fail(
            SlowConsumer(
                f"the reader of {names} fell {self._queue_size} messages behind and was closed, so that "
                "none is dropped silently; read faster, or raise queue_size"
            )
        )
        return False

    def fail(self, reason: SubscriptionClosed) -> None:
        """Close for `reason`, which is raised once what is queued has been received."""
        with self._changed:
            if not self._over():
                self._reason = reason
                self._changed.notify_all()
        self._woken()

    def reset_after_fork(self) -> None:
        """In a forked child: the reader stayed in the parent, and so may the holder of the lock."""
        self._changed = threading.Condition(threading.Lock())
        self._items.clear()
        self._reason = ConnectionLost("this subscription was opened before a fork; subscribe in the child")
