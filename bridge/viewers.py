"""A viewer: one open browser stream. From a subscription to the text that goes to the socket."""

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bridge import events, sse
from bridge.channel import Gap, Message
from bridge.connect import Channel
from bridge.errors import SubscriptionClosed
from bridge.ports import Item, States
from bridge.position import BEGINNING, Position, parse
from bridge.subscription import QueuedSubscription

RETRY_SECONDS = 2.0
"""About how long a browser waits before it reconnects."""

FIRST_BYTE_WITHIN = 1.0
"""Seconds the first byte is held back for the subscription, so that an open stream misses nothing."""

_ENDED = "end"
_ANEW = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a stream begins: what the cursor of a viewer says of each topic."""

    after: Mapping[str, Position] = field(default_factory=dict)
    """The topics that go on after a message; the others begin with their state."""
    ended: frozenset[str] = frozenset()
    """The tasks whose end the viewer has seen."""
    lost: bool = False
    """The cursor is none of this stream's."""


def start_at(cursor: str | None, topics: Sequence[str]) -> Start:
    """Read the cursor of a stream of `topics`: for each, with commas between, an id, `end` or nothing.

    `BEGINNING` stands for all of them. Nothing means: begin with the state.
    """
    if not cursor:
        return Start()
    words = cursor.split(",", len(topics))
    if words == [BEGINNING]:
        words *= len(topics)
    if len(words) != len(topics):
        return Start(lost=True)
    by_topic = dict(zip(topics, words, strict=True))
    try:
        after = {topic: parse(word) for topic, word in by_topic.items() if word not in (_ENDED, _ANEW)}
    except ValueError:
        return Start(lost=True)
    tasks = (topic for topic in topics if events.task_of(topic) is not None)
    return Start(after, frozenset(topic for topic in tasks if by_topic[topic] == _ENDED))


class Viewers:
    """The streams that this process has open."""

    def __init__(self, channel: Channel, *, heartbeat: float) -> None:
        self.channel = channel
        self.heartbeat = heartbeat
        self.open: set[Viewer] = set()
        self.opened = 0

    def add(self, topics: Sequence[str], start: Start) -> "Viewer":
        """Return a new stream of `topics`, for a WSGI server to iterate over and to close."""
        return Viewer(self, topics, start)


class Viewer:
    """One stream as a WSGI iterable. It subscribes when iteration begins, not before."""

    def __init__(self, viewers: Viewers, topics: Sequence[str], start: Start) -> None:
        self._viewers = viewers
        self._script = Script(topics, start, with_ids=viewers.channel.replays)
        self._after = start.after if viewers.channel.replays else None
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
        script = self._script
        try:
            subscription = self._viewers.channel.watch(script.running, self._after)
            self._subscription = subscription
            self._viewers.open.add(self)
            self._viewers.opened += 1
            established = subscription.wait_established(FIRST_BYTE_WITHIN)
            yield self._opening(established)
            while not script.over:
                items = subscription.take(self._viewers.heartbeat)
                yield b"".join(itertools.chain.from_iterable(map(script.frames, items))) or sse.HEARTBEAT
        except SubscriptionClosed:
            return  # the browser comes back with its cursor

    def _opening(self, established: bool) -> bytes:
        retry = sse.retry(RETRY_SECONDS * random.uniform(0.75, 1.25))
        waiting = b"" if established else sse.comment("waiting for the backend")
        return retry + waiting + b"".join(self._script.opening())


class Script:
    """What the viewers of some topics see, item by item: snapshots, events, and each task's end. No I/O.

    The id of each event is the cursor of the whole stream, so that one `Last-Event-ID` resumes every topic.
    """

    def __init__(self, topics: Sequence[str], start: Start, *, with_ids: bool) -> None:
        self._topics = topics
        self._with_ids = with_ids
        self._lost = start.lost and with_ids
        self._words = {topic: str(start.after.get(topic, _ANEW)) for topic in topics}
        self._words.update(dict.fromkeys(start.ended, _ENDED))
        self.running = set(topics) - start.ended

    @property
    def over(self) -> bool:
        """Whether every topic was a task that has ended."""
        return not self.running

    def opening(self) -> Iterator[bytes]:
        """Yield what stands before everything else."""
        for topic in self._topics if self._lost else ():
            yield _frame(events.reset(topic))

    def frames(self, item: Item) -> Iterator[bytes]:
        """Yield the text that `item` amounts to."""
        if item.topic not in self.running:
            return
        if isinstance(item, States):
            yield from self._snapshots(item)
        elif isinstance(item, Gap):
            yield _frame(events.reset(item.topic))
        else:
            yield from self._message(item)

    def _snapshots(self, read: States) -> Iterator[bytes]:
        topic = read.topic
        own = events.task_of(topic)
        by_task = {events.task_of(state.topic): state for state in reversed(read.states)}
        tasks = [task for task in by_task if task is not None] if own is None else [own]
        snapshots = [events.snapshot(by_task.get(name), name) for name in tasks]
        # Until the last of them the viewer has not seen the state that the position belongs to.
        for snapshot in snapshots[:-1]:
            yield _frame(snapshot)
        self._words[topic] = _ANEW if read.position is None else str(read.position)
        for snapshot in snapshots[-1:]:
            yield from self._event(events.encode(snapshot), snapshot, topic)

    def _message(self, message: Message) -> Iterator[bytes]:
        topic = message.topic
        event = None
        if topic == events.FEED or events.task_of(topic) is not None:
            event = events.decode(message)
        self._words[topic] = message.id or _ANEW
        if event is None:
            yield sse.frame(message, id=self._id())
        else:
            yield from self._event(message, event, topic)

    def _event(self, data: bytes, event: Mapping[str, object], topic: str) -> Iterator[bytes]:
        """Yield an event, and the end that belongs to it if it says that its task has ended."""
        ends = topic != events.FEED and events.end_of(event)
        if ends:
            # Who loses the connection here has not seen the end, and begins anew to see it.
            self._words[topic] = _ANEW
        yield sse.frame(data, event=str(event["type"]), id=self._id())
        if ends:
            self._words[topic] = _ENDED
            self.running.discard(topic)
            yield _frame(events.end(event), id=self._id())

    def _id(self) -> str | None:
        """The cursor of the stream; without replay only that it is over."""
        if not self._with_ids and not self.over:
            return None
        return ",".join(self._words[topic] for topic in self._topics)


def _frame(event: dict[str, object], id: str | None = None) -> bytes:  # noqa: A002
    return sse.frame(events.encode(event), event=str(event["type"]), id=id)
