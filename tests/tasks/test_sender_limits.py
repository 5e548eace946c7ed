"""What one task may send."""

import pytest

from bridge.tasks import sender_limits
from bridge.tasks.sender_limits import SenderLimits
from tests import events


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(sender_limits, "time", clock)
    monkeypatch.setattr(sender_limits, "EVENTS_A_SECOND", 10)
    return clock


def sent(limits: SenderLimits, task: str, count: int, message: str = "x") -> int:
    """Return how many of `count` log events may be sent; the others are held."""
    passed = 0
    for _ in range(count):
        event = events.make("log", task, message=message)
        if limits.takes(event):
            passed += 1
        else:
            limits.hold(event)
    return passed


def test_a_burst_passes_and_a_flood_does_not(clock: Clock) -> None:
    """Of a task that goes on, as many events pass as a second allows; another task has its own allowance."""
    limits = SenderLimits()
    assert sent(limits, "t1", 150) == 100
    assert sent(limits, "t2", 50) == 50
    clock.now = 0.5
    assert sent(limits, "t1", 10) == 0
    clock.now = 3
    assert sent(limits, "t1", 10) == 10


def test_bytes_are_limited_too(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large events exhaust the allowance as many small ones do."""
    monkeypatch.setattr(sender_limits, "BYTES_A_SECOND", 1000)
    limits = SenderLimits()
    assert sent(limits, "t1", 50, message="x" * 2000) == 5
    clock.now = 20
    assert sent(limits, "t1", 50, message="x" * 2000) == 5


def test_what_is_left_out_is_told_once(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """With its number and what it would have changed, then the newest entry, before the next message."""
    limits = SenderLimits()
    assert sent(limits, "t1", 130) == 100
    step, last = (
        events.make("step", "t1", name=name, status="started", steps=[{"name": name}])
        for name in ("early", "late")
    )
    for event in (step, last):
        assert not limits.takes(event)
        assert limits.hold(event)
    topic = step.topic
    assert limits.takes(events.make("state", "t1", state="SUCCESS"))
    (notice, count), (held, stands_for) = limits.held(topic)
    assert (held, stands_for) == (last, 0)
    assert count == 31
    told = events.decode(notice.payload) or {}
    assert told["message"].startswith("31 events were left out here")
    assert notice.change is not None
    assert step.change is not None
    assert notice.change.fields == step.change.fields
    assert limits.held(topic) == []
    assert len(caplog.records) == 1
    assert topic in caplog.text


def test_states_and_progress_always_pass(clock: Clock) -> None:
    """Only entries are limited."""
    limits = SenderLimits()
    sent(limits, "t1", 200)
    assert all(limits.takes(events.make("progress", "t1", current=number)) for number in range(200))
    assert limits.takes(events.make("state", "t1", state="STARTED"))
