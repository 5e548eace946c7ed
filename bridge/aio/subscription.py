"""The channel for coroutines: the same views, and no call that blocks the event loop.

The hub of the channel delivers to these subscriptions as to all others. It wakes an event loop once for each
batch of messages, for any number of subscriptions, and no subscription has a thread. Calls that wait for the
backend, such as a publish, run in a few threads of the channel.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Self, TypeVar

from bridge.aio.executor import executor_of
from bridge.aio.waiter import Waiter
from bridge.channel.channel import View
from bridge.channel.contract import Producer, Subscriber
from bridge.channel.subscription import Start, check_start, find_start, not_established, open_reader
from bridge.channel.transport import Transport, transport_of
from bridge.errors import SubscriptionClosed
from bridge.model.event_type import check_event_type
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.support.server import forget, while_ending
from bridge.support.tracing import in_current_trace
from bridge.support.validate import check_payload

T = TypeVar("T")


class AsyncSubscription:
    """A `bridge.Subscription` for a coroutine of one event loop.

    Only one task at a time may receive from it. `close` may be called from any thread, at any moment.
    """

    def __init__(self, transport: Transport, topic: str, start: Start) -> None:
        """Open it in the running event loop. It is not established yet."""
        self._transport = transport
        self._waiter = Waiter()
        self._reader = open_reader(transport, topic, start, self._waiter.notify)

    async def receive(self, timeout: float | None = 0.1) -> Message | None:
        """Return the next message, or `None` if none comes within `timeout` seconds (`None`: wait for ever).

        Raises what `bridge.Subscription.receive` raises, in the same order. A call that is cancelled loses no
        message: the next call returns it.
        """
        message = self._reader.receive(timeout=0)
        if message is None and timeout != 0:
            try:
                async with asyncio.timeout(timeout):
                    return await self._waiter.wait(lambda: self._reader.receive(timeout=0))
            except TimeoutError:
                return None
        return message

    async def _wait_established(self) -> None:
        """Wait until it is established. Raises the reason if it is closed before."""
        await self._waiter.wait(self._is_established)

    def _is_established(self) -> bool | None:
        if self._reader.closed:
            raise SubscriptionClosed("the subscription is closed")
        return self._reader.wait_established(0) or None

    def __aiter__(self) -> Self:
        """Yield messages as they come. Ends as `bridge.Subscription.__iter__` does."""
        return self

    async def __anext__(self) -> Message:
        try:
            message = await self.receive(timeout=None)
        except SubscriptionClosed:
            if self._reader.closed:
                raise StopAsyncIteration from None
            raise
        assert message is not None
        return message

    async def ack(self, message: Message) -> None:
        """Acknowledge a message of a durable reader. Raises what `message.ack` raises."""
        await _in_thread(self._transport, message.ack)

    def close(self) -> None:
        """Close the subscription and release what it holds. Never blocks; may be called again."""
        self._reader.close()


def subscribe(
    subscriber: Subscriber, *, after: str | None = None, durable: str | None = None
) -> AbstractAsyncContextManager[AsyncSubscription]:
    """Return a context with a subscription that gets every message published after the context was entered.

    The arguments and errors are those of `bridge.Subscriber.subscribe`. This call itself raises `ValueError`
    for a malformed id, and `ConfigurationError` if no messages are kept. All other errors, such as
    `PositionLost` and `ConnectionLost`, are raised when the context is entered or later. Leaving the context
    closes the subscription. A task that is cancelled while the subscription opens leaves nothing open.

    The subscription is also closed when the uvicorn or gunicorn that runs the process is stopped, because
    such a server waits for the responses that read the subscription.
    """
    transport = _transport_of(subscriber)
    check_start(transport, after, durable)
    return _subscribed(transport, subscriber.topic, after, durable)


@asynccontextmanager
async def _subscribed(
    transport: Transport, topic: str, after: str | None, durable: str | None
) -> AsyncIterator[AsyncSubscription]:
    transport.enter_loop()
    if durable is None:
        start = find_start(transport, topic, after, None)
    else:
        start = await _in_thread(transport, find_start, transport, topic, after, durable)
    messages = AsyncSubscription(transport, topic, start)
    while_ending(messages.close)
    try:
        try:
            async with asyncio.timeout(transport.timeout):
                await messages._wait_established()
        except TimeoutError:
            raise not_established(transport, topic) from None
        yield messages
    finally:
        forget(messages.close)
        messages.close()


async def publish(
    producer: Producer,
    payload: bytes,
    *,
    type: str | None = None,  # noqa: A002
) -> str | None:
    """Publish `payload`. Return the id of the message, or `None` if the backend keeps no ids.

    `type` is the event type, as in `bridge.Producer.publish`.

    The messages that one event loop publishes to a topic arrive in the order of the calls, even if several
    calls run at once. Raises what `bridge.Producer.publish` raises. If a call is cancelled before the backend
    gets the message, nothing is published. Otherwise the message may still arrive.
    """
    transport = _transport_of(producer)
    event_type = None if type is None else check_event_type(type)
    return await publish_to(transport, Publication(producer.topic, payload, event_type))


def _transport_of(view: Producer | Subscriber) -> Transport:
    """Return the transport of a topic or of one of its views; raise `TypeError` for anything else."""
    if not isinstance(view, View):
        raise TypeError(f"a topic or a view of it is needed, not {type(view).__name__}")
    return transport_of(view)


def publish_to(
    transport: Transport, publication: Publication, hold: "Future[None] | None" = None
) -> "asyncio.Future[str | None]":
    """Begin to publish a message.

    The message, and later messages to its topic, wait until `hold` is done.
    """
    transport.enter_loop()
    publication.payload = check_payload(publication.payload, transport.max_payload)
    work = in_current_trace(partial(transport.publish, publication))
    executor = executor_of(transport)
    return asyncio.wrap_future(executor.in_order(publication.topic, work, transport.timeout, hold))


async def history(subscriber: Subscriber, *, limit: int = 100) -> list[Message]:
    """Return the last `limit` messages that are kept. Raises what `bridge.Subscriber.history` raises."""
    return await _in_thread(_transport_of(subscriber), partial(subscriber.history, limit=limit))


async def _in_thread(transport: Transport, work: Callable[..., T], *arguments: object) -> T:
    return await asyncio.wrap_future(executor_of(transport).submit(work, *arguments))
