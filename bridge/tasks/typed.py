"""What a reader sees of one task, as typed events: snapshots, events, and the end. No I/O.

`bridge.aio.watch` yields these objects. A stream of `bridge.streams` sends the same as text.
"""

from collections.abc import Iterator

from bridge.backends.base import Item, States
from bridge.model.message import Gap, Message
from bridge.model.state import TopicState
from bridge.tasks.encoding import encode, parse
from bridge.tasks.event_types import Custom, Event, Reset, Snapshot, State
from bridge.tasks.events import decode, end_after, members, type_of
from bridge.tasks.snapshot import read_snapshot, snapshot_members

ENDED = "end"
"""The id of an `End`. Nothing follows it."""


def typed_events(item: Item, task: str) -> Iterator[Event | Reset]:
    """Yield what `item` says about `task`. After the event that ends the task comes its `End`."""
    if isinstance(item, Gap):
        yield Reset(task)
        return
    if isinstance(item, States):
        event: Event = _snapshot(next((s for s in item.states if s.topic == item.topic), None), task)
        event.id = None if item.position is None else str(item.position)
    else:
        event = _event(item, task)
        event.id = item.id
    if not isinstance(event, State | Snapshot) or not event.ended:
        yield event
        return
    event.id = None  # a reader that continued after it would never see the end
    yield event
    end = end_after(event)
    end.id = ENDED
    yield end


def _snapshot(state: TopicState | None, task: str) -> Snapshot:
    """Return the snapshot of `task` with its entries."""
    found = read_snapshot(state, task)
    if state is not None:
        found.events = [event for event in map(decode, state.entries) if event is not None]
    return found


def _event(message: Message, task: str) -> Event:
    """Return the event in `message`. What is no task event becomes a custom event of the same type."""
    event_type, event = type_of(message), decode(message)
    if event is not None and event.type == event_type:
        return event
    data = parse(message)
    if data is None:
        data = message.decode("utf-8", "replace")
    return Custom(task, type=event_type or "message", data=data)


def to_json(event: Event | Reset) -> str:
    """Return the JSON object of an event of `watch`, as a stream sends it. `fold` of bridge.js takes it."""
    found = members(event)
    if isinstance(event, Snapshot):
        found = snapshot_members(event) | {"events": [members(entry) for entry in event.events]}
    return encode(found).decode()
