"""SQLSpec's event channels as a carrier, for those who run SQLSpec already.

Only the mode `notify` (PostgreSQL's LISTEN and NOTIFY) broadcasts. The queue modes hand each event to one
consumer: two instances of an application would each get a share of the messages, so they are refused.

All topics of a namespace share one SQLSpec channel, one connection that listens and one consumer a process.
"""

import asyncio
import base64
import hashlib
import threading
from collections.abc import Coroutine, Sequence
from queue import Empty, SimpleQueue
from typing import Any

from sqlspec.extensions.events import AsyncEventChannel, EventMessage, SyncEventChannel

from bridge.broadcast import Channel, check_name
from bridge.channel import Message
from bridge.connect import check_above_zero
from bridge.errors import BridgeError, ConfigurationError, ConnectionLost, PublishError
from bridge.ports import Attached, Event, Letter, States
from bridge.position import Position
from bridge.state import Change, Retention

LARGEST_PAYLOAD = 4096
"""Bytes. A notification of PostgreSQL has at most 8,000, and SQLSpec's JSON takes its share of them."""

STOPS_WITHIN = 0.5
"""Seconds after which a consumer that waits looks whether it is still wanted."""

_LOSSES = (".events.listener.reconnect", ".events.listener.queue.dropped")

EventChannel = SyncEventChannel | AsyncEventChannel


def connect(
    event_channel: EventChannel,
    *,
    namespace: str = "bridge",
    max_payload: int = LARGEST_PAYLOAD,
    queue_size: int = 10_000,
    timeout: float = 5.0,
) -> Channel:
    """Return a broadcast channel that SQLSpec's `event_channel` carries: live only, at most once.

    Options are those of `bridge.connect`, but `max_payload` is at most 4,096 bytes. An `AsyncEventChannel`
    belongs to an event loop: call this within it, and use `bridge.aio` there. The event channel stays its
    owner's: closing what is returned does not shut it down. Raises `ConfigurationError` for options that
    will not do, and for an event channel whose mode does not broadcast.
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
    check_above_zero(max_payload=max_payload, queue_size=queue_size, timeout=timeout)
    if max_payload > LARGEST_PAYLOAD:
        raise ConfigurationError(f"max_payload can be at most {LARGEST_PAYLOAD} here, not {max_payload}")
    try:
        events = _Events(event_channel, check_name(namespace, "a namespace"), timeout)
    except ValueError as error:
        raise ConfigurationError(str(error)) from None
    backend = EventBackend(events)
    return Channel(
        backend,
        max_payload=max_payload,
        queue_size=queue_size,
        timeout=timeout,
        retention=Retention(seconds=0, messages=0),
    )


class _Events:
    """One SQLSpec channel, which threads may use: the asynchronous kind through its event loop."""

    def __init__(self, events: EventChannel, namespace: str, timeout: float) -> None:
        self._events = events
        # SQLSpec's names are identifiers, and PostgreSQL's end after 63 bytes.
        self._name = f"bridge_{hashlib.sha256(namespace.encode()).hexdigest()[:32]}"
        self.timeout = timeout
        self._loop: asyncio.AbstractEventLoop | None = None
        if isinstance(events, AsyncEventChannel):
            try:
                self._loop = asyncio.get_running_loop()
            except RuntimeError:
                raise ConfigurationError(
                    "an AsyncEventChannel belongs to an event loop: connect within it"
                ) from None

    def publish(self, topic: str, payload: bytes) -> None:
        body = {"topic": topic, "data": base64.b64encode(payload).decode()}
        if isinstance(self._events, SyncEventChannel):
            self._events.publish(self._name, body)
        else:
            self._wait_for(self._events.publish(self._name, body))

    def _wait_for(self, work: Coroutine[Any, Any, object]) -> None:
        assert self._loop is not None
        try:
            running: object = asyncio.get_running_loop()
        except RuntimeError:
            running = None
        if running is self._loop:
            work.close()
            raise PublishError("publish would wait for the event loop it runs in: await bridge.aio.publish()")
        asyncio.run_coroutine_threadsafe(work, self._loop).result(self.timeout)

    def consume(self, found: "SimpleQueue[_Found]", stopped: threading.Event) -> None:
        """Begin to put what comes into `found`, `_READY` as soon as nothing is missed any more."""
        if self._loop is None:
            target = threading.Thread(target=self._consume, args=(found, stopped), daemon=True)
            target.name = "bridge-sqlspec"
            target.start()
        else:
            asyncio.run_coroutine_threadsafe(self._consume_async(found, stopped), self._loop)

    # SQLSpec's own iterators and listeners cannot be left while they wait, or hide a lost connection: hence
    # its backend. It keeps a queue for each consumer from the first dequeue on.

    def _consume(self, found: "SimpleQueue[_Found]", stopped: threading.Event) -> None:
        try:
            backend: Any = self._events._backend
            event = backend.dequeue(self._name, 0.001)
            losses = self._losses()
            found.put(_READY)
            while not stopped.is_set():
                self._take(event, losses, found)
                event = backend.dequeue(self._name, STOPS_WITHIN)
        except Exception as error:
            found.put(error)

    async def _consume_async(self, found: "SimpleQueue[_Found]", stopped: threading.Event) -> None:
        try:
            backend: Any = self._events._backend
            event = await backend.dequeue(self._name, 0.001)
            losses = self._losses()
            found.put(_READY)
            while not stopped.is_set():
                self._take(event, losses, found)
                event = await backend.dequeue(self._name, STOPS_WITHIN)
        except Exception as error:
            found.put(error)

    def _losses(self) -> float:
        """How often SQLSpec has lost its connection or left something out, which it says nowhere else."""
        counted = self._events.metrics_snapshot()
        return sum(value for name, value in counted.items() if name.endswith(_LOSSES))

    def _take(self, event: EventMessage | None, losses: float, found: "SimpleQueue[_Found]") -> None:
        if self._losses() != losses:
            raise ConnectionLost("SQLSpec lost its connection or left events out")
        if event is not None and "topic" in event.payload:
            found.put(Message(base64.b64decode(event.payload["data"]), topic=event.payload["topic"]))


_READY = object()
_Found = Event | Exception | object


class EventReader:
    """Reads one SQLSpec channel, and leaves out the topics that nobody asked for."""

    def __init__(self, events: _Events) -> None:
        self._topics: set[str] = set()
        self._found: SimpleQueue[_Found] = SimpleQueue()
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

    def poll(self) -> Sequence[Event]:
        found = [self._found.get()]
        while not self._found.empty():
            found.append(self._found.get())
        events: list[Event] = []
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
    """Publishes through one SQLSpec channel; keeps nothing."""

    replays = False

    def __init__(self, events: _Events) -> None:
        self._events = events

    def publish(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        if change is not None:
            raise PublishError("SQLSpec's event channels keep no state of tasks; use bridge.connect(url)")
        try:
            self._events.publish(topic, payload)
        except BridgeError:
            raise
        except Exception as error:  # whatever the adapter's driver raises
            raise PublishError(f"SQLSpec's event channel did not take the message: {error}") from error
        return None

    def publish_many(self, letters: Sequence[Letter], again: bool) -> int:
        topic, payload, change, token, _ = letters[0]
        self.publish(topic, payload, change, token, again)
        return 1

    def history(self, topic: str, limit: int) -> list[Message]:
        raise AssertionError("nothing is kept")

    def acknowledged(self, topic: str, name: str) -> Position:
        raise AssertionError("nothing is kept")

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        raise AssertionError("nothing is kept")

    def states(self, topic: str, after: str | None = None) -> States:
        return States(topic, ())

    def field(self, topic: str, name: str) -> bytes | None:
        return None

    def ping(self) -> None:
        try:
            self._events.publish("", b"")
        except Exception as error:
            raise ConnectionLost(f"SQLSpec's event channel cannot be reached: {error}") from error

    def open_reader(self) -> EventReader:
        return EventReader(self._events)

    def close(self) -> None:
        """The event channel is its owner's."""
