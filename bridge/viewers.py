"""A viewer: one open browser stream. From a subscription to the text that goes to the socket."""

import itertools
import random
from collections.abc import Iterator, Sequence

from bridge import events, sse
from bridge.channel import Gap, Message
from bridge.connect import Channel
from bridge.errors import SubscriptionClosed
from bridge.ports import States
from bridge.subscription import Item, QueuedSubscription

RETRY_SECONDS = 2.0
"""About how long a browser waits before it reconnects."""

FIRST_BYTE_WITHIN = 1.0
"""Seconds the first byte is held back for the subscription, so that an open stream misses nothing."""

END_ID = "end"
"""The last id of a stream that has ended."""


class Viewers:
    """The streams that this process has open."""

    def __init__(self, channel: Channel, *, heartbeat: float) -> None:
        self.channel = channel
        self.heartbeat = heartbeat
        self.open: set[Viewer] = set()
        self.opened = 0

    def add(self, topics: Sequence[str]) -> "Viewer":
        """Return a new stream of `topics`, for a WSGI server to iterate over and to close."""
        return Viewer(self, topics)


class Viewer:
    """One stream as a WSGI iterable. It subscribes when iteration begins, not before."""

    def __init__(self, viewers: Viewers, topics: Sequence[str]) -> None:
        self._viewers = viewers
        self._topics = topics
        self._subscription: QueuedSubscription | None = None
        self._frames = self._stream()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        try:
            return next(self._frames)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Leave the topics. The server calls it when the viewer has gone; any thread may."""
        if self._subscription is not None:
            self._subscription.close()
            self._viewers.open.discard(self)

    def _stream(self) -> Iterator[bytes]:
        script = Script(self._topics)
        try:
            subscription = self._subscription = self._viewers.channel.watch(self._topics)
            self._viewers.open.add(self)
            self._viewers.opened += 1
            established = subscription.wait_established(FIRST_BYTE_WITHIN)
            first = sse.retry(RETRY_SECONDS * random.uniform(0.75, 1.25))
            yield first if established else first + sse.comment("waiting for the backend")
            while not script.over:
                items = subscription.take(self._viewers.heartbeat)
                yield b"".join(itertools.chain.from_iterable(map(script.frames, items))) or sse.HEARTBEAT
        except SubscriptionClosed:
            return  # the browser comes back and begins with a fresh snapshot


class Script:
    """What the viewers of some topics see, item by item: snapshots, events, and each task's end. No I/O."""

    def __init__(self, topics: Sequence[str]) -> None:
        self._running = set(topics)

    @property
    def over(self) -> bool:
        """Whether every topic was a task that has ended."""
        return not self._running

    def frames(self, item: Item) -> Iterator[bytes]:
        """Yield the text that `item` amounts to."""
        if item.topic not in self._running:
            return
        if isinstance(item, States):
            yield from self._snapshots(item)
        elif isinstance(item, Gap):
            yield _frame(events.reset(item.topic))
        else:
            yield from self._message(item)

    def _snapshots(self, read: States) -> Iterator[bytes]:
        own = events.task_of(read.topic)
        by_task = {events.task_of(state.topic): state for state in reversed(read.states)}
        for task in (own,) if own is not None else by_task:
            if task is not None:
                snapshot = events.snapshot(by_task.get(task), task)
                yield _frame(snapshot)
                yield from self._end(snapshot, read.topic)

    def _message(self, message: Message) -> Iterator[bytes]:
        event = None
        if message.topic == events.FEED or events.task_of(message.topic) is not None:
            event = events.decode(message)
        if event is None:
            yield sse.frame(message, id=message.id)
            return
        yield sse.frame(message, event=event["type"], id=message.id)
        yield from self._end(event, message.topic)

    def _end(self, event: dict[str, object], topic: str) -> Iterator[bytes]:
        if topic != events.FEED and events.end_of(event):
            self._running.discard(topic)
            yield _frame(events.end(event), id=END_ID if self.over else None)


def _frame(event: dict[str, object], id: str | None = None) -> bytes:  # noqa: A002
    return sse.frame(events.encode(event), event=str(event["type"]), id=id)
