"""The backend on SQLSpec's event channels.

Only the mode `notify` (PostgreSQL's LISTEN and NOTIFY) broadcasts. The queue modes give each event to one
consumer: two instances of an application would each get a part of the messages. So they are refused.

All topics of a namespace share one SQLSpec channel. A process has one consumer and one listening connection.
"""

import threading
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from bridge.backends.base import Attached, Listed, ListenerEvent, States
from bridge.channel.channel import Channel
from bridge.channel.transport import Transport
from bridge.errors import BridgeError, ConfigurationError, ConnectionLost, PublishError, needs_extra
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention
from bridge.support.validate import check_name, check_positive

with needs_extra("bridge.sqlspec", "sqlspec"):
    from sqlspec.extensions.events import AsyncEventChannel, SyncEventChannel

    from bridge.sqlspec.event_channel import EventChannel, Found, SharedEventChannel

LARGEST_PAYLOAD = 4096
"""Bytes. A notification of PostgreSQL has at most 8,000, which include SQLSpec's JSON around the payload."""


def connect(
    event_channel: EventChannel,
    *,
    namespace: str = "bridge",
    max_payload: int = LARGEST_PAYLOAD,
    queue_size: int = 10_000,
    timeout: float = 5.0,
) -> Channel:
    """Return a broadcast channel on SQLSpec's `event_channel`. It delivers live messages, at most once.

    The options are those of `bridge.connect`, but `max_payload` is at most 4,096 bytes. An
    `AsyncEventChannel` works in the first event loop that uses it through `bridge.aio`, and after the end of
    that loop in the next one. This function may be called before there is an event loop. Closing the
    returned channel does not shut down the event channel. Raises `ConfigurationError` for an option that is
    not valid, and for an event channel whose mode does not broadcast.
    """
    if not isinstance(event_channel, SyncEventChannel | AsyncEventChannel):
        raise ConfigurationError(f"SQLSpec's event channel is needed, not {type(event_channel).__name__}")
    if event_channel.backend_name != "notify":
        raise ConfigurationError(
            f"this event channel's mode is {event_channel.backend_name!r}, which gives each event to one "
            "consumer: instances of an application would share the messages instead of each getting all. "
            'Use extension_config={"events": {"backend": "notify"}} on PostgreSQL, or the bridge\'s own '
            "backend for your database, bridge.connect(url)"
        )
    check_positive(max_payload=max_payload, queue_size=queue_size, timeout=timeout)
    if max_payload > LARGEST_PAYLOAD:
        raise ConfigurationError(f"max_payload can be at most {LARGEST_PAYLOAD} here, not {max_payload}")
    try:
        events = SharedEventChannel(event_channel, check_name(namespace, "a namespace"), timeout)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    return Channel(
        Transport(
            EventBackend(events),
            max_payload=max_payload,
            queue_size=queue_size,
            timeout=timeout,
            retention=Retention(seconds=0, messages=0),
            location=f"SQLSpec's event channel, namespace {namespace!r}",
            enter_loop=events.enter_loop,
        )
    )


class EventListener:
    """Reads one SQLSpec channel, and ignores topics that are not attached."""

    def __init__(self, events: SharedEventChannel) -> None:
        self._topics: set[str] = set()
        self._found: SimpleQueue[Found] = SimpleQueue()
        self._stopped = threading.Event()
        events.consume(self._found, self._stopped)
        try:
            first = self._found.get(timeout=events.timeout)
        except Empty:
            first = TimeoutError(f"it did not answer within {events.timeout:g} s")
        if isinstance(first, Exception):
            self.close()
            raise ConnectionLost(f"SQLSpec's event channel cannot listen: {first}") from first

    def attach(self, topic: str) -> None:
        self._topics.add(topic)
        self._found.put(Attached(topic))

    def detach(self, topic: str) -> None:
        self._topics.discard(topic)

    def request_state(self, topic: str, after: str | None) -> None:
        self._found.put(States(topic, ()))

    def request_history(self, topic: str, start: Position) -> None:
        raise AssertionError("nothing is kept")

    def poll(self) -> Sequence[ListenerEvent]:
        found = [self._found.get()]
        while not self._found.empty():
            found.append(self._found.get())
        events: list[ListenerEvent] = []
        for item in found:
            if isinstance(item, Exception):
                raise ConnectionLost(f"SQLSpec's event channel failed: {item}") from item
            if isinstance(item, Message) and item.topic not in self._topics:
                continue
            if isinstance(item, Message | Attached | States):
                events.append(item)
        return events

    def wake(self) -> None:
        self._found.put(None)

    def close(self) -> None:
        self._stopped.set()


class EventBackend:
    """Publishes through one SQLSpec channel. It keeps no messages."""

    replays = False

    def __init__(self, events: SharedEventChannel) -> None:
        self._events = events

    def publish(self, publication: Publication) -> Position | None:
        if publication.change is not None:
            raise PublishError("SQLSpec's event channels keep no state of tasks; use bridge.connect(url)")
        try:
            self._events.publish(publication.topic, publication.payload, publication.type)
        except BridgeError:
            raise
        except Exception as error:  # The drivers of SQLSpec have no common base class.
            raise PublishError(f"SQLSpec's event channel did not accept the message: {error}") from error
        return None

    def publish_many(self, publications: Sequence[Publication]) -> int:
        self.publish(publications[0])
        return 1

    def history(self, topic: str, limit: int) -> list[Message]:
        raise AssertionError("nothing is kept")

    def acknowledged(self, topic: str, name: str) -> Position:
        raise AssertionError("nothing is kept")

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        raise AssertionError("nothing is kept")

    def renew(self, topics: Sequence[str]) -> None:
        """Do nothing, because no messages are kept."""

    def states(self, topic: str, after: str | None = None) -> States:
        return States(topic, ())

    def listed(self, group: str, before: str | None, limit: int) -> Listed:
        return Listed((), None)

    def count_listed(self, group: str) -> int:
        return 0

    def field(self, topic: str, name: str) -> bytes | None:
        return None

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        """Do nothing: there is no state."""

    def ping(self) -> None:
        try:
            self._events.publish("", b"", None)
        except Exception as error:
            raise ConnectionLost(f"SQLSpec's event channel cannot be reached: {error}") from error

    def open_listener(self) -> EventListener:
        return EventListener(self._events)

    def close(self) -> None:
        """Do nothing, because the event channel belongs to the caller of `connect`."""
