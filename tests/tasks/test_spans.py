"""Loops and steps within each other: what is done of each, and of the whole task."""

from typing import Any

import pytest

from bridge.tasks.spans import here
from tests.tasks.sender import Sender


@pytest.fixture
def sender() -> Sender:
    assert here.get() is None
    return Sender()


def test_a_loop_yields_its_items_and_says_where_it_ended(sender: Sender) -> None:
    """All items pass unchanged; the figures at the end, and the rate, stay after the loop."""
    items = [object() for _ in range(20)]
    seen = []
    for item in sender.loop(20, "going").iterate(iter(items)):
        sender.wait(0.5)
        seen.append(item)
    assert seen == items
    last = sender.last
    assert (last["current"], last["total"], last["percent"], last["message"]) == (20, 20, 100.0, "going")
    assert last["rate"] == pytest.approx(2, rel=0.05)
    assert here.get() is None


def test_a_loop_left_early_stays_where_it_was(sender: Sender) -> None:
    """After `break` the items that were done are told, and what comes next is no longer in the loop."""
    for item in sender.loop(10).iterate(iter(range(10))):
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
        list(sender.loop(2).iterate(broken()))
    assert sender.last["current"] == 1

    def fails() -> None:
        for item in sender.loop(2).iterate(iter([0])):
            1 / item

    with pytest.raises(ZeroDivisionError):
        fails()
    assert sender.last["current"] == 0


def test_an_inner_loop_is_the_progress_of_one_item(sender: Sender) -> None:
    """The outer figures are shown; the percent grows within an item."""
    percents = [
        sender.last["percent"]
        for _ in sender.loop(4).iterate(iter(range(4)))
        for _ in sender.loop(2).iterate(iter(range(2)))
    ]
    assert percents == [0.0, 12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 87.5]
    assert (sender.last["current"], sender.last["total"], sender.last["percent"]) == (4, 4, 100.0)


def test_what_is_said_in_a_loop_is_of_the_item_at_hand(sender: Sender) -> None:
    """It counts within its item only, and its message is shown."""
    for item in sender.loop(4).iterate(iter(range(4))):
        sender.say(1, 2, f"half of {item}")
        last = sender.last
        assert (last["percent"], last["message"]) == (25 * item + 12.5, f"half of {item}")
        sender.say(2, 2)
        assert sender.last["percent"] == 25 * item + 25
    assert sender.last["current"] == 4


def test_steps_weigh_as_they_were_announced(sender: Sender) -> None:
    """Steps that are made before the first begins make a whole that is right from the beginning."""
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
    for _ in sender.loop(2).iterate(iter(range(2))):
        load, save = sender.step("load"), sender.step("save")
        for step in (load, save):
            step.begin()
            assert sender.last["total"] == 2
            step.end()
            percents.append(sender.last["percent"])
    assert percents == [25.0, 50.0, 75.0, 100.0]


def test_parts_closed_late_do_not_hide_those_opened_since(sender: Sender) -> None:
    """A loop that is only closed when its generator is thrown away leaves a step begun meanwhile in place."""
    loop = sender.items(3, 3)
    next(loop)
    step = sender.step("save")
    step.begin()
    loop.close()
    assert here.get() is step
    assert sender.last["step"] == "save"
    step.end()
