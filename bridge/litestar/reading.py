"""Reads for Litestar: a subscription for each Litestar channel, and a feed of the messages of all.

A subscription belongs to no event loop, so a channel may be subscribed to before the application starts, or
from another loop. Its messages wait in its own queue until the loop of the application takes them.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, suppress

from bridge.aio.loop_waker import waker_of
from bridge.channel.queued_reader import QueuedReader
from bridge.channel.subscription import find_start, not_established, open_reader
from bridge.channel.transport import Transport
from bridge.errors import SubscriptionClosed
from bridge.model.message import Message

WAITING = 100
"""Messages that may wait for `stream_events`. More messages wait in the queues of their subscriptions."""

MESSAGES_AT_ONCE = 100
"""Messages after which other tasks of the event loop may run."""


class Reading:
    """The subscription to one Litestar channel. Any thread calls `announce` when there is something new."""

    def __init__(
        self, transport: Transport, name: str, topic: str, announce: Callable[["Reading"], bool]
    ) -> None:
        self.name = name
        self.after: str | None = None
        """The id of the message that was read last."""
        self.failing: type[Exception] | None = None
        """The type of the error that was logged since then."""
        self._transport = transport
        self._topic = topic
        self._announce = announce
        self._subscription: QueuedReader | None = None
        self._closed = False
        self._opening = threading.Lock()  # Guards the opening of the subscription.
        self.expect()

    def expect(self) -> None:
        """Begin to wait until it is established, at most for the timeout of the bridge channel."""
        self._deadline = time.monotonic() + self._transport.timeout
        established: Future[None] = Future()
        established.set_running_or_notify_cancel()  # So a task that waits cannot cancel it.
        self.established = established

    @property
    def refused(self) -> bool:
        """Whether the subscription could not be established."""
        return self.established.done() and self.established.exception() is not None

    def resume(self) -> None:
        """Subscribe after the message that was read last, unless there is an open subscription."""
        with self._opening:
            if self._subscription is None or _has_ended(self._subscription):
                self._open()
        self._woken()  # A call during the opening found no subscription.

    def _open(self) -> None:
        previous, self._subscription = self._subscription, None
        if previous is not None:
            previous.close()
        try:
            start = find_start(self._transport, self._topic, self.after, None)
            self._subscription = open_reader(self._transport, self._topic, start, self._woken)
        except SubscriptionClosed as error:
            self.refuse(error)
            return
        if self._closed:
            self._subscription.close()

    def receive(self) -> Message | None:
        """Return the next message, or `None`. If the subscription has ended, raise the reason once."""
        subscription = self._subscription
        if subscription is None:
            return None
        try:
            message = subscription.receive(timeout=0)
        except Exception:
            if self._subscription is subscription:
                self._subscription = None
            subscription.close()
            raise
        if message is not None:
            self.failing = None
            self.after = message.id or self.after
        return message

    def _woken(self) -> bool:
        """Note that there is something new. Any thread may call it, even with the hub's lock held."""
        self._check_established()
        return self._announce(self)

    def _check_established(self) -> None:
        established, subscription = self.established, self._subscription
        if subscription is None or established.done():
            return
        with suppress(InvalidStateError):  # another thread was faster
            try:
                if subscription.wait_established(0):
                    established.set_result(None)
                elif subscription.closed:
                    established.set_exception(SubscriptionClosed("the subscription is closed"))
            except SubscriptionClosed as error:
                established.set_exception(error)

    def refuse(self, error: Exception) -> None:
        """Raise `error` in the tasks that wait until it is established."""
        with suppress(InvalidStateError):
            self.established.set_exception(error)

    @contextmanager
    def bounded(self) -> Iterator["Future[None]"]:
        """Yield a future that is done when the subscription is established, or refused after its timeout."""
        left = self._deadline - time.monotonic()
        timer = asyncio.get_running_loop().call_later(max(0.0, left), self._give_up)
        try:
            yield self.established
        finally:
            timer.cancel()

    def _give_up(self) -> None:
        if not self.established.done():
            self.refuse(not_established(self._transport, self._topic))

    async def wait_established(self) -> None:
        """Wait until it is established. Raises the reason if it cannot be."""
        with self.bounded() as established:
            await asyncio.wrap_future(established)

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self.refuse(SubscriptionClosed(f"the channel {self.name!r} was unsubscribed meanwhile"))
        if self._subscription is not None:
            self._subscription.close()


def _has_ended(subscription: QueuedReader) -> bool:
    """Return whether it was closed, or cannot be established."""
    try:
        subscription.wait_established(0)
    except SubscriptionClosed:
        return True
    return subscription.closed


class Feed:
    """The messages of all readings, in the event loop of one run of the application.

    `take` returns the data of the next message of a reading, or `None`.
    """

    def __init__(self, take: Callable[[Reading], bytes | None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._take = take
        self._waker = waker_of(self.loop)
        self._events: deque[tuple[Reading, bytes]] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._taken = 0
        # The readings with something new. Any thread appends to them. `_announced` prevents duplicates.
        self._ready: deque[Reading] = deque()
        self._announced: set[Reading] = set()

    def announce(self, reading: Reading) -> bool:
        """Note that `reading` has something new. Return whether the loop is open. Any thread may call it."""
        if reading in self._announced:
            return not self.loop.is_closed()
        self._add(reading)
        return self._waker.wake(self._fill)

    def _add(self, reading: Reading) -> None:
        self._announced.add(reading)
        self._ready.append(reading)

    def _fill(self) -> None:
        """Take new messages while there is room. Others wait in the queues of their subscriptions."""
        while self._ready and len(self._events) < WAITING and not self._ended:
            reading = self._ready.popleft()
            self._announced.discard(reading)  # First, so that a later message is announced.
            data = self._take(reading)
            if data is not None:
                self._events.append((reading, data))
                self._add(reading)
        if self._events:
            self._news.set()

    async def next(self) -> tuple[Reading, bytes] | None:
        """Return the next message and its reading, or `None` when the run has ended."""
        while not self._ended:
            self._news.clear()
            self._fill()
            if not self._events:
                await self._news.wait()
                continue
            self._taken += 1
            if self._taken % MESSAGES_AT_ONCE == 0:
                await asyncio.sleep(0)
                continue
            return self._events.popleft()
        return None

    def end(self) -> None:
        """End the stream. Any thread may call it."""
        self._ended = True
        self._waker.wake(self._news.set)
