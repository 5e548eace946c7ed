"""The sequencer of a topic, against a model of a server."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bridge.backends.base import History, Item, States
from bridge.channel import reader as contract
from bridge.channel.reader import Delivery
from bridge.channel.sequencer import Request, Sequencer
from bridge.errors import PositionLost, SubscriptionClosed
from bridge.model.message import Gap, Message
from bridge.model.position import BEGINNING, ORIGIN, Position, parse
from bridge.model.state import Retention

PAGE = 3
STATE_PAGES = 3


class Server:
    """A topic on a server: numbered messages of which the last ones are kept."""

    def __init__(self) -> None:
        self.epochs = 0
        self.used: set[Position] = set()
        self.flush()

    def flush(self) -> None:
        self.epochs += 1
        self.end = ORIGIN
        self.kept: list[Message] = []

    def publish(self) -> Message:
        place = Position(f"{self.epochs:x}", self.end.number + 1, self.end.mark + 1)
        while place in self.used:
            place = place._replace(mark=place.mark + 1)
        self.used.add(place)
        self.end = place
        self.kept.append(Message(str(self.end).encode(), topic="t", id=str(self.end), type="log"))
        return self.kept[-1]

    def fail_over(self, lost: int) -> None:
        """Go on from a copy that lacks the last messages, and publish as many others in their place."""
        lost = min(lost, len(self.kept) - 1)
        if lost < 1:
            return
        del self.kept[-lost:]
        self.end = self.kept[-1].position or ORIGIN  # its clock may well be behind
        for _ in range(lost):
            self.publish()

    def read(self, start: Position) -> History:
        kept = [
            m
            for m in self.kept
            if m.position and (m.position.mark, m.position.number) >= (start.mark, start.number)
        ]
        oldest = self.kept[0].position if self.kept else None
        number = oldest.number if oldest else self.end.number + 1
        return History("t", kept[:PAGE], self.end, complete=len(kept) < PAGE, oldest=number)


class Reader(contract.Reader):
    """Records what it gets."""

    topics = frozenset({"t"})

    def __init__(self, stateful: bool = False, size: int = 1000) -> None:
        self.stateful = self.opens_with_state = stateful
        self.size = size
        self.got: list[Item] = []
        self.queued = 0
        self.lost = False
        self.established = False

    @property
    def post(self) -> Callable[[Sequence["Reader"], Sequence[Item]], None]:
        raise AssertionError("the world delivers")

    def establish(self, topic: str) -> None:
        self.established = True

    def room(self, items: Sequence[Item]) -> int:
        return min(len(items), max(0, self.size - self.queued))

    def fail(self, reason: SubscriptionClosed) -> None:
        raise AssertionError("only the hub fails a reader") from reason

    def reset_after_fork(self) -> None:
        raise AssertionError("no test forks")

    def numbers(self) -> list[int]:
        """The numbers received; the first page of the last state stands for those up to it.

        A further page must come at the very place at which it was read.
        """
        numbers: list[int] = []
        self.more: str | None = None
        for item in self.got:
            if isinstance(item, States):
                reached = (item.position or ORIGIN).number
                if item.after is None:
                    numbers = list(range(1, reached + 1))
                else:
                    assert item.after == self.more, "a page left out"
                    assert len(numbers) == reached, "a page at another place than its own"
                self.more = item.more
            elif not isinstance(item, Gap):
                assert item.type == "log", "a message without its type"
                assert item.position is None or self.more is None, "a place between two pages"
                numbers.append(parse(item.decode()).number)
        return numbers


class World:
    """A server, the connections to it for messages and for what is asked, and a sequencer."""

    def __init__(self) -> None:
        self.server = Server()
        self.sequencer = Sequencer("t", Retention(60, 10_000))
        self.wire: deque[Callable[[], Iterator[Delivery]]] = deque()
        self.asked: deque[Request] = deque()
        self.answers: deque[Callable[[], Iterator[Delivery]]] = deque()
        self.connected = False
        self.readers: list[tuple[Reader, int]] = []
        self.excused = False

    def deliver(self, deliveries: Iterator[Delivery]) -> None:
        for readers, items in list(deliveries):
            for reader in readers:
                assert isinstance(reader, Reader)
                if isinstance(items, PositionLost):
                    reader.lost = True
                else:
                    reader.got.extend(items)
                    reader.queued += len(items)

    def ask(self) -> None:
        """What the hub does: serve from the cache, and ask for what is needed."""
        if not self.connected:
            return
        self.deliver(self.sequencer.serve_from_cache())
        request = self.sequencer.next_request()
        if request is not None:
            self.asked.append(request)

    def read(self) -> None:
        """Let the server read what was asked for; the answer is on its way, beside the messages."""
        wanted = self.asked.popleft()
        if isinstance(wanted, Position):
            answer = self.server.read(wanted)
            self.answers.append(lambda: self.sequencer.on_history(answer))
        else:
            number = int(wanted.after or 0) + 1
            more = str(number) if number < STATE_PAGES else None
            states = States("t", [], self.server.end, wanted.after, more)
            self.answers.append(lambda: self.sequencer.on_states(states))

    def step(self) -> None:
        """Let one message that is on the wire arrive."""
        if self.wire:
            self.deliver(self.wire.popleft()())
        self.ask()

    def answer(self) -> None:
        """Let the server read, or what it has read arrive."""
        if self.answers:
            self.deliver(self.answers.popleft()())
        elif self.asked:
            self.read()
        self.ask()

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            end = self.server.end
            self.wire.append(lambda: self.sequencer.on_attached(end))

    def disconnect(self) -> None:
        if self.connected:
            self.connected = False
            self.wire.clear()
            self.asked.clear()
            self.answers.clear()
            self.sequencer.on_disconnect()

    def publish(self, copies: int) -> None:
        """Publish; the live message arrives once, not at all or twice."""
        message = self.server.publish()
        for _ in range(copies if self.connected else 0):
            self.wire.append(lambda: self.sequencer.on_messages([message]))

    def join(self, reader: Reader, after: Position | None, start: int) -> None:
        self.readers.append((reader, start))
        self.sequencer.join(reader, after)
        self.ask()

    def settle(self) -> None:
        """Connect, compare positions, and let everything arrive until nothing is wanted."""
        self.connect()
        for _ in range(10_000):
            if not self.under_way:
                self.ask()
            if not self.under_way:
                break
            self.step()
            self.answer()
        end = self.server.end
        self.wire.append(lambda: self.sequencer.on_seen(end))
        for _ in range(10_000):
            if not self.under_way and not self.drain():
                return
            self.step()
            self.answer()
        pytest.fail("the sequencer never comes to rest")

    @property
    def under_way(self) -> bool:
        return bool(self.wire or self.asked or self.answers)

    def drain(self) -> bool:
        """Empty the queues; return whether anything was in them or is wanted now."""
        queued = False
        for reader, _ in self.readers:
            queued |= reader.queued > 0
            reader.queued = 0
            self.sequencer.readers.has_room(reader)
        self.ask()
        return queued or self.under_way


ordinary = st.one_of(
    st.tuples(st.just("publish"), st.integers(0, 2)),
    st.just(("step",)),
    st.just(("answer",)),
    st.just(("drain",)),
)
rare = st.one_of(
    st.just(("connect",)),
    st.just(("disconnect",)),
    st.just(("flush",)),
    st.tuples(st.just("fail_over"), st.integers(1, 3)),
    st.tuples(st.just("trim"), st.integers(1, 4)),
    st.just(("join beginning",)),
    st.just(("join now",)),
    st.just(("join state",)),
    st.tuples(st.just("join after"), st.integers(0, 30)),
    st.tuples(st.just("join forged"), st.integers(0, 30), st.integers(0, 80)),
)

# Mostly traffic, now and then something that goes wrong or someone who comes.
actions = st.tuples(ordinary, ordinary, ordinary, ordinary, rare)


def apply(world: World, action: Sequence[object]) -> None:  # noqa: C901 - a table of cases
    kind, *values = action
    number = int(str(values[0])) if values else 0
    server = world.server
    match kind:
        case "publish":
            world.publish(number)
        case "step":
            world.step()
        case "answer":
            world.answer()
        case "drain":
            world.drain()
        case "connect":
            world.connect()
        case "disconnect":
            world.disconnect()
        case "flush":
            server.flush()
            world.excused = True
        case "fail_over":
            world.disconnect()  # the connection was to the server that has gone
            server.fail_over(number)
            world.excused = True
        case "trim":
            del server.kept[:number]
            world.excused = True
        case "join beginning":
            world.join(Reader(size=4), parse(BEGINNING), -1)
        case "join now":
            # From the place at which it is attached, which the reader learns with its first message.
            world.join(Reader(), None, -1)
        case "join state":
            world.join(Reader(stateful=True, size=4), None, 0)
        case "join after":
            kept = [m.position for m in server.kept if m.position]
            place = kept[number % len(kept)] if kept else ORIGIN
            world.join(Reader(size=4), place, place.number)
        case "join forged":
            forged = Position(server.end.epoch or "0", number, int(str(values[1])))
            real = any(m.position == forged for m in server.kept)
            reader = Reader()
            world.join(reader, forged, forged.number)
            if not real:
                world.readers.remove((reader, forged.number))


# History read before a flush and after it, by a sequencer that has not seen the topic's epoch yet.
TWO_EPOCHS = [
    (("publish", 0), ("step",), ("step",), ("step",), ("join beginning",)),
    (("step",), ("step",), ("step",), ("answer",), ("flush",)),
    (("publish", 0), ("publish", 0), ("step",), ("step",), ("join beginning",)),
]


@example(TWO_EPOCHS)
@settings(max_examples=1000, deadline=None)
@given(st.lists(actions, max_size=12))
def test_every_reader_gets_each_message_once_and_in_order_or_is_told(
    rounds: list[tuple[tuple[object, ...], ...]],
) -> None:
    """Live messages lost or doubled, lost connections, flushes, failovers, trims, forged cursors: no hole."""
    world = World()
    world.connect()
    world.join(Reader(), None, -1)
    for actions in rounds:
        for action in actions:
            apply(world, action)
    world.settle()
    for reader, start in world.readers:
        numbers = reader.numbers()
        assert reader.lost or reader.more is None, "a page of the state is missing"
        if numbers:
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a hole, or a repetition"
        if start >= 0 and numbers and not reader.stateful:
            assert numbers[0] == start + 1
        if reader.lost:
            assert world.excused, "lost without a reason"
        else:
            assert reader.established
            reached = numbers[-1] if numbers else start
            if start >= 0 or numbers:
                assert reached == world.server.end.number
            received = {item.position for item in reader.got if isinstance(item, Message) and item.position}
            if not reader.stateful:
                assert received <= {m.position for m in world.server.kept} | _before(world, received)


def _before(world: World, received: set[Position]) -> set[Position]:
    """What was received of this epoch and has been trimmed since."""
    first = world.server.kept[0].position if world.server.kept else world.server.end
    assert first is not None
    return {place for place in received if place.number < first.number or not world.server.kept}


def test_history_is_read_once_for_those_who_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand readers with places of their own are served by one pass, and later ones from the cache."""
    world = World()
    for _ in range(30):
        world.server.publish()
    world.connect()
    world.settle()
    places = [message.position for message in world.server.kept]
    for index in range(1000):
        place = places[index % 30]
        assert place is not None
        world.join(Reader(), place, place.number)
    reads = 0
    read = world.server.read

    def counting(start: Position) -> History:
        nonlocal reads
        reads += 1
        return read(start)

    monkeypatch.setattr(world.server, "read", counting)
    world.settle()
    assert reads <= 30 / (PAGE - 1) + 2
    for reader, start in world.readers:
        assert reader.numbers() == list(range(start + 1, 31))
    before = reads
    world.join(Reader(), places[5], 6)
    world.settle()
    assert reads == before
    assert world.readers[-1][0].numbers() == list(range(7, 31))


def test_a_reader_between_two_pages_of_a_flushed_server_begins_anew() -> None:
    """A page of the state is waiting for messages that a flush has taken away: the reader starts again."""
    world = World()
    world.connect()
    reader = Reader(stateful=True, size=4)
    world.join(reader, None, 0)
    world.step()
    for _ in range(2):
        world.answer()  # the first page
    world.publish(0)
    world.answer()  # the second page is read at a message that has not come
    world.server.flush()
    world.settle()
    reader.numbers()
    assert reader.more is None


def test_a_forged_mark_harms_nobody_else() -> None:
    """A cursor that names a real number and another mark is lost alone."""
    world = World()
    for _ in range(10):
        world.server.publish()
    world.connect()
    forged, honest = Reader(), Reader()
    world.join(forged, Position("1", 2, 999_999), 2)
    world.join(honest, world.server.kept[4].position, 5)
    world.settle()
    assert forged.lost
    assert honest.numbers() == [6, 7, 8, 9, 10]


def test_a_message_that_was_replaced_under_an_earlier_clock_is_noticed() -> None:
    """A cursor whose message the server now has as another one is lost, though its mark is the later one."""
    world = World()
    first = world.server.publish().position
    assert first is not None
    world.server.publish()
    world.server.end = world.server.end._replace(mark=60)
    world.server.publish()
    world.connect()
    reader = Reader()
    world.join(reader, first._replace(number=2, mark=50), 2)
    world.settle()
    assert reader.lost
