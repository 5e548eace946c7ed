"""Watching a task: its snapshot, its events and its end as typed objects, for a coroutine."""

from collections.abc import AsyncGenerator
from functools import partial

from bridge.aio.liveness import watched_tasks
from bridge.aio.waiter import Waiter
from bridge.backends.base import Item
from bridge.channel.contract import BroadcastChannel
from bridge.channel.subscription import Start, check_start, open_reader
from bridge.channel.transport import Transport, transport_of
from bridge.errors import ConfigurationError, ConnectionLost, SlowConsumer, SubscriptionClosed
from bridge.model.position import Position
from bridge.support.server import forget, while_ending
from bridge.support.validate import check_name
from bridge.tasks.event_types import End, Event, Reset
from bridge.tasks.events import task_topic
from bridge.tasks.typed import ENDED, typed_events

QUEUE_BYTES = 1024 * 1024
"""About how many bytes wait for one watcher. One snapshot alone may be larger."""


def watch(
    channel: BroadcastChannel, task_id: str, after: str | None = None
) -> AsyncGenerator[Event | Reset, None]:
    """Return an async iterator over a task, or over a canvas by its `canvas_id`, as a stream shows it.

    It yields one `Snapshot`, then each event as it comes, and exactly one `End`, after which it stops. A task
    of which nothing is known has a `Snapshot` in the state PENDING. A task that has ended has its `Snapshot`
    and its `End`. A message on the task's topic that is no task event comes as a `Custom` event with the
    payload as its data: a JSON value, else text.

    `after` is the `id` of an event that an earlier iterator yielded. With it the iterator begins with the
    events that follow that one. If these are no longer kept, it begins with a `Reset` and a `Snapshot`. After
    the id of an `End` it yields nothing.

    An outage of the backend only delays events. If some were lost, a `Reset` and a new `Snapshot` come. A
    reader that falls behind by more than a megabyte loses nothing: the rest is read again from the backend,
    or, if that keeps no messages, a `Reset` and a `Snapshot` come.

    While a task is watched, this process notices that its worker has vanished, and publishes STALLED, as it
    does while it has streams.

    The iterator belongs to one task of one event loop. It has no thread. A cancelled `async for` leaves
    nothing behind; after a `break`, the iterator holds its place until it is closed (`aclose`) or deleted.
    It stops without an `End` only if the channel is closed, or if the uvicorn or gunicorn that runs the
    process is stopped.

    Raises `ValueError` for an id that is not valid, and `ConfigurationError` for `after` on a backend that
    keeps no messages, in the call itself. The iteration raises `ConnectionLost` if the backend refuses to let
    this process read the topic, and `SubscriptionClosed` if the channel was closed before.
    """
    transport = transport_of(channel)
    topic = task_topic(check_name(task_id, "a task id"))
    check_name(topic, "the topic of a task")
    if after == ENDED:
        return _nothing()
    return _watch(transport, topic, task_id, check_start(transport, after, None))


async def _nothing() -> AsyncGenerator[Event | Reset, None]:
    return
    yield  # makes this function a generator


async def _watch(
    transport: Transport, topic: str, task: str, after: Position | None
) -> AsyncGenerator[Event | Reset, None]:
    transport.enter_loop()
    watched = watched_tasks(transport)
    watched.add(topic)
    try:
        while True:
            reading = _Reading(transport, topic, after)
            try:
                while (item := await reading.next()) is not None:
                    after = item.position
                    watched.see(item)
                    for event in typed_events(item, task):
                        yield event
                        if isinstance(event, End):
                            return
                return
            except SlowConsumer:
                if after is None:
                    yield Reset(task)
            finally:
                reading.close()
    finally:
        watched.remove(topic)


class _Reading:
    """A reader of the hub that begins with the state of its topic, or after a position."""

    def __init__(self, transport: Transport, topic: str, after: Position | None) -> None:
        self._waiter = Waiter()
        notify, start = self._waiter.notify, Start(after)
        self._reader = open_reader(transport, topic, start, notify, queue_bytes=QUEUE_BYTES, with_state=True)
        while_ending(self._reader.close)

    async def next(self) -> Item | None:
        """Return the next item, or `None` if the channel or the server is closed."""
        try:
            return await self._waiter.wait(partial(self._reader.take, 0))
        except ConnectionLost as error:
            if isinstance(error.__cause__, ConfigurationError):
                raise error.__cause__ from None
            raise
        except SubscriptionClosed:
            if self._reader.closed:
                return None
            raise

    def close(self) -> None:
        """Leave the hub."""
        forget(self._reader.close)
        self._reader.close()
