"""The transport of a channel: its backend, its hub and its limits, for the packages of the bridge.

Nothing of it is public. A channel and its views show the contract's names only; `transport_of` reaches behind
them.
"""

from collections.abc import Callable, Sequence

# `Any` in this module: the `connection` of `publish` is an object of the database's driver.
from typing import Any

from bridge.backends.base import Backend, Transactional
from bridge.channel.hub import Hub
from bridge.errors import ConfigurationError, PublishError
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention, TopicState
from bridge.support.tracing import publishing
from bridge.support.validate import check_payload


def _do_nothing() -> None:
    """Stand for `enter_loop` where a backend does not need to know of event loops."""


class Transport:
    """What the views of one channel share. May be shared by threads and greenlets."""

    def __init__(
        self,
        backend: Backend,
        *,
        max_payload: int,
        queue_size: int,
        timeout: float,
        retention: Retention,
        memory: int | None = None,
        location: str,
        enter_loop: Callable[[], None] = _do_nothing,
    ) -> None:
        self.backend = backend
        self.hub = Hub(backend, retention, memory)
        self.max_payload = max_payload
        """The largest payload in bytes."""
        self.queue_size = queue_size
        """How many messages a subscription may fall behind."""
        self.timeout = timeout
        """Seconds that one publish or one subscribe may take."""
        self.location = location
        """Where it publishes, for people who read a log. It holds no password."""
        self.enter_loop = enter_loop
        """Call it in an event loop before a coroutine uses the transport. Most backends ignore it."""
        self.closed = False
        """Whether `close` was called."""

    def close(self) -> None:
        """Close every subscription and connection. May be called again."""
        self.closed = True
        self.hub.close()
        self.backend.close()

    def publish(self, publication: Publication, connection: Any = None) -> str | None:
        """Publish a message; return its id, or `None` where the backend keeps no ids.

        With `connection` the message becomes a part of that connection's transaction. Raises `ValueError`,
        `PublishError` and `ConfigurationError` as `bridge.Producer.publish` does.
        """
        if self.closed:
            raise PublishError("the channel is closed; connect again")
        publication.payload = check_payload(publication.payload, self.max_payload)
        with publishing(publication.topic):
            position = self._publish(publication, connection)
        return None if position is None else str(position)

    def _publish(self, publication: Publication, connection: Any) -> Position | None:
        if connection is None:
            return self.backend.publish(publication)
        if isinstance(self.backend, Transactional):
            return self.backend.publish_within(connection, publication)
        raise ConfigurationError(
            "publish(connection=...) needs a database as the backend, such as postgresql:// or sqlite:///"
        )

    def publish_many(self, publications: Sequence[Publication]) -> int:
        """Publish messages, whose payloads are checked, as `Backend.publish_many` does.

        Raises `PublishError`, also after `close`.
        """
        if self.closed:
            raise PublishError("the channel is closed; connect again")
        return self.backend.publish_many(publications)

    def states(self, topic: str, limit: int | None = None) -> list[TopicState]:
        """Read all pages of the state of `topic`: its own, and those of the members of a group, newest first.

        Reads at most `limit` states. Raises `ConnectionLost`.
        """
        page = self.backend.states(topic)
        found = list(page.states)
        while page.more is not None and (limit is None or len(found) < limit):
            page = self.backend.states(topic, page.more)
            found += page.states
        return found[:limit]

    def require_replay(self, what: str) -> None:
        """Raise `ConfigurationError` that `what` needs it, if the backend keeps no messages."""
        if not self.backend.replays:
            raise ConfigurationError(
                f"{what} needs a backend that keeps messages, such as redis:// or memory://"
            )


def transport_of(channel_or_view: object) -> Transport:
    """Return the transport of a channel or of a view of one of its topics; raise `TypeError` for another."""
    transport = getattr(channel_or_view, "_transport", None)
    if not isinstance(transport, Transport):
        given = type(channel_or_view).__name__
        raise TypeError(f"a channel of bridge.connect or a view of its topic is needed, not {given}")
    return transport
