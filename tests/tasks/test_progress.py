"""Progress without Celery: the percent of the task, what is shown, and how often."""

import itertools
import json
from collections.abc import Generator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.tasks.progress import INTERVAL
from bridge.tasks.spans import TrackedStep, here
from tests.tasks.sender import Sender


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
    loop = sender.items(1000, 1000)
    for _ in range(500):
        next(loop)
    sender.wait(60)
    assert sender.sent[1][0] == pytest.approx(1000 + INTERVAL)
    assert sender.sent[1][1]["current"] == 499
    assert len(sender.sent) == 2
    next(loop)
    sender.wait(INTERVAL)
    assert sender.sent[-1][1]["current"] == 500
    loop.close()


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
        self.announced: list[TrackedStep] = []
        self.open: list[TrackedStep | Generator[int]] = []

    def do(self, name: str, *arguments: Any) -> None:
        match name:
            case "say" | "wait":
                getattr(self.sender, name)(*arguments)
            case "announce":
                self.announced.append(self.sender.step("ahead", *arguments))
            case "step":
                step = self.announced.pop() if self.announced else self.sender.step("now", *arguments)
                self.open.append(step)
                step.begin()
            case "loop":
                loop = self.sender.items(arguments[0], 4)
                self.open.append(loop)
                next(loop)
            case "turn" if self.open and not isinstance(self.open[-1], TrackedStep):
                next(self.open[-1], None)
            case "leave" if self.open:
                self.leave()

    def leave(self) -> None:
        thing = self.open.pop()
        thing.end() if isinstance(thing, TrackedStep) else thing.close()


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
    sender.meter.changed()  # a step that was only announced is told with whatever comes next
    sender.wait(1)
    assert not sender.meter.waiting
    assert sender.meter.news() is None
    times = [at for at, _ in sender.sent]
    assert all(later - sooner >= INTERVAL - 1e-9 for sooner, later in itertools.pairwise(times))
    percents = [news["percent"] for _, news in sender.sent if "percent" in news]
    assert percents == sorted(percents)
    assert all(0 <= percent <= 100 for percent in percents)
    json.dumps([news for _, news in sender.sent], allow_nan=False)
