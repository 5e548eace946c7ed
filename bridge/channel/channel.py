"""The public classes of every backend: a channel, a topic and its two views.

Their public names are those of the contract, and no others. All else is in `transport.py`.
"""

from types import TracebackType

# `Any` in this module: the `connection` of `publish` is an object of the database's driver.
from typing import Any, Self

from bridge.channel.contract import Producer, Subscriber, Subscription, Topic
from bridge.channel.subscription import subscribe
from bridge.channel.transport import Transport
from bridge.model.event_type import check_event_type
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.support.validate import check_name, check_positive


class Channel:
    """The `BroadcastChannel` of every backend. Leaving its context closes it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def topic(self, name: str) -> Topic:
        """Return the topic called `name`: 1 to 255 characters, no control characters, else `ValueError`."""
        return ChannelTopic(self._transport, check_name(name, "a topic name"))

    def close(self) -> None:
        """Close every subscription and connection of this channel. May be called again."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class View:
    """A topic of a channel. `bridge.channel.contract` describes its methods."""

    def __init__(self, transport: Transport, topic: str) -> None:
        self._transport = transport
        self._topic = topic

    @property
    def topic(self) -> str:
        """The topic's name."""
        return self._topic

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._topic!r}>"


class TopicProducer(View):
    """The `Producer` of every backend."""

    def publish(
        self,
        payload: bytes,
        *,
        type: str | None = None,  # noqa: A002
        connection: Any = None,
    ) -> str | None:
        event_type = None if type is None else check_event_type(type)
        return self._transport.publish(Publication(self._topic, payload, event_type), connection)


class TopicSubscriber(View):
    """The `Subscriber` of every backend."""

    def subscribe(self, *, after: str | None = None, durable: str | None = None) -> Subscription:
        return subscribe(self._transport, self._topic, after, durable)

    def history(self, *, limit: int = 100) -> list[Message]:
        self._transport.require_replay("history")
        check_positive(unit="a whole number", whole=True, error=ValueError, limit=limit)
        return self._transport.backend.history(self._topic, limit)


class ChannelTopic(TopicProducer, TopicSubscriber):
    """The `Topic` of every backend."""

    def as_producer(self) -> Producer:
        return TopicProducer(self._transport, self._topic)

    def as_subscriber(self) -> Subscriber:
        return TopicSubscriber(self._transport, self._topic)
