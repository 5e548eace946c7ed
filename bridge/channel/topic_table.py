"""The topics that a hub reads: what to ask the backend for each, and who gets what. No I/O, no lock."""

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from bridge.backends.base import Attached, History, Listener, Seen, States
from bridge.channel.reader import Delivery, Reader
from bridge.channel.sequencer import Sequencer
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.state import Retention


class NextStep(NamedTuple):
    """What the hub does next for one topic."""

    request: Callable[[], None] | None
    """A call of the backend's listener. It may block: call it without a lock."""
    deliveries: Sequence[Delivery]


class TopicTable:
    """The sequencers of all topics that have readers. The hub's lock guards every call."""

    def __init__(self, retention: Retention) -> None:
        self._retention = retention
        self._sequencers: dict[str, Sequencer] = {}
        self._requested: set[str] = set()  # topics that the current connection was asked to attach
        self.pending: deque[str] = deque()
        """The topics for which `next_step` may have something to do. It is empty if nothing is to be done."""

    def __bool__(self) -> bool:
        return bool(self._sequencers)

    @property
    def names(self) -> Collection[str]:
        """The names of all topics."""
        return self._sequencers.keys()

    @property
    def cached(self) -> int:
        """The bytes of messages that are kept for readers that catch up."""
        return sum(sequencer.cached for sequencer in self._sequencers.values())

    def drop_caches(self) -> None:
        """Drop those messages."""
        for sequencer in self._sequencers.values():
            sequencer.drop_cache()

    def readers(self) -> set[Reader]:
        """Return all readers of all topics."""
        return {reader for sequencer in self._sequencers.values() for reader in sequencer.readers}

    def join(self, reader: Reader, after: Mapping[str, Position]) -> bool:
        """Add a reader to its topics; return whether a step is to be done for one of them."""
        has_work = False
        for topic in reader.topics:
            sequencer = self._sequencers.get(topic)
            if sequencer is None:
                sequencer = self._sequencers[topic] = Sequencer(topic, self._retention)
            if sequencer.join(reader, after.get(topic)):
                self.pending.append(topic)
                has_work = True
        return has_work

    def leave(self, reader: Reader) -> bool:
        """Remove a reader from its topics; return whether a step is to be done for one of them."""
        has_work = False
        for topic in reader.topics:
            sequencer = self._sequencers.get(topic)
            if sequencer is not None:
                sequencer.readers.leave(reader)
                if not sequencer.readers:
                    self.pending.append(topic)
                    has_work = True
        return has_work

    def has_room(self, reader: Reader) -> None:
        """Note that a reader, which was full, has room again."""
        for topic in reader.topics:
            sequencer = self._sequencers.get(topic)
            if sequencer is not None:
                sequencer.readers.has_room(reader)
                self.pending.append(topic)

    def remove(self, topic: str) -> list[Reader]:
        """Remove a topic and return its readers."""
        sequencer = self._sequencers.pop(topic, None)
        self._requested.discard(topic)
        return list(sequencer.readers) if sequencer is not None else []

    def on_connect(self) -> None:
        """There is a new connection: every topic is to be attached to it."""
        self.pending.clear()
        self.pending.extend(self._sequencers)

    def on_disconnect(self) -> None:
        """The connection is lost. Topics without readers are removed."""
        self._requested.clear()
        for topic, sequencer in list(self._sequencers.items()):
            sequencer.on_disconnect()
            if not sequencer.readers:
                del self._sequencers[topic]

    def next_step(self, listener: Listener) -> NextStep:
        """Return what to do for the next pending topic: attach it, detach it, or request what is needed."""
        topic = self.pending.popleft()
        sequencer = self._sequencers.get(topic)
        if sequencer is None:
            return NextStep(None, ())
        if not sequencer.readers:
            del self._sequencers[topic]
            if topic not in self._requested:
                return NextStep(None, ())
            self._requested.discard(topic)
            return NextStep(partial(listener.detach, topic), ())
        if topic not in self._requested:
            self._requested.add(topic)
            return NextStep(partial(listener.attach, topic), ())
        deliveries = list(sequencer.serve_from_cache())
        match sequencer.next_request():
            case None:
                return NextStep(None, deliveries)
            case Position() as position:
                return NextStep(partial(listener.request_history, topic, position), deliveries)
            case page:
                return NextStep(partial(listener.request_state, topic, page.after), deliveries)

    def take(
        self, topic: str, event: Attached | Seen | History | States | list[Message]
    ) -> Sequence[Delivery]:
        """Return who gets what after an event of a topic."""
        sequencer = self._sequencers.get(topic)
        if sequencer is None or topic not in self._requested:
            return ()
        match event:
            case list():
                deliveries = list(sequencer.on_messages(event))
            case Attached():
                deliveries = list(sequencer.on_attached(event.position))
            case Seen():
                deliveries = list(sequencer.on_seen(event.position))
            case History():
                deliveries = list(sequencer.on_history(event))
            case States():
                deliveries = list(sequencer.on_states(event))
        if sequencer.has_work:
            self.pending.append(topic)
        return deliveries
