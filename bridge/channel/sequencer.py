"""The line of a topic: who reads it, from where, and what each gets next. No I/O, no lock, no thread.

A reader is either at the head of the line, where it gets each new message at once, or it waits, with the
place from which it needs the messages that are kept. History is read once for all who wait; whoever has
caught up joins the head. In whatever order live messages, history, repetitions and lost connections come, a
reader gets each message once and in order, or learns that its position is lost.
"""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from bridge.backends.base import History, Item, States
from bridge.channel.tail import Tail, following, place_of
from bridge.errors import PositionLost
from bridge.model.message import Gap, Message
from bridge.model.position import ORIGIN, Position
from bridge.model.state import Retention

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

    def room(self, items: Sequence[Item]) -> int:
        """How many of `items`, from the first on, it takes now; if not all, `has_room` will be called.

        A reader for which nothing waits takes at least one, however large it is.
        """
        ...


class StatePage(NamedTuple):
    """A request for a page of the state: the one after a name, or the first."""

    after: str | None


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
    page: str | None = None
    """The page of the state that comes next, after the one that it has got."""
    held: States | None = None
    """That page. It is given once the reader has got every message up to the page's position."""
    known: bool = False
    """Whether the backend has said `after` itself, so that what follows it will come."""

    @property
    def needs_page(self) -> bool:
        return not self.full and self.held is None and (self.after is None or self.page is not None)

    @property
    def needs_history(self) -> bool:
        if self.full or self.after is None:
            return False
        return self.page is None if self.held is None else self.after != self.held.position


class Sequencer:
    """One topic of one process, whose messages the backend keeps for as long as `retention` says."""

    def __init__(self, topic: str, retention: Retention) -> None:
        self.topic = topic
        self.head: dict[Reader, None] = {}
        self.waiting: dict[Reader, _Wait] = {}
        self.attached = False
        self._keep = retention.messages
        self._position: Position | None = None  # of the head; None where the backend keeps no positions
        self._asking: Position | StatePage | None = None
        self._asked: Position | StatePage | None = None
        self._asked_for: dict[Reader, Position] = {}
        self._asked_at: Position | None = None
        self._tail = Tail(retention.seconds)
        # What has come since something was asked: the answer may be older than that.
        self._since_asked = Tail(retention.seconds)
        self._state: weakref.ref[States] | None = None
        """The first page of the state, as long as somebody has it."""
        # Where no positions are kept: readers at the head, and the pages of the state that they still need.
        self._pages: dict[Reader, _Wait] = {}

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
        self._pages.pop(reader, None)

    def has_room(self, reader: Reader) -> None:
        """The queue of a reader that was full has emptied."""
        for readers in (self.waiting, self._pages):
            if reader in readers:
                readers[reader].full = False

    @property
    def busy(self) -> bool:
        """Whether a reader may need what must be asked for."""
        return bool(self.waiting or self._pages)

    def wants(self) -> Position | StatePage | None:
        """What to ask of the backend: history from a place on, a page of the state, or nothing.

        The two take turns, so that a long history holds up nobody who begins. Where the places of those who
        wait contradict each other, a forged one among them, the history of all of them is asked for.
        """
        if not self.attached or self._asking is not None:
            return None
        page = self._wanted_page()
        places = list(self._places().values())
        if page is not None and (not places or not isinstance(self._asked, StatePage)):
            return page
        if not places:
            return None
        return Position("", min(p.number for p in places), min(p.mark for p in places))

    def _wanted_page(self) -> StatePage | None:
        for wait in (*self.waiting.values(), *self._pages.values()):
            if wait.needs_page:
                return StatePage(wait.page)
        return None

    def _places(self) -> dict[Reader, Position]:
        """Return the readers that need history, and from which place on.

        Where the backend was read ahead of the messages that are on their way here, these are enough.
        """
        head = self._position.number if self._position is not None else 0
        places: dict[Reader, Position] = {}
        for reader, wait in self.waiting.items():
            if (
                wait.after is not None
                and wait.needs_history
                and not (wait.known and wait.after.number > head)
            ):
                places[reader] = wait.after
        return places

    def asked(self, wanted: Position | StatePage) -> None:
        """What was wanted has been asked for; until it comes nothing else is.

        History serves only those who wait now: a place learnt later may be beyond what it knows.
        """
        self._asking = self._asked = wanted
        self._asked_for = self._places()
        self._asked_at = self._position
        self._since_asked.clear(self._position)

    # What the backend says.

    def detach(self) -> None:
        """The connection is lost: whoever was at the head needs what follows."""
        self._step_back(gap=self._position is None)
        self.attached = False
        self._position = self._asking = None
        self._asked_for.clear()
        self._tail.clear()
        self._since_asked.clear()
        for wait in self.waiting.values():
            wait.held = None
            wait.known = False

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
                    self._keep_fresh(fresh)
                    yield list(self.head), fresh
                    fresh = []
                    yield from self.seen_at(place)
                    continue
                self._position = place
            fresh.append(message)
        if fresh:
            self._keep_fresh(fresh)
            yield list(self.head), fresh

    def _keep_fresh(self, fresh: Sequence[Message]) -> None:
        if self._position is not None and fresh:
            self._forget_tail()
            self._tail.extend(fresh)
            if self._asking is not None:
                self._since_asked.extend(fresh)

    def _forget_tail(self) -> None:
        if not self.waiting and self._tail.outdated:
            self._tail.clear()

    def seen_at(self, position: Position) -> Iterator[Delivery]:
        """The topic turns out to be at `position`: ahead of the head, or else on another course."""
        self._forget_tail()
        for wait in self.waiting.values():
            wait.known = False  # the backend may have lost what it was read at
        head = self._position
        if head is None or position == head:
            return
        if position.number > head.number and head.epoch in ("", position.epoch):
            self._step_back()
        else:
            yield from self._lose(list(self.head))
        self._tail.clear()
        self._since_asked.clear()
        self._position = position

    def history(self, history: History) -> Iterator[Delivery]:
        """The messages asked for, or the first of them."""
        self._asking = None
        if not self._can_use(history.end):
            return
        yield from self._take_course(history.end)
        live: Sequence[Message] = []
        end = None
        self._tail.take(history.messages)
        if history.complete:
            live = self._live_after(history.end)
            end = live[-1].position if live else history.end
            self._follow_live(history.end)
        messages = [*history.messages, *live]
        for reader, wait in list(self.waiting.items()):
            if wait.after is None or not wait.needs_history or self._asked_for.get(reader) is not wait.after:
                continue
            if _is_lost(wait.after, history) or _is_gone(wait.held, history.end):
                yield from self._lose([reader])
            else:
                yield from self._serve(reader, wait, messages, end)
        self._advance_those_at_the_head()

    def states(self, states: States) -> Iterator[Delivery]:
        """The page of the state asked for."""
        self._asking = None
        if states.position is not None:
            if not self._can_use(states.position):
                return
            yield from self._take_course(states.position)
            self._follow_live(states.position)
            if states.after is None:
                self._state = weakref.ref(states)
        for reader, wait in list(self._pages.items()):
            if wait.page == states.after:
                yield from self._give_if_it_fits(reader, wait, states)
        for reader, wait in list(self.waiting.items()):
            if not wait.needs_page or wait.page != states.after or not reader.stateful:
                continue
            if wait.after is not None:
                wait.held = states
                yield from self._give_held(reader, wait)
            else:
                yield from self._give_if_it_fits(reader, wait, states)

    def serve_from_tail(self) -> Iterator[Delivery]:
        """Serve those who wait for messages that have been read or received a moment ago."""
        state = self._state() if self._state is not None else None
        for reader, wait in list(self.waiting.items()):
            yield from self._give_held(reader, wait)
            if wait.after is None and state is not None and state.position == self._position:
                yield from self._give_if_it_fits(reader, wait, state)
            if not wait.needs_history or wait.after is None or self.waiting.get(reader) is not wait:
                continue
            if self._still_kept(wait.after) and self._tail.holds(wait.after):
                end = self._position if self._tail.end == self._position else None
                yield from self._serve(reader, wait, self._tail.messages, end)
        self._advance_those_at_the_head()

    # Steps.

    def _can_use(self, position: Position) -> bool:
        """Whether an answer given at `position` is of the course that the head is on, or of a newer one.

        An answer may have been overtaken by messages of another course.
        """
        head, before = self._position, self._asked_at
        if head is None or before is None or head.epoch in (before.epoch, position.epoch):
            return True
        return position.epoch == before.epoch == ""

    def _take_course(self, position: Position) -> Iterator[Delivery]:
        """Take note of an answer that knows of a newer course than the head."""
        head, before = self._position, self._asked_at
        if head is None or before is None or not head.epoch:
            return
        if head.epoch == before.epoch and position.epoch != head.epoch:
            yield from self.seen_at(position)

    def _follow_live(self, end: Position) -> None:
        """Let the tail go on with what has come since something was asked, answered at `end`."""
        live = self._live_after(end)
        if self._tail.end == end and live:
            self._tail.extend(live)
        elif self._tail.end not in (end, self._position):
            self._tail, self._since_asked = self._since_asked, self._tail
            self._tail.brief = True

    def _live_after(self, end: Position) -> Sequence[Message]:
        """Return what has come since `end`, if all of it has been kept."""
        base = self._since_asked.base
        if base is None or base.number > end.number or base.epoch not in ("", end.epoch):
            return []
        return following(self._since_asked.messages, end)

    def _still_kept(self, after: Position) -> bool:
        """Whether the backend, too, would still give what follows `after`."""
        return self._position is None or after.number >= self._position.number - self._keep

    def _serve(
        self, reader: Reader, wait: _Wait, messages: Sequence[Message], end: Position | None
    ) -> Iterator[Delivery]:
        """Give a reader what it needs of `messages`; they are the last ones if there is an `end`."""
        assert wait.after is not None
        reader.establish(self.topic)
        needed, until = following(messages, wait.after), end
        if wait.held is not None and wait.held.position is not None:
            until = wait.held.position
            needed = [message for message in needed if place_of(message).number <= until.number]
        given = needed[: reader.room(needed)] if needed else needed
        if given:
            wait.after = given[-1].position
            # Between two pages of the state there is no place from which a reader could go on later.
            paging = wait.held is not None
            yield [reader], [m.without_id() for m in given] if paging else given
        if len(given) < len(needed):
            wait.full = True
        elif end is not None and until is not None and end.number >= until.number:
            wait.after, wait.known = until, True
        yield from self._give_held(reader, wait)

    def _give_held(self, reader: Reader, wait: _Wait) -> Iterator[Delivery]:
        """Give a reader the page of the state that it has come up to, if there is one and it fits."""
        held, after = wait.held, wait.after
        if held is None or held.position is None or after is None or wait.full:
            return
        if held.position.epoch != (after.epoch or held.position.epoch) or held.position.number < after.number:
            yield from self._lose([reader])
        elif after == held.position:
            if reader.room([held]):
                yield from self._give(reader, wait, held)
            else:
                wait.full = True

    def _give_if_it_fits(self, reader: Reader, wait: _Wait, states: States) -> Iterator[Delivery]:
        """Give a reader a page of the state, or let it ask again later."""
        if not wait.needs_page or not reader.stateful:
            return
        if reader.room([states]):
            yield from self._give(reader, wait, states)
        else:
            wait.full = True

    def _give(self, reader: Reader, wait: _Wait, states: States) -> Iterator[Delivery]:
        """Give a reader a page of the state, and let it wait for what comes after it."""
        reader.establish(self.topic)
        self._pages.pop(reader, None)
        if states.position is None:
            self._advance(reader)
            if states.more is not None:
                self._pages[reader] = _Wait(None, page=states.more)
        elif states.more is None and states.position == self._position:
            self._advance(reader)
        else:
            self.waiting[reader] = _Wait(states.position, page=states.more, known=True)
        yield [reader], [Gap(topic=self.topic), states] if wait.gap else [states]

    def _advance(self, reader: Reader) -> None:
        self.waiting.pop(reader, None)
        self.head[reader] = None
        reader.establish(self.topic)

    def _advance_those_at_the_head(self) -> None:
        """Let those join the head who have got all up to it."""
        for reader, wait in list(self.waiting.items()):
            if wait.after is not None and wait.after == self._position and wait.page is None:
                self._advance(reader)

    def _step_back(self, gap: bool = False) -> None:
        """Let all those at the head wait for what follows it."""
        for reader in self.head:
            self.waiting[reader] = _Wait(self._position, gap)
        self.head.clear()
        self._pages.clear()

    def _lose(self, readers: Sequence[Reader]) -> Iterator[Delivery]:
        """What follows the position of these readers cannot be had any more."""
        for reader in readers:
            self.leave(reader)
            if reader.stateful:
                self.waiting[reader] = _Wait(None, gap=True)
        closed = [reader for reader in readers if not reader.stateful]
        if closed:
            yield closed, PositionLost(_LOST.format(self.topic))


def _is_gone(page: States | None, end: Position) -> bool:
    """Whether the server, now at `end`, was flushed or replaced since it was asked for a page of state."""
    if page is None or page.position is None:
        return False
    return page.position.number > end.number or page.position.epoch != end.epoch


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
    first, last = place_of(history.messages[0]), place_of(history.messages[-1])
    if after.number < first.number:
        # Just before what is kept it cannot be looked at; still kept, it would be here if it were the same.
        return after.number + 1 < first.number or after.number >= history.oldest or after.mark > first.mark
    if after.number > last.number:
        return after.mark < last.mark
    return after.mark != place_of(history.messages[after.number - first.number]).mark
