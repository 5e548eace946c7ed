"""What is counted of viewers, for metrics."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bridge.backends.base import States
from bridge.model.message import Gap, Message
from bridge.streams.counts import METRICS, SAMPLE_EVERY, StreamCounts
from bridge.streams.refusal import Refusal
from bridge.tasks.event_types import State
from bridge.tasks.events import encode


@dataclass(eq=False)
class Viewer:
    """A viewer as the counts see it."""

    established: bool = False
    closed: bool = False


@pytest.fixture
def lags() -> Iterator[list[float]]:
    """The lags that are observed."""
    before, found = METRICS.observe_lag, list[float]()
    METRICS.observe_lag = found.append
    yield found
    METRICS.observe_lag = before


def message(seconds_ago: float, number: int = 1) -> Message:
    """A message that a backend published some time ago, by the mark in its id."""
    return Message(b"one", topic="orders", id=f"e-{number}-{int((time.time() - seconds_ago) * 1000)}")


def test_a_refusal_is_counted_by_its_reason() -> None:
    """A limit, a status and an exception of a framework each have a reason; nothing else is refused."""
    counts = StreamCounts()
    errors = [
        Refusal(429, "too many", reason="address"),
        Refusal(403, "no"),
        type("Forbidden", (Exception,), {"code": 403})(),
        type("HTTPException", (Exception,), {"status_code": 401})(),
        ZeroDivisionError(),
    ]
    for error in errors:
        with pytest.raises(type(error)), counts.request():
            raise error
    with counts.request():
        pass
    assert counts.refused == {"address": 1, "forbidden": 2, "token": 1, "error": 1}


def test_a_viewer_that_returns_has_one_result() -> None:
    """It resumes, loses its position, or leaves before either."""
    counts = StreamCounts()
    resumed, lost, left = Viewer(), Viewer(), Viewer()
    for viewer in (resumed, lost, left):
        counts.returns(viewer)
    counts.settle()
    assert counts.waits
    counts.delivered([lost, Viewer()], [Gap(topic="orders")], 0, 1.0, live=False)
    resumed.established = lost.established = left.closed = True
    counts.settle()
    counts.settle()
    assert counts.replays == {"resumed": 1, "lost": 1}
    assert not counts.waits


def test_deliveries_count_each_viewer(lags: list[float]) -> None:
    """Two messages for three viewers are six; the bytes are those of all of them."""
    counts = StreamCounts()
    counts.delivered([Viewer(), Viewer(), Viewer()], [message(0), message(0, 2)], 300, 1.0, live=True)
    assert (counts.deliveries, counts.bytes) == (6, 300)


def test_the_lag_is_that_of_the_oldest_message_of_a_sample(lags: list[float]) -> None:
    """The lag of live messages is observed, not more often than every 50 ms by the loop's clock."""
    counts, now = StreamCounts(), 100.0
    counts.delivered([Viewer()], [message(2000), message(0, 2)], 3, now, live=True)
    counts.delivered([Viewer()], [message(5000, 3)], 3, now + SAMPLE_EVERY / 2, live=True)
    counts.delivered([Viewer()], [message(7000, 4)], 3, now + SAMPLE_EVERY, live=True)
    assert lags == pytest.approx([2000, 7000], abs=500)


def test_history_and_states_have_no_lag(lags: list[float]) -> None:
    """What is old on purpose says nothing; a clock that is ahead counts as no lag."""
    counts = StreamCounts()
    counts.delivered([Viewer()], [message(60)], 3, 1.0, live=False)
    counts.delivered([Viewer()], [States("orders", ())], 3, 2.0, live=True)
    counts.delivered([Viewer()], [Gap(topic="orders")], 3, 3.0, live=True)
    counts.delivered([Viewer()], [Message(b"one", topic="orders", id="e-1-0")], 3, 4.0, live=True)
    assert lags == []
    counts.delivered([Viewer()], [message(-6000)], 3, 5.0, live=True)
    assert lags == [0]


def test_a_task_event_says_itself_when_it_was_published(lags: list[float]) -> None:
    """Where the backend keeps no messages, the event has the time."""
    event = State("1", state="STARTED", at=time.time() - 3000)
    StreamCounts().delivered([Viewer()], [Message(encode(event), topic="task:1")], 3, 1.0, live=True)
    assert lags == pytest.approx([3000], abs=500)
