"""The channel for coroutines: the same views, and no call that blocks the event loop.

Subscriptions are fed by the process's one hub like all others. What is new reaches an event loop through a
bell: one call into the loop a batch, however many subscriptions it is for, and no thread each. What has to
wait for the backend, a publish above all, does so in a few threads a channel.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Self, TypeVar
from weakref import WeakValueDictionary

from bridge.aio.executor import executor_of
from bridge.channel.channel import Channel, Start, channel_of
from bridge.channel.contract import Producer, Subscriber
from bridge.channel.subscription import QueuedSubscription
from bridge.errors import SubscriptionClosed
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.support.server import forget, while_ending

T = TypeVar("T")


class AsyncSubscription:
    """One reader's place in a topic; `bridge.Subscription` for a coroutine of one event loop.

    Only one task at a time may receive from it. `close` may be called from any thread, at any moment.
    """

    def __init__(self, channel: Channel, topic: str, start: Start) -> None:
        """Open it within the running event loop; it is not established yet."""
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._bell = bell_of(self._loop)
        self._waiter: asyncio.Future[None] | None = None
        self._queue: QueuedSubscription = channel.open(topic, start, self._woken)

    async def receive(self, timeout: float | None = 0.1) -> Message | None:
        """Return the next message, or `None` if none comes within `timeout` seconds (`None`: wait for ever).

        Raises what `bridge.Subscription.receive` raises, in the same order. Cancelled, it has taken nothing:
        the message that would have been returned is the next one.
        """
        message = self._queue.receive(timeout=0)
        if message is None and timeout != 0:
            try:
                async with asyncio.timeout(timeout):
                    return await self._wait(lambda: self._queue.receive(timeout=0))
            except TimeoutError:
                return None
        return message

    async def wait_established(self) -> None:
        """Wait until it misses nothing. Raises the reason if it is closed for one meanwhile."""
        await self._wait(self._established)

    def _established(self) -> bool | None:
        if self._queue.closed:
            raise SubscriptionClosed("the subscription is closed")
        return self._queue.wait_established(0) or None

    async def _wait(self, look: Callable[[], T | None]) -> T:
        """Return the first value of `look()` that is not `None`, looking whenever there is something new."""
        if self._waiter is not None:
            raise RuntimeError("another task is receiving from this subscription; subscribe once for each")
        try:
            while True:
                # Before the look: what comes right after it must find somebody to wake.
                waiter = self._waiter = self._loop.create_future()
                found = look()
                if found is not None:
                    return found
                await waiter
        finally:
            self._waiter = None

    def _woken(self) -> bool:
        """There is something new; called by any thread."""
        if self._waiter is None:
            return not self._loop.is_closed()
        return self._bell.ring(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def __aiter__(self) -> Self:
        """Yield messages as they come; ends as `bridge.Subscription.__iter__` does."""
        return self

    async def __anext__(self) -> Message:
        try:
            message = await self.receive(timeout=None)
        except SubscriptionClosed:
            if self._queue.closed:
                raise StopAsyncIteration from None
            raise
        assert message is not None
        return message

    async def ack(self, message: Message) -> None:
        """Acknowledge a message of a durable reader; raises what `message.ack` raises."""
        await _in_thread(self._channel, message.ack)

    def close(self) -> None:
        """Close the subscription and release what it holds. Never blocks; may be called again."""
        self._queue.close()


def subscribe(
    subscriber: Subscriber, *, after: str | None = None, durable: str | None = None
) -> AbstractAsyncContextManager[AsyncSubscription]:
    """Return a context with a subscription that gets every message published after the context was entered.

    `after`, `durable` and what is raised are those of `bridge.Subscriber.subscribe`. A bad argument is
    refused by this call: `ValueError` for what is no id, `ConfigurationError` where nothing is kept. All
    else, `PositionLost` and `ConnectionLost` among it, is raised when the context is entered or later.
    Leaving the context closes the subscription. Cancelled while it opens, it leaves nothing open. It is
    closed too when the uvicorn or gunicorn that runs the process was told to end: that server waits for the
    responses that read the subscription.
    """
    channel = channel_of(subscriber)
    channel.check_start(after, durable)
    return _subscribed(channel, subscriber.topic, after, durable)


@asynccontextmanager
async def _subscribed(
    channel: Channel, topic: str, after: str | None, durable: str | None
) -> AsyncIterator[AsyncSubscription]:
    channel.enter_loop()
    if durable is None:
        start = channel.start(topic, after, None)
    else:
        start = await _in_thread(channel, channel.start, topic, after, durable)
    messages = AsyncSubscription(channel, topic, start)
    while_ending(messages.close)
    try:
        try:
            async with asyncio.timeout(channel.timeout):
                await messages.wait_established()
        except TimeoutError:
            raise channel.unreachable(topic) from None
        yield messages
    finally:
        forget(messages.close)
        messages.close()


async def publish(producer: Producer, payload: bytes) -> str | None:
    """Publish `payload`; return the message's id, or `None` where the backend keeps no ids.

    What one event loop publishes to a topic arrives in the order in which it was begun, also where several
    calls run at once. Raises what `bridge.Producer.publish` raises. A call that is cancelled publishes
    nothing if it had not begun to; else the message may arrive all the same.
    """
    return await publish_to(channel_of(producer), Publication(producer.topic, payload))


def publish_to(
    channel: Channel, publication: Publication, hold: "Future[None] | None" = None
) -> "asyncio.Future[str | None]":
    """Begin to publish a message.

    The message, and what is published to its topic after it, leaves when `hold` is done.
    """
    channel.enter_loop()
    publication.payload = channel.check_payload(publication.payload)
    work = partial(channel.publish, publication)
    return asyncio.wrap_future(executor_of(channel).in_order(publication.topic, work, channel.timeout, hold))


async def history(subscriber: Subscriber, *, limit: int = 100) -> list[Message]:
    """Return the last `limit` messages that are kept; raises what `bridge.Subscriber.history` raises."""
    channel = channel_of(subscriber)
    return await _in_thread(channel, channel.history, subscriber.topic, limit)


async def _in_thread(channel: Channel, work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.wrap_future(executor_of(channel).submit(work, *arguments))


class Bell:
    """Brings what is new into one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wakes: deque[Callable[[], None]] = deque()
        self._rung = False

    def ring(self, wake: Callable[[], None]) -> bool:
        """Have the loop call `wake` soon; return whether there still is a loop. Any thread may call it."""
        self._wakes.append(wake)
        if not self._rung:
            self._rung = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:
                return False
        return not self._loop.is_closed()

    def _answer(self) -> None:
        self._rung = False
        while self._wakes:
            self._wakes.popleft()()


_bells: "WeakValueDictionary[asyncio.AbstractEventLoop, Bell]" = WeakValueDictionary()


def bell_of(loop: asyncio.AbstractEventLoop) -> Bell:
    """Return the bell of `loop`, which is there while a subscription holds it; in the loop's own thread."""
    bell = _bells.get(loop)
    if bell is None:
        bell = _bells[loop] = Bell(loop)
    return bell
