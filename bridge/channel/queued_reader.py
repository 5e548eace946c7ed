"""A reader with a bounded queue: the hub puts items in, one thread, greenlet or coroutine takes them out."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from bridge.backends.base import Item, size_of
from bridge.channel.hub import Hub
from bridge.errors import ConnectionLost, SlowConsumer, SubscriptionClosed
from bridge.model.message import Gap, Message
from bridge.model.position import Position

HISTORY_BYTES = 4 * 1024 * 1024
"""About how much history waits for one reader. Live messages wait too, within `queue_size`."""


def _do_nothing() -> bool:
    """Stand for `notify` where the reader waits in `receive`."""
    return True


class QueuedReader:
    """A `Reader` of the hub whose items wait in a queue until `receive` takes them.

    `notify` is for an owner that cannot wait in `receive`. Any thread calls it whenever there is something
    new: an item, the end, or that the reader is established. The thread does not hold the reader's lock, but
    may hold the hub's. `notify` returns whether there still is an owner.

    At most `queue_size` items wait, and with `queue_bytes` about so many bytes. A reader `with_state` begins
    with the state of its topics, and its owner calls `take`.
    """

    def __init__(
        self,
        hub: Hub,
        topics: Iterable[str],
        *,
        queue_size: int,
        queue_bytes: int | None = None,
        with_state: bool = False,
        acknowledge: Callable[[Position], None] | None = None,
        notify: Callable[[], bool] | None = None,
    ) -> None:
        self.topics = frozenset(topics)
        self._hub = hub
        self.stateful = self.opens_with_state = with_state
        self._queue_size = queue_size
        self._queue_bytes = queue_bytes
        self._history_bytes = queue_bytes or HISTORY_BYTES
        self._acknowledge = acknowledge
        self._notify = notify or _do_nothing
        self._changed = threading.Condition(threading.Lock())  # Guards everything below.
        self._items: deque[Item] = deque()
        self._bytes = 0
        self._awaited = set(self.topics)  # topics that are not established yet
        self._was_full = False  # whether the hub waits for `has_room`
        self._closed = False
        self._reason: SubscriptionClosed | None = None
        hub.queues.add(self)

    # The owner.

    def receive(self, timeout: float | None) -> Message | None:
        """Return the next message, as `bridge.Subscription.receive` does."""
        item = self.take(timeout)
        assert item is None or isinstance(item, Message), "only stateful readers get states"
        if item is not None and self._acknowledge is not None and not isinstance(item, Gap):
            item = item.for_reader(self._acknowledge)
        return item

    def take(self, timeout: float | None) -> Item | None:
        """Return the next item, a message or a page of the state, as `receive` does."""
        with self._changed:
            if not self._wait(timeout):
                return None
            item = self._items.popleft()
            self._bytes -= size_of(item)
            has_room_again = self._has_room_again()
        if has_room_again:
            self._hub.has_room(self)
        return item

    def _wait(self, timeout: float | None) -> bool:
        """Wait for an item; return whether there is one. Requires holding `_changed`."""
        if not self._items and not self._has_ended():
            self._changed.wait_for(lambda: self._items or self._has_ended(), timeout)
        if self._closed:
            raise SubscriptionClosed("the subscription is closed")
        if self._items:
            return True
        if self._reason is not None:
            raise self._reason.with_traceback(None)
        return False

    def _has_room_again(self) -> bool:
        """Return whether to call `Hub.has_room` now. Requires holding `_changed`."""
        has_room = (
            self._was_full
            and len(self._items) <= self._queue_size // 2
            and self._bytes <= self._history_bytes // 2
        )
        if has_room:
            self._was_full = False
        return has_room

    def _has_ended(self) -> bool:
        return self._closed or self._reason is not None

    @property
    def closed(self) -> bool:
        """Whether the owner or the channel closed it, rather than that it ended for a reason."""
        return self._closed

    def close(self) -> None:
        """Drop what is queued and leave the hub. Any thread may call it, more than once."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()
        self._notify()
        self._hub.leave(self)

    def wait_established(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until it misses nothing of any topic; return whether it is so.

        Raises the reason if it ends for one meanwhile.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._awaited or self._has_ended(), timeout)
            if self._reason is not None and self._awaited:
                raise self._reason.with_traceback(None)
            return not self._awaited

    # The hub: see `bridge.channel.reader.Reader`.

    @property
    def post(self) -> Callable[[Sequence["QueuedReader"], Sequence[Item]], None]:
        return _deliver

    def establish(self, topic: str) -> None:
        with self._changed:
            if topic not in self._awaited:
                return
            self._awaited.discard(topic)
            self._changed.notify_all()
        self._notify()

    def room(self, items: Sequence[Item]) -> int:
        with self._changed:
            count = self._fitting(items, self._history_bytes)
            self._was_full = count < len(items)
            return count

    def _fitting(self, items: Sequence[Item], most_bytes: int | None) -> int:
        """Return how many of `items` may wait. One may be larger than the limit. Requires `_changed`."""
        room = min(self._queue_size - len(self._items), len(items))
        if most_bytes is None:
            return room
        size, count = self._bytes, 0
        while count < room and size < most_bytes:
            size += size_of(items[count])
            count += 1
        return count

    def deliver(self, items: Sequence[Item], size: int) -> None:
        """Queue `items` of `size` bytes. If not all fit, end for `SlowConsumer` after those that do."""
        with self._changed:
            if self._has_ended():
                return
            is_slow = False
            room = self._fitting(items, self._queue_bytes)
            if room < len(items):
                items = items[:room]
                size = sum(map(size_of, items))
                is_slow = True
            self._items.extend(items)
            self._bytes += size
            self._changed.notify()
        if not self._notify():
            self.close()
        elif is_slow:
            names = ", ".join(sorted(map(repr, self.topics)))
            self._end_as_slow(
                SlowConsumer(
                    f"the reader of {names} fell {self._queue_size} messages behind and was closed, so that "
                    "none is dropped silently; read faster, or raise queue_size"
                )
            )

    def _end_as_slow(self, reason: SlowConsumer) -> None:
        self._hub.slow_consumers += 1
        self.fail(reason)
        self._hub.leave(self)

    # The memory budget: see `bridge.channel.queue_memory.Queue`.

    @property
    def waiting(self) -> tuple[int, int]:
        return len(self._items), self._bytes

    def end_as_slow(self, reason: SlowConsumer) -> None:
        with self._changed:
            self._items.clear()
            self._bytes = 0
        self._end_as_slow(reason)

    def fail(self, reason: SubscriptionClosed) -> None:
        if type(reason) is SubscriptionClosed:  # the channel was closed: there is no reason to raise
            self.close()
            return
        with self._changed:
            if not self._has_ended():
                self._reason = reason
                self._changed.notify_all()
        self._notify()

    def reset_after_fork(self) -> None:
        self._changed = threading.Condition(threading.Lock())  # its holder may have stayed in the parent
        self._items.clear()
        self._reason = ConnectionLost("this subscription was opened before a fork; subscribe in the child")


def _deliver(readers: Sequence[QueuedReader], items: Sequence[Item]) -> None:
    size = sum(map(size_of, items))
    for reader in readers:
        reader.deliver(items, size)
    readers[0]._hub.queues.note(size)
