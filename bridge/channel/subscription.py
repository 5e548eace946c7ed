"""Subscribing: where a subscription begins, how it is opened, and what its owner sees of it."""

from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

from bridge.channel.queued_reader import QueuedReader
from bridge.channel.transport import Transport
from bridge.errors import ConfigurationError, ConnectionLost, SubscriptionClosed
from bridge.model.message import Message
from bridge.model.position import Position, parse
from bridge.support.validate import check_name


class Start(NamedTuple):
    """Where a subscription begins."""

    after: Position | None
    """It gets the messages that follow this position; with `None` those that are published from now on."""
    acknowledge: Callable[[Position], None] | None = None
    """Stores the place of a durable reader."""


def check_start(transport: Transport, after: str | None, durable: str | None) -> Position | None:
    """Return the position that `after` names, without a call to the backend.

    Raises `ValueError` for what is no id or no name, and `ConfigurationError` where nothing is kept.
    """
    start = None if after is None else parse(after)
    if durable is not None:
        check_name(durable, "the name of a durable reader")
    if after is not None or durable is not None:
        transport.require_replay("subscribe(after=...)" if durable is None else "a durable reader")
    return start


def find_start(transport: Transport, topic: str, after: str | None, durable: str | None) -> Start:
    """Return where a subscription begins. Only the place of a durable reader is asked of the backend.

    Raises what `check_start` raises, and for a durable reader `ConnectionLost` and `PublishError`.
    """
    position = check_start(transport, after, durable)
    if durable is None:
        return Start(position)
    if position is not None:
        transport.backend.acknowledge(topic, durable, position, back=True)
    else:
        position = transport.backend.acknowledged(topic, durable)
    return Start(position, partial(transport.backend.acknowledge, topic, durable, back=False))


def open_reader(
    transport: Transport,
    topic: str,
    start: Start,
    notify: Callable[[], bool] | None = None,
    *,
    queue_bytes: int | None = None,
    with_state: bool = False,
) -> QueuedReader:
    """Return a reader of `topic` that may not be established yet. The options are those of `QueuedReader`.

    Raises `SubscriptionClosed` if the channel is closed.
    """
    reader = QueuedReader(
        transport.hub,
        [topic],
        queue_size=transport.queue_size,
        queue_bytes=queue_bytes,
        with_state=with_state,
        acknowledge=start.acknowledge,
        notify=notify,
    )
    transport.hub.join(reader, {topic: start.after} if start.after is not None else None)
    return reader


def not_established(transport: Transport, topic: str) -> ConnectionLost:
    """Return the error of a subscription that was not established within the timeout."""
    why = transport.hub.last_error or "it does not answer"
    return ConnectionLost(f"could not subscribe to {topic!r} within {transport.timeout:g} s: {why}")


def subscribe(
    transport: Transport, topic: str, after: str | None, durable: str | None
) -> "TopicSubscription":
    """Return an established subscription, as `bridge.Subscriber.subscribe` does."""
    reader = open_reader(transport, topic, find_start(transport, topic, after, durable))
    established = False
    try:
        established = reader.wait_established(transport.timeout)
    except ConnectionLost as error:
        if isinstance(error.__cause__, ConfigurationError):
            raise error.__cause__ from None
        raise
    finally:
        if not established:
            reader.close()
    if not established:
        raise not_established(transport, topic)
    return TopicSubscription(reader)


class TopicSubscription:
    """The `Subscription` of every backend."""

    def __init__(self, reader: QueuedReader) -> None:
        self._reader = reader

    def __iter__(self) -> Iterator[Message]:
        while True:
            try:
                message = self._reader.receive(timeout=None)
            except SubscriptionClosed:
                if self._reader.closed:
                    return
                raise
            if message is not None:
                yield message

    def receive(self, timeout: float | None = 0.1) -> Message | None:
        return self._reader.receive(timeout)

    def close(self) -> None:
        self._reader.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
