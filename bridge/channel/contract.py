"""The contract: what a channel, a topic, its two views and a subscription promise.

The shape is that of the broadcast channel between Celery workers and an API server that this project grew
from: at its centre stands a named topic, seen by some as a producer and by others as a subscriber.
"""

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from bridge.model.message import Message


@runtime_checkable
class Subscription(Protocol):
    """One reader's place in a topic.

    It belongs to one reader: only one thread or greenlet may receive from it at a time. `close` may be
    called from any, at any moment.
    """

    def __iter__(self) -> Iterator[Message]:
        """Yield messages as they come, until the subscription is closed.

        Ends quietly after `close`; raises the reason, a subclass of `SubscriptionClosed`, if the
        subscription was closed for one.
        """
        ...

    def receive(self, timeout: float | None = 0.1) -> Message | None:
        """Return the next message, or `None` if none comes within `timeout` seconds (`None`: wait for ever).

        Raises `SubscriptionClosed` after `close`, within 100 ms also in a call that is already waiting. If
        the subscription was closed for a reason, what was queued before comes first, then the reason is
        raised: `SlowConsumer`, `PositionLost` or `ConnectionLost`.
        """
        ...

    def close(self) -> None:
        """Close the subscription and release what it holds. Never blocks; may be called again."""
        ...

    def __enter__(self) -> Self:
        """Return the subscription, which has been established since `subscribe` returned."""
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

    def publish(self, payload: bytes, *, connection: Any = None) -> str | None:
        """Publish `payload`; return the message's id, or `None` where the backend keeps no ids.

        Messages that one thread publishes arrive in that order. Raises `ValueError` for anything but bytes
        of at most `max_payload`, before anything is sent, and `PublishError` if the backend did not take
        the message within the channel's `timeout`.

        With `connection`, a SQLAlchemy connection to the database that carries the channel, the message
        becomes a part of its transaction: it exists, with the id returned, if the caller commits, and never
        did if the caller rolls back. Until then others who publish to this topic wait, and fail after the
        channel's `timeout`. If the topic is `bridge.FEED`, and on SQLite whichever it is, these others are
        all tasks: none of their events is published before the transaction ends. So publish last, and
        commit at once. Raises `ConfigurationError` where the backend is no database or `connection` no
        connection to one.
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

        With `after`, a message's id or `BEGINNING`, it gets the messages kept after that one first. With
        `durable`, a name, it begins after the last message that a reader of that name acknowledged, in this
        process or another; the first time, it begins now. `after` given too moves that place.

        Raises `ConnectionLost` if the backend cannot be reached within the channel's `timeout`,
        `PositionLost` if what follows `after` is no longer all there, `ConfigurationError` if the backend
        keeps no messages, and `ValueError` for what is no id. Once open, the subscription survives outages
        of the backend: it waits, and goes on after the last message it delivered.
        """
        ...

    def history(self, *, limit: int = 100) -> list[Message]:
        """Return the last `limit` messages that are kept, the oldest first.

        Raises `ConnectionLost`, and `ConfigurationError` if the backend keeps no messages.
        """
        ...


@runtime_checkable
class Topic(Producer, Subscriber, Protocol):
    """A named stream of messages, with both views. May be shared by threads and greenlets."""

    def as_producer(self) -> Producer:
        """Return the write-only view."""
        ...

    def as_subscriber(self) -> Subscriber:
        """Return the read-only view."""
        ...


@runtime_checkable
class BroadcastChannel(Protocol):
    """Carries the messages of many topics between processes.

    Every subscription of a topic gets every message of that topic, and of no other. Opens nothing until
    first use, may be shared by threads and greenlets, and may be created before a fork.
    """

    def topic(self, name: str) -> Topic:
        """Return the topic called `name`: 1 to 255 characters, no control characters, else `ValueError`."""
        ...

    def close(self) -> None:
        """Close every subscription and connection of this channel. May be called again."""
        ...
