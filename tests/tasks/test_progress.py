"""Progress without Celery: the task's percent, what is shown, the throttle, rate and eta."""

import itertools
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tasks.progress import INTERVAL, Loop, Meter, Part, Step, here
from bridge.tasks.rate import Rate


class Sender:
    """Asks a meter for news as the outbox does, on a clock that only `wait` moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sent: list[tuple[float, dict[str, Any]]] = []
        self.meter = Meter(self.ask, clock=lambda: self.now)

    def ask(self) -> None:
        if self.meter.due <= self.now:
            self.take()
        else:
            self.meter.waiting = True

    def take(self) -> None:
        news = self.meter.news()
        if news is not None:
            self.sent.append((self.now, news))

    def wait(self, seconds: float) -> None:
        until = self.now + seconds
        while self.meter.waiting and self.meter.due <= until:
            self.now = self.meter.due
            self.take()
        self.now = until

    def say(self, current: float, total: float | None = None, message: str | None = None) -> None:
        part = here.get() or self.meter.root
        part.said = (current, total, message, part.count)
        self.meter.latest = part
        self.meter.heed()

    def step(self, name: str, weight: float = 1) -> Step:
        return Step(here.get() or self.meter.root, name, weight)

    def loop(self, total: float | None, message: str | None = None) -> Loop:
        return Loop(here.get() or self.meter.root, total, message)

    @property
    def last(self) -> dict[str, Any]:
        """The newest figures, whatever the throttle says."""
        self.take()
        return self.sent[-1][1]


@pytest.fixture
def sender() -> Sender:
    assert here.get() is None
    return Sender()


def test_the_first_is_sent_at_once_and_the_last_when_the_pause_is_over(sender: Sender) -> None:
    """Of a burst the first figures and the last are sent, the last without another call."""
    for number in range(1000):
        sender.say(number, 1000)
    assert [news["current"] for _, news in sender.sent] == [0]
    sender.wait(INTERVAL)
    assert [news["current"] for _, news in sender.sent] == [0, 999]
    sender.wait(10)
    assert len(sender.sent) == 2
    assert not sender.meter.waiting
    sender.say(1000, 1000)
    assert sender.sent[-1] == (sender.now, {**sender.sent[-1][1], "current": 1000, "percent": 100.0})


def test_a_new_message_or_total_is_not_lost(sender: Sender) -> None:
    """A change of the message or the total alone is news too; the same figures again are not."""
    sender.say(1, 10, "one")
    sender.wait(1)
    sender.say(1, 10, "two")
    sender.wait(1)
    sender.say(1, 20, "two")
    sender.wait(1)
    sender.say(1, 20, "two")
    sender.wait(1)
    assert [(news["total"], news["message"]) for _, news in sender.sent] == [
        (10, "one"),
        (10, "two"),
        (20, "two"),
    ]


def test_a_slow_item_after_fast_ones_is_told_in_time(sender: Sender) -> None:
    """While a loop runs it is looked at ten times a second, however long an item takes."""
    loop = sender.loop(1000).over(iter(range(1000)))
    for _ in range(500):
        next(loop)
    sender.wait(60)
    assert sender.sent[1][0] == pytest.approx(1000 + INTERVAL)
    assert sender.sent[1][1]["current"] == 499
    assert len(sender.sent) == 2
    next(loop)
    sender.wait(INTERVAL)
    assert sender.sent[-1][1]["current"] == 500
    loop.close()  # type: ignore[attr-defined]


def test_a_loop_yields_its_items_and_says_where_it_ended(sender: Sender) -> None:
    """All items pass unchanged; the figures at the end, and the rate, stay after the loop."""
    items = [object() for _ in range(20)]
    seen = []
    for item in sender.loop(20, "going").over(iter(items)):
        sender.wait(0.5)
        seen.append(item)
    assert seen == items
    last = sender.last
    assert (last["current"], last["total"], last["percent"], last["message"]) == (20, 20, 100.0, "going")
    assert last["rate"] == pytest.approx(2, rel=0.05)
    assert here.get() is None


def test_a_loop_left_early_stays_where_it_was(sender: Sender) -> None:
    """After `break` the items that were done are told, and what comes next is no longer in the loop."""
    for item in sender.loop(10).over(iter(range(10))):
        if item == 3:
            break
    assert (sender.last["current"], sender.last["percent"]) == (3, 30.0)
    assert here.get() is None


def test_errors_pass_through_a_loop(sender: Sender) -> None:
    """What the iterator or the loop's body raises is neither caught nor changed."""

    def broken() -> Any:
        yield 1
        raise LookupError("no second")

    with pytest.raises(LookupError, match="no second"):
        list(sender.loop(2).over(broken()))
    assert sender.last["current"] == 1

    def fails() -> None:
        for item in sender.loop(2).over(iter([0])):
            1 / item

    with pytest.raises(ZeroDivisionError):
        fails()
    assert sender.last["current"] == 0


def test_an_inner_loop_is_the_progress_of_one_item(sender: Sender) -> None:
    """The outer figures are shown; the percent grows within an item."""
    percents = [
        sender.last["percent"]
        for _ in sender.loop(4).over(iter(range(4)))
        for _ in sender.loop(2).over(iter(range(2)))
    ]
    assert percents == [0.0, 12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 87.5]
    assert (sender.last["current"], sender.last["total"], sender.last["percent"]) == (4, 4, 100.0)


def test_what_is_said_in_a_loop_is_of_the_item_at_hand(sender: Sender) -> None:
    """It counts within its item only, and its message is shown."""
    for item in sender.loop(4).over(iter(range(4))):
        sender.say(1, 2, f"half of {item}")
        last = sender.last
        assert (last["percent"], last["message"]) == (25 * item + 12.5, f"half of {item}")
        sender.say(2, 2)
        assert sender.last["percent"] == 25 * item + 25
    assert sender.last["current"] == 4


def test_steps_weigh_as_they_were_announced(sender: Sender) -> None:
    """Steps that are made before the first begins make a bar that is right from the beginning."""
    parse, index = sender.step("parse", 1), sender.step("index", 3)
    parse.begin()
    sender.say(1, 2)
    assert (sender.last["percent"], sender.last["step"]) == (12.5, "parse")
    parse.end()
    index.begin()
    assert sender.last["percent"] == 25
    first, second = sender.step("first", 1), sender.step("second", 1)
    first.begin()
    assert sender.last["step"] == "index / first"
    first.end()
    assert sender.last["percent"] == 62.5
    second.begin()
    second.end()
    index.end()
    assert sender.last["percent"] == 100
    assert "step" not in sender.last


def test_steps_nobody_announced_leave_room_for_more(sender: Sender) -> None:
    """A step made where it begins never fills the bar, and the next moves it on."""
    percents = []
    for name in ("one", "two", "three"):
        step = sender.step(name)
        step.begin()
        sender.say(1, 1)
        percents.append(sender.last["percent"])
        step.end()
    assert percents == [50.0, 66.67, 75.0]


def test_steps_in_a_loop_are_of_one_item(sender: Sender) -> None:
    """Each turn of a loop has steps of its own."""
    percents = []
    for _ in sender.loop(2).over(iter(range(2))):
        load, save = sender.step("load"), sender.step("save")
        for step in (load, save):
            step.begin()
            assert sender.last["total"] == 2
            step.end()
            percents.append(sender.last["percent"])
    assert percents == [25.0, 50.0, 75.0, 100.0]


def test_parts_closed_late_do_not_hide_those_opened_since(sender: Sender) -> None:
    """A loop that is only closed when its generator is thrown away leaves a step begun meanwhile in place."""
    loop = sender.loop(3).over(iter(range(3)))
    next(loop)
    step = sender.step("save")
    step.begin()
    loop.close()  # type: ignore[attr-defined]
    assert here.get() is step
    assert sender.last["step"] == "save"
    step.end()


@pytest.mark.parametrize("total", [0, -1, None, -0.0])
def test_an_unknown_total_is_left_out(sender: Sender, total: float | None) -> None:
    """Zero, a negative number or nothing: there is no percent and no eta, but a count and a rate."""
    sender.say(5, total)
    sender.wait(1)
    sender.say(15, total)
    assert sender.last == {"current": 15, "rate": 10.0}


def test_a_bar_never_goes_back(sender: Sender) -> None:
    """A total that grows, a count that goes back and a second loop leave the percent where it was."""
    for current, total, percent in [(50, 100, 50), (60, 1000, 50), (600, 1000, 60), (1, 2, 60), (9, 3, 100)]:
        sender.say(current, total)
        assert (sender.last["current"], sender.last["percent"]) == (current, percent)


def test_not_quite_done_is_not_100_percent(sender: Sender) -> None:
    """Rounding never says 100 before the end."""
    sender.say(999_999, 1_000_000)
    assert sender.last["percent"] == 99.99


numbers = st.one_of(st.integers(-5, 10**12), st.floats(-1e99, 1e99))
acts = st.lists(
    st.one_of(
        st.tuples(st.just("say"), numbers, st.none() | numbers, st.none() | st.text(max_size=3)),
        st.tuples(st.just("wait"), st.floats(0, 1)),
        st.tuples(st.just("step"), st.integers(0, 3)),
        st.tuples(st.just("announce"), st.integers(0, 3)),
        st.tuples(st.just("loop"), st.none() | st.integers(-1, 5)),
        st.tuples(st.just("turn")),
        st.tuples(st.just("leave")),
    ),
    max_size=60,
)


class Task:
    """Does what it is told, and leaves everything it entered."""

    def __init__(self) -> None:
        self.sender = Sender()
        self.announced: list[Step] = []
        self.open: list[Any] = []

    def do(self, name: str, *arguments: Any) -> None:
        match name:
            case "say" | "wait":
                getattr(self.sender, name)(*arguments)
            case "announce":
                self.announced.append(self.sender.step("ahead", *arguments))
            case "step":
                self.open.append(
                    self.announced.pop() if self.announced else self.sender.step("now", *arguments)
                )
                self.open[-1].begin()
            case "loop":
                self.open.append(self.sender.loop(*arguments).over(iter(range(4))))
                next(self.open[-1])
            case "turn" if self.open and not isinstance(self.open[-1], Part):
                next(self.open[-1], None)
            case "leave" if self.open:
                self.leave()

    def leave(self) -> None:
        thing = self.open.pop()
        thing.end() if isinstance(thing, Part) else thing.close()


@given(acts)
def test_whatever_a_task_does(acts: list[tuple[Any, ...]]) -> None:
    """The percent never goes back, the pause is kept, the first and last figures are sent, all is JSON."""
    task = Task()
    for act in acts:
        task.do(*act)
        assert task.sender.sent or act[0] in ("wait", "announce", "turn", "leave")
    while task.open:
        task.leave()
    assert here.get() is None
    sender = task.sender
    sender.meter.heed()  # a step that was only announced is told with whatever comes next
    sender.wait(1)
    assert not sender.meter.waiting
    assert sender.meter.news() is None
    times = [at for at, _ in sender.sent]
    assert all(later - sooner >= INTERVAL - 1e-9 for sooner, later in itertools.pairwise(times))
    percents = [news["percent"] for _, news in sender.sent if "percent" in news]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)
    json.dumps([news for _, news in sender.sent], allow_nan=False)


def test_a_steady_pace_is_exact() -> None:
    """However irregularly it is told, a steady rate is that rate, and the eta what is left at it."""
    rate = Rate()
    now = 0.0
    assert rate.at(0, 1000, now) == {}
    for pause in (0.1, 3, 0.01, 60, 0.5):
        now += pause
        told = rate.at(now * 10, 1000, now)
        assert told["rate"] == pytest.approx(10)
        assert told["eta"] == pytest.approx((1000 - now * 10) / 10, rel=0.01)


def test_a_pace_follows_a_change_smoothly() -> None:
    """After a change the rate is between old and new, nearer to the new one the longer it lasts."""
    rate = Rate()
    rate.at(0, None, 0)
    current = 0.0
    for second in range(1, 61):
        current += 100
        rate.at(current, None, second)
    rates = []
    for second in range(61, 121):
        current += 10
        rates.append(rate.at(current, None, second)["rate"])
    assert rates == sorted(rates, reverse=True)
    assert 90 < rates[0] < 100
    assert rates[14] == pytest.approx(10 + 90 / math.e, rel=0.03)
    assert 10 < rates[-1] < 13


def test_a_figure_that_goes_back_begins_a_new_pace() -> None:
    """A count that begins anew is not taken for a negative rate; an unknown or reached total has no eta."""
    rate = Rate()
    rate.at(0, 10, 0)
    assert rate.at(10, 10, 1) == {"rate": 10.0}
    assert rate.at(2, 10, 2) == {}
    assert rate.at(4, 10, 3) == {"rate": 2.0, "eta": 3.0}
    assert rate.at(6, None, 3) == {"rate": 2.0}  # no time has passed: nothing can be learnt
