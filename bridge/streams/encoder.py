"""What viewers see: encodes messages and states as the text of Server-Sent Events. No I/O."""

from collections.abc import Collection, Iterator, Sequence

from bridge.backends.base import Item, States
from bridge.model.message import Gap, Message
from bridge.streams import sse
from bridge.streams.cursor import Cursor, CursorWriter
from bridge.tasks import events
from bridge.tasks.event_types import End, Reset, Snapshot, State
from bridge.tasks.snapshot import snapshot_text

POSITION = "position"
"""The type of the event that tells the position of a topic without a state. It has no data."""

_FROM_STATE = Cursor()


def opens_with_state(topics: Collection[str], cursor: Cursor = _FROM_STATE) -> bool:
    """Whether a stream of `topics` begins with their state: snapshots, or the positions of its cursor."""
    return len(topics) > 1 or bool(cursor.told) or any(map(events.carries_events, topics))


def plain_text(items: Sequence[Item]) -> bytes | None:
    """Return the text of `items` of one topic that is no task; `None` if one is not an ordinary message."""
    frames = []
    for item in items:
        if type(item) is not Message:
            return None
        frames.append(sse.frame(item, event=item.type, id=item.id))
    return b"".join(frames)


def resets(topics: Sequence[str], cursor: Cursor, *, with_ids: bool) -> bytes:
    """Return the `reset` events for a viewer with an unusable cursor: its topics begin again."""
    if not cursor.lost or not with_ids:
        return b""
    names = topics if len(topics) > 1 else [None]
    resets = [Reset(events.task_of(topic)) for topic in topics]
    return b"".join(_frame(reset, topic=name) for reset, name in zip(resets, names, strict=True))


class Encoder:
    """Encodes what the viewers of some topics see: snapshots, events, and the end of each task. No I/O.

    The id of each event is the cursor of the whole stream, so that one `Last-Event-ID` resumes every topic.
    In a stream of several topics each event names its topic.
    """

    def __init__(self, topics: Sequence[str], cursor: Cursor, *, with_ids: bool) -> None:
        self._with_ids = with_ids
        self._cursor = CursorWriter(topics, cursor)
        self.running = cursor.unfinished(topics)
        self._names: dict[str, str] = {topic: topic for topic in topics} if len(topics) > 1 else {}
        self._told = cursor.told

    @property
    def finished(self) -> bool:
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
        """Yield the text of `item`, event by event."""
        if item.topic not in self.running:
            return
        if isinstance(item, States):
            yield from self._snapshots(item)
        elif isinstance(item, Gap):
            yield _frame(Reset(events.task_of(item.topic)), topic=self._names.get(item.topic))
        else:
            yield from self._message(item)

    def _snapshots(self, page: States) -> Iterator[bytes]:
        topic = page.topic
        own = events.task_of(topic)
        by_task = {events.task_of(state.topic): state for state in reversed(page.states)}
        tasks = [task for task in by_task if task is not None] if own is None else [own]
        # Until the last snapshot the viewer has not seen the complete state at the new position.
        for task in tasks[:-1]:
            text = snapshot_text(by_task.get(task), task)[0]
            yield sse.frame(text, event="snapshot", topic=self._names.get(topic))
        complete = page.position is not None and page.more is None
        self._cursor.advance(topic, str(page.position) if complete else None)
        for task in tasks[-1:]:
            text, snapshot = snapshot_text(by_task.get(task), task)
            yield from self._event(text, snapshot.type, snapshot, topic)
        if topic in self._told and not events.carries_events(topic) and complete and self._with_ids:
            yield sse.frame(b"", event=POSITION, id=self._id(), topic=self._names.get(topic))

    def _message(self, message: Message) -> Iterator[bytes]:
        topic, event_type = message.topic, events.type_of(message)
        is_state = event_type == "state" and events.task_of(topic) is not None
        event = events.decode(message) if is_state else None
        self._cursor.advance(topic, message.id)
        yield from self._event(message, event_type, event if isinstance(event, State) else None, topic)

    def _event(
        self, data: bytes, event_type: str | None, state: State | Snapshot | None, topic: str
    ) -> Iterator[bytes]:
        """Yield an event of type `event_type`, and the end of its task's stream if `state` is an end."""
        if events.is_feed(topic) or state is None or not state.ended:
            yield sse.frame(data, event=event_type, id=self._id(), topic=self._names.get(topic))
            return
        # A viewer that loses the connection here has not seen the end. It begins again and sees it.
        self._cursor.advance(topic, None)
        name = self._names.get(topic)
        yield sse.frame(data, event=event_type, id=self._id(), topic=name)
        self._cursor.end(topic)
        self.running.discard(topic)
        yield _frame(events.end_after(state), id=self._id(), topic=name)

    def _id(self) -> str | None:
        """Return the cursor of the stream. Without replay only a finished stream has one."""
        if not self._with_ids and not self.finished:
            return None
        return self._cursor.text()


def _frame(
    event: End | Reset,
    *,
    topic: str | None,
    id: str | None = None,  # noqa: A002
) -> bytes:
    return sse.frame(events.encode(event), event=event.type, id=id, topic=topic)
