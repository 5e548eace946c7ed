"""The line of a topic: who reads it, from where, and what each gets next. No I/O, no lock, no thread.

A reader is either at the head of the line, where it gets each new message at once, or it waits, with the
place from which it needs the messages that are kept. History is read once for all who wait; whoever has
caught up joins the head. In whatever order live messages, history, repetitions and lost connections come, a
reader gets each message once and in order, or learns that its position is lost.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from bridge.channel import Gap, Message
from bridge.errors import PositionLost
from bridge.ports import History, Item, States
from bridge.position import ORIGIN, Position

TAIL_MESSAGES = 10_000
TAIL_BYTES = 8 * 1024 * 1024
TAIL_SECONDS = 30.0


_LOST = (
    "what follows the reader's position in {!r} is no longer kept, or the server that knew the position was "
    "flushed or replaced; begin again, after=bridge.BEGINNING for all that is kept"
)


class Reader(Protocol):
    """What the line needs to know of a subscription."""

    stateful: bool
    """It goes on from the state of its topics if its position is lost."""
    opens_with_state: bool
    """It begins with the state of its topics, not only with the next message."""

    def establish(self, topic: str) -> None:
        """Note that it misses nothing of `topic` from now on."""
        ...

    def room(self, wanted: int) -> int:
        """How many of `wanted` items fit into its queue; if not all, `Line.has_room` will be called."""
        ...


Delivery = tuple[Sequence[Reader], Sequence[Item] | PositionLost]
"""Some readers, and the items they get or the reason for which they are closed."""


@dataclass(slots=True)
class _Wait:
    """What a reader needs before it is at the head."""

    after: Position | None
    """Messages that are kept, after this place. `None`: the state, or a connection if it opens without."""
    gap: bool = False
    """To be told that it has missed something."""
    full: bool = False
    """Room in its queue."""


class Line:
    """One topic of one process."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.head: dict[Reader, None] = {}
        self.waiting: dict[Reader, _Wait] = {}
        self.attached = False
        self._position: Position | None = None  # of the head; None where the backend keeps no positions
        self._asking = False
        self._asked_for: set[Reader] = set()
        self._tail = _Tail()

    def readers(self) -> list[Reader]:
        return [*self.head, *self.waiting]

    def join(self, reader: Reader, after: Position | None) -> bool:
        """Add a reader; return whether something must be asked of the backend before it is at the head."""
        if self.attached and after is None and not reader.opens_with_state:
            self.head[reader] = None
            reader.establish(self.topic)
            return False
        self.waiting[reader] = _Wait(after)
        return True

    def leave(self, reader: Reader) -> None:
        self.head.pop(reader, None)
        self.waiting.pop(reader, None)

    def has_room(self, reader: Reader) -> None:
        """The queue of a reader that was full of history has emptied."""
        if reader in self.waiting:
            self.waiting[reader].full = False

    def wants(self) -> Position | bool:
        """What to ask of the backend: history from a place on, `True`: the state, `False`: nothing.

        Where the places of those who wait contradict each other, a forged one among them, the history of
        all of them is asked for.
        """
        if not self.attached or self._asking:
            return False
        places = [wait.after for wait in self.waiting.values() if wait.after is not None and not wait.full]
        if not places:
            return any(wait.after is None for wait in self.waiting.values())
        return Position("", min(p.number for p in places), min(p.mark for p in places))

    def asked(self) -> None:
        """What was wanted has been asked for; until it comes nothing else is.

        History serves only those who wait now: a place learnt later may be beyond what it knows.
        """
        self._asking = True
        self._asked_for = {r for r, wait in self.waiting.items() if wait.after is not None and not wait.full}

    # What the backend says.

    def detach(self) -> None:
        """The connection is lost: whoever was at the head needs what follows."""
        self._step_back(gap=self._position is None)
        self.attached = False
        self._position, self._asking = None, False
        self._asked_for.clear()
        self._tail.clear()

    def attach(self, position: Position | None) -> Iterator[Delivery]:
        """The topic is attached, at `position`, or `None` where the backend keeps none."""
        self.attached = True
        self._position = position
        for reader, wait in list(self.waiting.items()):
            if wait.after is None and not reader.opens_with_state:
                if wait.gap:
                    yield [reader], [Gap(topic=self.topic)]
                self._advance(reader)
        self._advance_those_at_the_head()

    def messages(self, messages: Sequence[Message]) -> Iterator[Delivery]:
        """New messages have been published."""
        fresh: list[Message] = []
        for message in messages if self.attached else ():
            place, head = message.position, self._position
            if place is not None and head is not None:
                if place.number <= head.number and place.epoch == head.epoch:
                    continue
                if place.number != head.number + 1 or place.epoch != (head.epoch or place.epoch):
                    yield list(self.head), fresh
                    fresh = []
                    yield from self.seen_at(place)
                    continue
                self._position = place
            fresh.append(message)
        if fresh:
            self._tail.extend(fresh)
            yield list(self.head), fresh

    def seen_at(self, position: Position) -> Iterator[Delivery]:
        """The topic turns out to be at `position`: ahead of the head, or else on another course."""
        head = self._position
        if head is None or position == head:
            return
        if position.number > head.number and head.epoch in ("", position.epoch):
            self._step_back()
        else:
            yield from self._lose(list(self.head))
        self._tail.clear()
        self._position = position

    def history(self, history: History) -> Iterator[Delivery]:
        """The messages asked for, or the first of them."""
        self._asking = False
        self._tail.take(history.messages)
        for reader, wait in list(self.waiting.items()):
            if wait.after is None or wait.full or reader not in self._asked_for:
                continue
            if _is_lost(wait.after, history):
                yield from self._lose([reader])
            else:
                yield from self._serve(
                    reader, wait, history.messages, history.end if history.complete else None
                )
        self._advance_those_at_the_head()

    def states(self, states: States) -> Iterator[Delivery]:
        """The state asked for."""
        self._asking = False
        for reader, wait in list(self.waiting.items()):
            if wait.after is None and reader.stateful:
                yield [reader], [Gap(topic=self.topic), states] if wait.gap else [states]
                if states.position == self._position:
                    self._advance(reader)
                else:
                    self.waiting[reader] = _Wait(states.position)

    def serve_from_tail(self) -> Iterator[Delivery]:
        """Serve those who wait for messages that have been read a moment ago."""
        for reader, wait in list(self.waiting.items()):
            if wait.after is not None and not wait.full and self._tail.holds(wait.after):
                end = self._position if self._tail.messages[-1].position == self._position else None
                yield from self._serve(reader, wait, self._tail.messages, end)
        self._advance_those_at_the_head()

    # Steps.

    def _serve(
        self, reader: Reader, wait: _Wait, messages: Sequence[Message], end: Position | None
    ) -> Iterator[Delivery]:
        """Give a reader what it needs of `messages`; they are the last ones if there is an `end`."""
        assert wait.after is not None
        reader.establish(self.topic)
        needed = _following(messages, wait.after)
        given = needed[: reader.room(len(needed))]
        if given:
            wait.after = given[-1].position
            yield [reader], given
        if len(given) < len(needed):
            wait.full = True
        elif end is not None:
            wait.after = end

    def _advance(self, reader: Reader) -> None:
        del self.waiting[reader]
        self.head[reader] = None
        reader.establish(self.topic)

    def _advance_those_at_the_head(self) -> None:
        """Let those join the head who have got all up to it."""
        for reader, wait in list(self.waiting.items()):
            if wait.after is not None and wait.after == self._position:
                self._advance(reader)

    def _step_back(self, gap: bool = False) -> None:
        """Let all those at the head wait for what follows it."""
        for reader in self.head:
            self.waiting[reader] = _Wait(self._position, gap)
        self.head.clear()

    def _lose(self, readers: Sequence[Reader]) -> Iterator[Delivery]:
        """What follows the position of these readers cannot be had any more."""
        for reader in readers:
            self.leave(reader)
            if reader.stateful:
                self.waiting[reader] = _Wait(None, gap=True)
        closed = [reader for reader in readers if not reader.stateful]
        if closed:
            yield closed, PositionLost(_LOST.format(self.topic))


def _following(messages: Sequence[Message], after: Position) -> Sequence[Message]:
    """Return those of `messages`, which are numbered without a hole, that follow the place `after`."""
    if not messages or after.is_beginning:
        return messages
    return messages[max(0, after.number + 1 - _place(messages[0]).number) :]


def _is_lost(after: Position, history: History) -> bool:
    """Whether what follows `after` is not all in this history, or `after` is no place of this topic."""
    if after.is_beginning:
        return False
    if after.number > history.end.number or (after != ORIGIN and after.epoch != history.end.epoch):
        return True
    if after.number == history.end.number:
        return after.mark != history.end.mark
    if not history.messages:
        return True
    first, last = _place(history.messages[0]), _place(history.messages[-1])
    if after.number < first.number:
        # Just before what is kept it cannot be looked at; still kept, it would be here if it were the same.
        return after.number + 1 < first.number or after.number >= history.oldest or after.mark > first.mark
    if after.number > last.number:
        return after.mark < last.mark
    return after.mark != _place(history.messages[after.number - first.number]).mark


def _place(message: Message) -> Position:
    assert message.position is not None, "only backends that keep positions have a history"
    return message.position


class _Tail:
    """The last messages of a topic whose history was read a moment ago, for those who come back together."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._bytes = 0
        self._read_at = 0.0

    def clear(self) -> None:
        self.messages = []
        self._bytes = 0

    def take(self, page: Sequence[Message]) -> None:
        """Keep a page of history, with what is kept already if the two meet."""
        self._read_at = time.monotonic()
        if not page:
            return
        first = _place(page[0]).number
        if self.messages and _place(self.messages[0]).number <= first <= _place(self.messages[-1]).number + 1:
            self._add(_following(page, _place(self.messages[-1])))
        else:
            self.clear()
            self._add(page)

    def extend(self, fresh: Sequence[Message]) -> None:
        """Keep new messages, if there is anything that they follow."""
        if self.messages and time.monotonic() - self._read_at > TAIL_SECONDS:
            self.clear()
        if self.messages and _place(self.messages[-1]).number + 1 == _place(fresh[0]).number:
            self._add(fresh)

    def _add(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)
        self._bytes += sum(map(len, messages))
        if len(self.messages) > TAIL_MESSAGES or self._bytes > TAIL_BYTES:
            self.messages = self.messages[len(self.messages) // 2 :]
            self._bytes = sum(map(len, self.messages))

    def holds(self, after: Position) -> bool:
        """Whether the message at `after` is here, so that what follows it here follows it."""
        if not self.messages or after.is_beginning:
            return False
        first = _place(self.messages[0])
        at = after.number - first.number
        return 0 <= at < len(self.messages) and self.messages[at].position == after
