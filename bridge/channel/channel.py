"""The broadcast channel of every backend: its topics, their two views, and how they reach the hub."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any, Self

from bridge.backends.base import Backend, Transactional
from bridge.channel.contract import Producer, Subscriber, Subscription
from bridge.channel.hub import Hub, Member
from bridge.channel.subscription import QueuedSubscription
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.model.message import Message
from bridge.model.position import Position, parse
from bridge.model.publication import Publication
from bridge.model.state import Retention, TopicState
from bridge.support.validate import check_name, check_payload, check_positive

Start = tuple[Position | None, Callable[[Position], None] | None]
"""Where a subscription begins, and what takes note of a durable reader's place."""


class Channel:
    """The `BroadcastChannel` of every backend."""

    def __init__(
        self, backend: Backend, *, max_payload: int, queue_size: int, timeout: float, retention: Retention
    ) -> None:
        self._backend = backend
        self._hub = Hub(backend, queue_size=queue_size, retention=retention)
        self._max_payload = max_payload
        self.timeout = timeout
        self.where = "an unnamed backend"
        """Where it publishes, for people who read a log; no password is in it."""
        self._closed = False

    def topic(self, name: str) -> "NamedTopic":
        return NamedTopic(self, check_name(name, "a topic name"))

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

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

    def enter_loop(self) -> None:
        """A coroutine is about to use the channel; called in its event loop, which most backends ignore."""

    def check_payload(self, payload: object) -> bytes:
        """Return `payload` as bytes; raise `ValueError` if it is none or larger than `max_payload`."""
        return check_payload(payload, self._max_payload)

    def publish(self, publication: Publication, connection: Any = None) -> str | None:
        """Publish a message; return its id, `None` where the backend keeps no ids.

        With `connection` it becomes a part of that connection's transaction.
        """
        if self._closed:
            raise PublishError("the channel is closed; connect again")
        publication.payload = self.check_payload(publication.payload)
        if connection is None:
            position = self._backend.publish(publication)
        elif isinstance(self._backend, Transactional):
            position = self._backend.publish_within(connection, publication)
        else:
            raise ConfigurationError(
                "publish(connection=...) needs a database as the backend, such as postgresql:// or sqlite:///"
            )
        return None if position is None else str(position)

    def publish_many(self, publications: Sequence[Publication]) -> int:
        """Publish messages in order and return how many are published; repeat the others.

        Raises `PublishError` if none is known to be published.
        """
        if self._closed:
            raise PublishError("the channel is closed; connect again")
        return self._backend.publish_many(publications)

    def subscribe(self, topic: str, after: str | None, durable: str | None) -> QueuedSubscription:
        subscription = self.open(topic, self.start(topic, after, durable))
        established = False
        try:
            established = subscription.wait_established(self.timeout)
        except ConnectionLost as error:
            if isinstance(error.__cause__, ConfigurationError):
                raise error.__cause__ from None
            raise
        finally:
            if not established:
                subscription.close()
        if not established:
            raise self.unreachable(topic)
        return subscription

    def check_start(self, after: str | None, durable: str | None) -> Position | None:
        """Return the position that `after` names, without a call to the backend.

        Raises `ValueError` for what is no id or no name, and `ConfigurationError` where nothing is kept.
        """
        start = None if after is None else parse(after)
        if durable is not None:
            check_name(durable, "the name of a durable reader")
        if after is not None or durable is not None:
            self._need_replay("subscribe(after=...)" if durable is None else "a durable reader")
        return start

    def start(self, topic: str, after: str | None, durable: str | None) -> Start:
        """Return where a subscription begins; only a durable reader's place is asked of the backend."""
        start = self.check_start(after, durable)
        if durable is None:
            return start, None
        if start is not None:
            self._backend.acknowledge(topic, durable, start, back=True)
        else:
            start = self._backend.acknowledged(topic, durable)
        return start, partial(self._backend.acknowledge, topic, durable, back=False)

    def open(self, topic: str, start: Start, woken: Callable[[], bool] | None = None) -> QueuedSubscription:
        """Open a subscription without waiting until it is established."""
        place, acknowledge = start
        after = {topic: place} if place else None
        return self._hub.open([topic], after=after, acknowledge=acknowledge, woken=woken)

    def unreachable(self, topic: str) -> ConnectionLost:
        """Return the error of a subscription that was not established in time."""
        why = self._hub.last_error or "it does not answer"
        return ConnectionLost(f"could not subscribe to {topic!r} within {self.timeout:g} s: {why}")

    def history(self, topic: str, limit: int) -> list[Message]:
        self._need_replay("history")
        check_positive(unit="a whole number", whole=True, error=ValueError, limit=limit)
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

    def renew(self, topics: Sequence[str]) -> None:
        """Keep what there is of `topics` as long as if it had changed now, unless the state is an end.

        Raises `PublishError`.
        """
        if not self._closed:
            self._backend.renew(topics)

    def states(self, topic: str, limit: int | None = None) -> list[TopicState]:
        """Read the state of `topic`, and where it is a group those of its members, the newest first.

        `limit` is the most that is read. Raises `ConnectionLost`.
        """
        page = self._backend.states(topic)
        found = list(page.states)
        while page.more is not None and (limit is None or len(found) < limit):
            page = self._backend.states(topic, page.more)
            found += page.states
        return found[:limit]

    def field(self, topic: str, name: str) -> bytes | None:
        """Read one field of the state of `topic`. Raises `ConnectionLost`."""
        return self._backend.field(topic, name)

    def migrate(self) -> str:
        """Make the tables of the database, or bring them up to date; return what there is now, in words.

        Raises `ConfigurationError` if the backend is no database or its tables are newer than this package,
        and `ConnectionLost`.
        """
        if not isinstance(self._backend, Transactional):
            raise ConfigurationError("only a database has tables, such as postgresql:// or sqlite:///")
        return self._backend.migrate()

    @property
    def outage(self) -> Exception | None:
        """Why those who read wait for the backend, `None` if as far as is known they do not."""
        return self._hub.outage

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


class View:
    """A topic of a channel."""

    def __init__(self, channel: Channel, name: str) -> None:
        self._channel = channel
        self._name = name

    @property
    def topic(self) -> str:
        return self._name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._name!r}>"


class TopicProducer(View):
    """The `Producer` of every backend."""

    def publish(self, payload: bytes, *, connection: Any = None) -> str | None:
        return self._channel.publish(Publication(self._name, payload), connection)


class TopicSubscriber(View):
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


def channel_of(view: object) -> Channel:
    """Return the channel that a view of a topic belongs to; raise `TypeError` if it is no such view."""
    if not isinstance(view, View):
        raise TypeError(f"a view of a bridge channel's topic is needed, not {type(view).__name__}")
    return view._channel
