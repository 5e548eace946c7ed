"""The contract: what a channel, a topic, its two views and a subscription promise.

A channel has named topics. Each message goes to one topic. A producer publishes to a topic, a subscriber
reads it, and a topic is both. Every backend keeps these promises; one test suite holds all of them to it.
"""

from collections.abc import Iterator
from types import TracebackType

# `Any` in this module: the `connection` of `publish` is an object of the database's driver.
from typing import Any, Protocol, Self, runtime_checkable

from bridge.model.message import Message


@runtime_checkable
class Subscription(Protocol):
    """One reader's place in a topic.

    It belongs to one reader: only one thread or greenlet may receive from it at a time. Any thread may call
    `close`, at any moment. Leaving its context closes it.
    """

    def __iter__(self) -> Iterator[Message]:
        """Yield messages as they come, until the subscription is closed.

        The iteration just ends after `close`. If the subscription was closed for a reason, it raises the
        reason, a subclass of `SubscriptionClosed`.
        """
        ...

    def receive(self, timeout: float | None = 0.1) -> Message | None:
        """Return the next message, or `None` if none comes within `timeout` seconds (`None`: wait for ever).

        Raises `SubscriptionClosed` after `close`. A call that already waits raises it within 100 ms. If the
        subscription was closed for a reason, the messages that were queued before come first. Then each call
        raises the reason: `SlowConsumer`, `PositionLost` or `ConnectionLost`.
        """
        ...

    def close(self) -> None:
        """Close the subscription and release its resources. Never blocks, and may be called again."""
        ...

    def __enter__(self) -> Self:
        """Return the subscription itself."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the subscription."""
        ...


@runtime_checkable
class Producer(Protocol):
    """The write-only view of a topic. May be shared by threads and greenlets."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    def publish(
        self,
        payload: bytes,
        *,
        type: str | None = None,  # noqa: A002
        connection: Any = None,
    ) -> str | None:
        """Publish `payload`; return the message's id, or `None` where the backend keeps no ids.

        `type` is the event type: readers find it in `Message.type`, and a stream sends it as `event:`. It has
        1 to 100 printable characters. The types of task events and streams, such as `state` and `end`, are
        reserved on every topic. So no message of another topic can end a stream, or pass for a task's event.

        Messages that one thread publishes arrive in that order. Raises `ValueError`, before anything is
        sent, if `payload` is not bytes or has more than `max_payload` bytes, or if `type` is not allowed.
        Raises `PublishError` if the backend does not accept the message within the channel's `timeout`.

        `connection` is a SQLAlchemy connection to the database that carries the channel. With it the message
        becomes a part of the connection's transaction. If the caller commits, the message exists with the
        returned id; if the caller rolls back, it never existed. Until the transaction ends, others who
        publish to this topic wait, and fail after the channel's `timeout`. If the topic is `bridge.FEED`,
        and for any topic on SQLite, no task event is published before the transaction ends. So publish last,
        and commit at once. Raises `ConfigurationError` if the backend is not a database, or `connection` is
        not a connection to it.
        """
        ...


@runtime_checkable
class Subscriber(Protocol):
    """The read-only view of a topic. May be shared by threads and greenlets."""

    @property
    def topic(self) -> str:
        """The topic's name."""
        ...

    def subscribe(self, *, after: str | None = None, durable: str | None = None) -> Subscription:
        """Open a subscription that gets every message published after this call returns.

        `after` is the id of a message, or `BEGINNING`. With it the subscription first gets the messages that
        are kept after that one. `durable` is the name of a durable reader. With it the subscription begins
        after the last message that a reader of that name acknowledged, in this process or another. The first
        time, it begins now. With both, `after` replaces the place of the durable reader.

        Raises `ConnectionLost` if the backend cannot be reached within the channel's `timeout`,
        `PositionLost` if some messages that follow `after` are no longer kept, `ConfigurationError` if the
        backend keeps no messages, and `ValueError` if `after` is not an id. An open subscription survives
        outages of the backend: it waits, and then goes on after the last message that it delivered.
        """
        ...

    def history(self, *, limit: int = 100) -> list[Message]:
        """Return the last `limit` messages that are kept, the oldest first.

        Raises `ConnectionLost` if the backend cannot be reached, `ConfigurationError` if it keeps no
        messages, and `ValueError` if `limit` is not a whole number above zero.
        """
        ...


@runtime_checkable
class Topic(Producer, Subscriber, Protocol):
    """A named stream of messages, and both of its views. May be shared by threads and greenlets."""

    def as_producer(self) -> Producer:
        """Return the write-only view."""
        ...

    def as_subscriber(self) -> Subscriber:
        """Return the read-only view."""
        ...


@runtime_checkable
class BroadcastChannel(Protocol):
    """Carries the messages of many topics between processes.

    Every subscription of a topic gets every message of that topic, and of no other topic. A channel opens
    nothing until its first use. It may be shared by threads and greenlets, and may be created before a fork.
    """

    def topic(self, name: str) -> Topic:
        """Return the topic called `name`.

        Raises `ValueError` unless `name` is a str of 1 to 255 characters without control characters.
        """
        ...

    def close(self) -> None:
        """Close every subscription and connection of this channel. May be called again."""
        ...
