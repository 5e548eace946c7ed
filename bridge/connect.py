"""`connect`: a URL becomes a broadcast channel, its backend and its hub behind it."""

import os
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from bridge.backends import open_backend
from bridge.channel import Message, Producer, Subscriber, Subscription
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.hub import Hub, Member
from bridge.ports import Backend, Letter
from bridge.position import Position, parse
from bridge.state import Change, Retention, TopicState
from bridge.subscription import QueuedSubscription

LONGEST_TOPIC = 255


def connect(
    url: str,
    *,
    namespace: str = "bridge",
    max_payload: int = 1024 * 1024,
    queue_size: int = 10_000,
    timeout: float = 5.0,
    retention_seconds: float = 86_400.0,
    retention_messages: int = 10_000,
    **options: Any,
) -> "Channel":
    """Return the broadcast channel that `url` names; nothing is opened until its first use.

    `namespace` prefixes every key, so that several bridges can share a server. `max_payload` is in bytes,
    `queue_size` in messages that one subscription may fall behind, `timeout` in seconds that opening a
    connection, one publish or one subscribe may take. A backend that replays keeps the last
    `retention_messages` of each topic for `retention_seconds`, and a task's state as long after its last
    event. `options` are those of one backend. Raises `ConfigurationError` for a URL, an option or an extra
    that will not do.
    """
    numbers = {
        "max_payload": max_payload,
        "queue_size": queue_size,
        "timeout": timeout,
        "retention_seconds": retention_seconds,
        "retention_messages": retention_messages,
    }
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ConfigurationError(f"{name} must be a number above zero, not {value!r}")
    try:
        _check_name(namespace, "a namespace")
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    try:
        retention = Retention(retention_seconds, retention_messages)
        backend = open_backend(
            url, {"namespace": namespace, "timeout": timeout, "retention": retention, **options}
        )
    except TypeError as error:
        unknown = ", ".join(options)
        raise ConfigurationError(f"this backend does not take the options {unknown}: {error}") from error
    return Channel(backend, max_payload=max_payload, queue_size=queue_size, timeout=timeout)


def draw_token() -> bytes:
    """Return hexadecimal digits by which the backend can tell a message from any published before."""
    return os.urandom(8).hex().encode()


def _check_name(name: object, what: str) -> str:
    """Return `name` if it is 1 to 255 characters without control characters, else raise `ValueError`."""
    if not isinstance(name, str):
        raise ValueError(
            f"{what} must be a str of 1 to {LONGEST_TOPIC} characters, not {type(name).__name__}"
        )
    if not 1 <= len(name) <= LONGEST_TOPIC:
        raise ValueError(f"{what} must have 1 to {LONGEST_TOPIC} characters, this one has {len(name)}")
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"{what} must not contain control characters, {name!r} contains {character!r}")
    return name


class Channel:
    """The `BroadcastChannel` of every backend."""

    def __init__(self, backend: Backend, *, max_payload: int, queue_size: int, timeout: float) -> None:
        self._backend = backend
        self._hub = Hub(backend, queue_size=queue_size)
        self._max_payload = max_payload
        self._timeout = timeout
        self._closed = False

    def topic(self, name: str) -> "NamedTopic":
        return NamedTopic(self, _check_name(name, "a topic name"))

    def close(self) -> None:
        self._closed = True
        self._hub.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def check_payload(self, payload: bytes) -> bytes:
        """Return `payload` as bytes; raise `ValueError` if it is none or larger than `max_payload`."""
        if not isinstance(payload, bytes | bytearray | memoryview):
            raise ValueError(
                f"a payload must be at most {self._max_payload} bytes, not {type(payload).__name__}"
            )
        payload = bytes(payload)
        if len(payload) > self._max_payload:
            raise ValueError(
                f"a payload must be at most {self._max_payload} bytes (max_payload), not {len(payload)}"
            )
        return payload

    def publish(
        self,
        topic: str,
        payload: bytes,
        change: Change | None = None,
        token: bytes | None = None,
        again: bool = False,
    ) -> str | None:
        """Publish to the topic of that name, with what the message changes in the topic's state.

        Who may have to publish the message once more draws a `token` for it, and says so with `again`.
        """
        if self._closed:
            raise PublishError("the channel is closed; connect again")
        position = self._backend.publish(
            topic, self.check_payload(payload), change, token or draw_token(), again
        )
        return None if position is None else str(position)

    def publish_many(self, letters: Sequence[Letter], again: bool = False) -> None:
        """Publish messages in order; if it raises `PublishError`, repeat it for all of them with `again`."""
        if self._closed:
            raise PublishError("the channel is closed; connect again")
        self._backend.publish_many(letters, again)

    def subscribe(self, topic: str, after: str | None, durable: str | None) -> QueuedSubscription:
        start = None if after is None else parse(after)
        acknowledge = None
        if after is not None or durable is not None:
            self._need_replay("subscribe(after=...)" if durable is None else "a durable reader")
        if durable is not None:
            name = _check_name(durable, "the name of a durable reader")
            if start is not None:
                self._backend.acknowledge(topic, name, start, back=True)
            else:
                start = self._backend.acknowledged(topic, name)
            acknowledge = partial(self._backend.acknowledge, topic, name, back=False)
        subscription = self._hub.open(
            [topic], after={topic: start} if start else None, acknowledge=acknowledge
        )
        return self._established(subscription, topic)

    def _established(self, subscription: QueuedSubscription, topic: str) -> QueuedSubscription:
        established = False
        try:
            established = subscription.wait_established(self._timeout)
        finally:
            if not established:
                subscription.close()
        if not established:
            why = self._hub.last_error or "it does not answer"
            raise ConnectionLost(f"could not subscribe to {topic!r} within {self._timeout:g} s: {why}")
        return subscription

    def history(self, topic: str, limit: int) -> list[Message]:
        self._need_replay("history")
        if not isinstance(limit, int) or limit < 1:
            raise ValueError(f"limit must be a whole number above zero, not {limit!r}")
        return self._backend.history(topic, limit)

    def _need_replay(self, what: str) -> None:
        if not self._backend.replays:
            raise ConfigurationError(
                f"{what} needs a backend that keeps messages, such as redis:// or memory://"
            )

    @property
    def replays(self) -> bool:
        """Whether the backend keeps messages."""
        return self._backend.replays

    def join(self, member: Member, after: Mapping[str, Position] | None) -> None:
        """Have `member` read its topics, each after the place given for it, until it leaves."""
        self._hub.join(member, after)

    def leave(self, member: Member) -> None:
        """`member` reads no more."""
        self._hub.discard(member)

    def has_room(self, member: Member) -> None:
        """`member`, which had no room for history, has some again."""
        self._hub.has_room(member)

    def watch(self, topics: Iterable[str], after: Mapping[str, Position] | None = None) -> QueuedSubscription:
        """Open one subscription to several topics without waiting for it.

        For each topic it begins after the position given, or else with the state; with that also if what
        follows the position is lost.
        """
        return self._hub.open(topics, after=after, stateful=True)

    def states(self, topic: str) -> list[TopicState]:
        """Read the state of `topic`, or of each member where it is a group. Raises `ConnectionLost`."""
        return self._backend.states(topic)

    def field(self, topic: str, name: str) -> bytes | None:
        """Read one field of the state of `topic`. Raises `ConnectionLost`."""
        return self._backend.field(topic, name)

    def ping(self) -> None:
        """Raise `ConnectionLost` if the backend cannot be reached."""
        self._backend.ping()

    def stats(self) -> dict[str, int]:
        """Return what this process counts: open subscriptions, messages received, connections lost, …"""
        return {
            "subscriptions": self._hub.subscriptions,
            "messages_received": self._hub.messages_received,
            "connections_lost": self._hub.connections_lost,
            "slow_consumers": self._hub.slow_consumers,
        }


class _View:
    """A topic of a channel."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name

    @property
    def topic(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


class TopicProducer(_View):
    """The `Producer` of every backend."""

    def publish(self, payload: bytes) -> str | None:
        return self._channel.publish(self._name, payload)


class TopicSubscriber(_View):
    """The `Subscriber` of every backend."""

    def subscribe(self, *, after: str | None = None, durable: str | None = None) -> Subscription:
        return self._channel.subscribe(self._name, after, durable)

    def history(self, *, limit: int = 100) -> list[Message]:
        return self._channel.history(self._name, limit)


class NamedTopic(TopicProducer, TopicSubscriber):
    """The `Topic` of every backend."""

    def as_producer(self) -> Producer:
        return TopicProducer(self._channel, self._name)

    def as_subscriber(self) -> Subscriber:
        return TopicSubscriber(self._channel, self._name)
