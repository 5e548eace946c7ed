"""What viewers see: from what the hub hands out to text, from a cursor to where a stream begins. No I/O."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from bridge.backends.base import Item, States
from bridge.model.message import Gap, Message
from bridge.streams import sse
from bridge.streams.cursor import ANEW, ENDED, Cursor
from bridge.tasks import events


def opens_with_state(topics: Collection[str]) -> bool:
    """Whether a stream of `topics` begins with their state: snapshots, or the places that make its cursor."""
    return len(topics) > 1 or any(t == events.FEED or events.task_of(t) is not None for t in topics)


def plain_text(items: Sequence[Item]) -> bytes | None:
    """Return the text of `items` of one topic that is no task's; `None` if not all are mere messages."""
    frames = []
    for item in items:
        if type(item) is not Message:
            return None
        frames.append(sse.frame(item, id=item.id))
    return b"".join(frames)


def resets(topics: Sequence[str], start: Cursor, *, with_ids: bool) -> bytes:
    """Return what tells a viewer whose cursor is of no use that it begins anew."""
    return b"".join(_frame(events.reset(topic)) for topic in topics) if start.lost and with_ids else b""


class Encoder:
    """What the viewers of some topics see, item by item: snapshots, events, and each task's end. No I/O.

    The id of each event is the cursor of the whole stream, so that one `Last-Event-ID` resumes every topic.
    """

    def __init__(self, topics: Sequence[str], start: Cursor, *, with_ids: bool) -> None:
        self._topics = topics
        self._with_ids = with_ids
        self._words = {topic: str(start.after.get(topic, ANEW)) for topic in topics}
        self._words.update(dict.fromkeys(start.ended, ENDED))
        self.running = start.running(topics)

    @property
    def over(self) -> bool:
        """Whether every topic was a task that has ended."""
        return not self.running

    def mere_progress(self, items: Sequence[Item]) -> str | None:
        """Return the topic if `items` are nothing but progress of one task."""
        topic = items[0].topic
        if events.task_of(topic) is None:
            return None
        mere = all(i.topic == topic and isinstance(i, Message) and events.is_mere_progress(i) for i in items)
        return topic if mere else None

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
        # Until the last of them the viewer has not seen the state that the position belongs to.
        for task in tasks[:-1]:
            yield sse.frame(events.snapshot_text(by_task.get(task), task)[0], event="snapshot")
        self._words[topic] = ANEW if read.position is None or read.more is not None else str(read.position)
        for task in tasks[-1:]:
            text, snapshot = events.snapshot_text(by_task.get(task), task)
            yield from self._event(text, snapshot, topic)

    def _message(self, message: Message) -> Iterator[bytes]:
        topic, kind, event = message.topic, None, None
        if topic == events.FEED or events.task_of(topic) is not None:
            kind = message.kind
            # Anyone may publish an event to such a topic, without a kind. A state may be the end of the task.
            if kind is None or (kind == "state" and topic != events.FEED):
                event = events.decode(message)
        self._words[topic] = message.id or ANEW
        if event is None:
            yield sse.frame(message, event=kind, id=self._id())
        else:
            yield from self._event(message, event, topic)

    def _event(self, data: bytes, event: Mapping[str, object], topic: str) -> Iterator[bytes]:
        """Yield an event, and the end that belongs to it if it says that its task has ended."""
        ends = topic != events.FEED and events.end_of(event)
        if ends:
            # Who loses the connection here has not seen the end, and begins anew to see it.
            self._words[topic] = ANEW
        yield sse.frame(data, event=str(event["type"]), id=self._id())
        if ends:
            self._words[topic] = ENDED
            self.running.discard(topic)
            yield _frame(events.end(event), id=self._id())

    def _id(self) -> str | None:
        """The cursor of the stream; without replay only that it is over."""
        if not self._with_ids and not self.over:
            return None
        return ",".join(self._words[topic] for topic in self._topics)


def _frame(event: dict[str, object], id: str | None = None) -> bytes:  # noqa: A002
    return sse.frame(events.encode(event), event=str(event["type"]), id=id)
