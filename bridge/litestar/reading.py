"""What a backend for Litestar reads: a subscription for each Litestar channel, and what is new among them.

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
"""Messages that may wait for `stream_events`; more wait in the queues of their subscriptions."""

MESSAGES_AT_ONCE = 100
"""After so many the event loop has a turn."""


class Reading:
    """A Litestar channel that is subscribed to. `announce` is told, by any thread, of what is new."""

    def __init__(
        self, transport: Transport, name: str, topic: str, announce: Callable[["Reading"], bool]
    ) -> None:
        self.name = name
        self.after: str | None = None
        """The message that was read last."""
        self.failing: type[Exception] | None = None
        """What has been logged since then of why it is not read."""
        self._transport = transport
        self._topic = topic
        self._announce = announce
        self._subscription: QueuedReader | None = None
        self._closed = False
        self._opening = threading.Lock()  # so that only one subscription is opened at a time
        self.expect()

    def expect(self) -> None:
        """Begin to wait, for the channel's timeout at most, until it is established."""
        self._deadline = time.monotonic() + self._transport.timeout
        established: Future[None] = Future()
        established.set_running_or_notify_cancel()  # who waits for it may be cancelled, it may not
        self.established = established

    @property
    def refused(self) -> bool:
        """Whether those who waited for it to be established were told that it is not."""
        return self.established.done() and self.established.exception() is not None

    def resume(self) -> None:
        """Subscribe, after the message that was read last, unless there is a subscription that goes on."""
        with self._opening:
            if self._subscription is None or _has_ended(self._subscription):
                self._open()
        self._woken()  # it may have been woken before it was here

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
        """Return the next message, if there is one. Raises once why the channel is read no more."""
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
        """There is something new; called by any thread, which may hold the hub's lock."""
        self._look_whether_established()
        return self._announce(self)

    def _look_whether_established(self) -> None:
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
        """Tell those who wait for it to be established that it is not."""
        with suppress(InvalidStateError):
            self.established.set_exception(error)

    @contextmanager
    def bounded(self) -> Iterator["Future[None]"]:
        """Yield what is done once it is established, or refused, which it is when its time is over."""
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
        """Wait until it misses nothing. Raises the reason why it is not read."""
        with self.bounded() as established:
            await asyncio.wrap_future(established)

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        self.refuse(SubscriptionClosed(f"the channel {self.name!r} was unsubscribed meanwhile"))
        if self._subscription is not None:
            self._subscription.close()


def _has_ended(subscription: QueuedReader) -> bool:
    """Whether it was closed, or was never established and will not be."""
    try:
        subscription.wait_established(0)
    except SubscriptionClosed:
        return True
    return subscription.closed


class Feed:
    """What is new of the readings, in the event loop of one run of the application.

    `take` returns the next message of a reading, if there is one.
    """

    def __init__(self, take: Callable[[Reading], bytes | None]) -> None:
        self.loop = asyncio.get_running_loop()
        self._take = take
        self._waker = waker_of(self.loop)
        self._events: deque[tuple[Reading, bytes]] = deque()
        self._news = asyncio.Event()
        self._ended = False
        self._taken = 0
        # Appended to by any thread; `_announced` has what `_ready` has, so that each is in it once.
        self._ready: deque[Reading] = deque()
        self._announced: set[Reading] = set()

    def announce(self, reading: Reading) -> bool:
        """There is something new of `reading`; return whether there still is a loop. Called by any thread."""
        if reading in self._announced:
            return not self.loop.is_closed()
        self._add(reading)
        return self._waker.wake(self._look)

    def _add(self, reading: Reading) -> None:
        self._announced.add(reading)
        self._ready.append(reading)

    def _look(self) -> None:
        """Take what is new, as long as there is room; more waits in the queues of the subscriptions."""
        while self._ready and len(self._events) < WAITING and not self._ended:
            reading = self._ready.popleft()
            self._announced.discard(reading)  # before the look: what comes right after it is announced again
            data = self._take(reading)
            if data is not None:
                self._events.append((reading, data))
                self._add(reading)
        if self._events:
            self._news.set()

    async def next(self) -> tuple[Reading, bytes] | None:
        """Return the next message and whose it is, or `None` when the run is over."""
        while not self._ended:
            self._news.clear()
            self._look()
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
