"""Calls SQLSpec's event channels from threads, the synchronous and the asynchronous kind."""

import asyncio
import base64
import hashlib
import threading
from functools import partial
from queue import SimpleQueue

# `Any` in this module: SQLSpec does not declare the attributes of event channels that are used here.
from typing import Any

from sqlspec.extensions.events import AsyncEventChannel, EventMessage, SyncEventChannel

from bridge.backends.base import ListenerEvent
from bridge.errors import ConnectionLost, PublishError
from bridge.model.message import Message
from bridge.sqlspec.event_loops import EventLoops, NoEventLoop

STOPS_WITHIN = 0.5
"""Seconds after which a waiting consumer checks whether it was stopped."""

_LOSSES = (".events.listener.reconnect", ".events.listener.queue.dropped")

EventChannel = SyncEventChannel | AsyncEventChannel

READY = object()
Found = ListenerEvent | Exception | object


class SharedEventChannel:
    """One SQLSpec channel. Threads may share it. An asynchronous one runs in an event loop."""

    def __init__(self, events: EventChannel, namespace: str, timeout: float) -> None:
        self._events = events
        # SQLSpec's names are identifiers, and PostgreSQL's end after 63 bytes.
        self._name = f"bridge_{hashlib.sha256(namespace.encode()).hexdigest()[:32]}"
        self.timeout = timeout
        self._loops = EventLoops(self._move)
        self._used: tuple[object, object] = (None, None)
        self._found: SimpleQueue[Found] = SimpleQueue()
        if _running_loop() is not None:
            self.enter_loop()

    def enter_loop(self) -> None:
        """Note that the running event loop uses the channel."""
        if isinstance(self._events, AsyncEventChannel):
            self._loops.enter()

    def _note_resources(self) -> None:
        """Remember SQLSpec's pool and listener, which belong to the event loop that created them."""
        events: Any = self._events
        self._used = (events._config.connection_instance, getattr(events._backend, "_hub", None))

    def _move(self) -> None:
        """Remove the pool and the listener of an ended event loop, unless their owner closed them."""
        events: Any = self._events
        pool, listener = self._used
        self._used = (None, None)
        if pool is not None and events._config.connection_instance is pool:
            events._config.connection_instance = None
        if listener is not None and events._backend._hub is listener:
            events._backend._hub = None
        self._found.put(ConnectionLost("the event loop it was read in has ended"))

    def publish(self, topic: str, payload: bytes, event_type: str | None) -> None:
        body = {"topic": topic, "data": base64.b64encode(payload).decode()}
        if event_type is not None:
            body["kind"] = event_type
        if isinstance(self._events, SyncEventChannel):
            self._events.publish(self._name, body)
            return
        running = _running_loop()
        if running is not None and self._loops.current() in (running, None):
            raise PublishError("publish would wait for the event loop it runs in: await bridge.aio.publish()")
        published = self._loops.start(partial(self._publish_async, body))
        try:
            published.result(self.timeout)
        except TimeoutError:
            raise PublishError(f"SQLSpec did not accept the message within {self.timeout:g} s") from None

    async def _publish_async(self, body: dict[str, str]) -> None:
        assert isinstance(self._events, AsyncEventChannel)
        try:
            await self._events.publish(self._name, body)
        finally:
            self._note_resources()

    def consume(self, found: "SimpleQueue[Found]", stopped: threading.Event) -> None:
        """Begin to put events into `found`. It first puts `READY`: later events are not missed."""
        if isinstance(self._events, SyncEventChannel):
            target = threading.Thread(target=self._consume, args=(found, stopped), daemon=True)
            target.name = "bridge-sqlspec"
            target.start()
            return
        self._loops.current()  # Ends an earlier consumer whose loop has ended.
        self._found = found
        try:
            self._loops.start(partial(self._consume_async, found, stopped))
        except NoEventLoop as error:
            found.put(error)

    # SQLSpec's own iterators and listeners cannot be stopped while they wait, or they hide a lost connection.
    # So its backend is used. It keeps a queue for each consumer from the first dequeue on.

    def _consume(self, found: "SimpleQueue[Found]", stopped: threading.Event) -> None:
        try:
            backend: Any = self._events._backend
            event = backend.dequeue(self._name, 0.001)
            losses = self._losses()
            found.put(READY)
            while not stopped.is_set():
                self._take(event, losses, found)
                event = backend.dequeue(self._name, STOPS_WITHIN)
        except Exception as error:
            found.put(error)

    async def _consume_async(self, found: "SimpleQueue[Found]", stopped: threading.Event) -> None:
        try:
            backend: Any = self._events._backend
            event = await backend.dequeue(self._name, 0.001)
            self._note_resources()
            losses = self._losses()
            found.put(READY)
            while not stopped.is_set():
                self._take(event, losses, found)
                event = await backend.dequeue(self._name, STOPS_WITHIN)
        except Exception as error:
            found.put(error)
        except asyncio.CancelledError:
            # Only the event loop cancels it, when it ends.
            self._loops.leave()
            found.put(ConnectionLost("the event loop it was read in has ended"))
            raise

    def _losses(self) -> float:
        """Return how often SQLSpec has lost its connection or events. Only its metrics count this."""
        counted = self._events.metrics_snapshot()
        return sum(value for name, value in counted.items() if name.endswith(_LOSSES))

    def _take(self, event: EventMessage | None, losses: float, found: "SimpleQueue[Found]") -> None:
        if self._losses() != losses:
            raise ConnectionLost("SQLSpec lost its connection or left events out")
        if event is not None and "topic" in event.payload:
            body = event.payload
            payload = base64.b64decode(body["data"])
            found.put(Message(payload, topic=body["topic"], type=body.get("kind")))


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
