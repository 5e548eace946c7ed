"""Which tasks are with which worker, and which workers have vanished: the decisions, without I/O."""

from typing import Any

import pytest

from bridge.tasks.event_types import State
from bridge.tasks.heartbeats import Heartbeat
from bridge.tasks.workers import WorkerTracker
from tests import events

LIMIT = 10.0


def say(tracker: WorkerTracker, task: str, state: str, process: str | None = "w1", **fields: Any) -> None:
    """Have the tracker note a state of a task."""
    tracker.note(State(task, state=state, process=process, stalls_after=LIMIT, **fields))


def pass_time(tracker: WorkerTracker, seconds: float, beats_of: str | None = None) -> list[tuple[str, str]]:
    """Let time pass; return the tasks whose state changed, and what to."""
    found = []
    for number in range(int(seconds)):
        tracker.pass_time(1.0)
        if beats_of:
            tracker.heard(Heartbeat(beats_of, "w@host", number))
        found += [(finding.last.task, finding.state) for finding in tracker.findings()]
    return found


@pytest.fixture
def tracker() -> WorkerTracker:
    return WorkerTracker()


@pytest.mark.parametrize("state", ["RECEIVED", "STARTED"])
def test_a_silent_worker_stalls_its_tasks_once(tracker: WorkerTracker, state: str) -> None:
    """After the limit, not before it, each of its tasks is told of, once."""
    say(tracker, "t1", state)
    say(tracker, "t2", "STARTED", process="w2")
    assert pass_time(tracker, LIMIT, beats_of="w2") == []
    assert pass_time(tracker, LIMIT, beats_of="w2") == [("t1", "STALLED")]
    assert pass_time(tracker, LIMIT, beats_of="w2") == []


def test_a_state_of_the_task_itself_stalls_and_comes_back(tracker: WorkerTracker) -> None:
    """A task that has chosen the name of its state is watched like any other, and returns to that state."""
    say(tracker, "t1", "STARTED")
    say(tracker, "t1", "UPLOADING")
    assert pass_time(tracker, 2 * LIMIT) == [("t1", "STALLED")]
    assert pass_time(tracker, 3, beats_of="w1") == [("t1", "UPLOADING")]


def test_no_time_passes_without_a_tick(tracker: WorkerTracker) -> None:
    """However late it is on any other clock: without an own beat that came back nobody is missed."""
    say(tracker, "t1", "STARTED")
    assert list(tracker.findings()) == []


@pytest.mark.parametrize("last", ["SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED", "RETRY"])
def test_a_task_that_is_over_does_not_stall(tracker: WorkerTracker, last: str) -> None:
    """What has ended, or waits for its next attempt, is with no worker."""
    say(tracker, "t1", "STARTED")
    say(tracker, "t1", last)
    assert pass_time(tracker, 3 * LIMIT) == []


def test_another_worker_that_takes_the_task_counts(tracker: WorkerTracker) -> None:
    """Run again elsewhere, a task is missed there and not where it was."""
    say(tracker, "t1", "STARTED")
    say(tracker, "t1", "STARTED", process="w2")
    assert pass_time(tracker, 3 * LIMIT, beats_of="w2") == []


@pytest.mark.parametrize("state", ["RECEIVED", "STARTED"])
def test_a_worker_that_is_heard_of_again_has_its_tasks_back(tracker: WorkerTracker, state: str) -> None:
    """Not at its first beat but at its second the task goes back to the state it had."""
    say(tracker, "t1", state)
    assert pass_time(tracker, 2 * LIMIT) == [("t1", "STALLED")]
    assert pass_time(tracker, 1, beats_of="w1") == []
    assert pass_time(tracker, 3, beats_of="w1") == [("t1", state)]
    assert pass_time(tracker, 2 * LIMIT) == [("t1", "STALLED")]


def test_after_a_goodbye_only_what_was_begun_stalls(tracker: WorkerTracker) -> None:
    """What a worker had only received is queued again when it leaves."""
    say(tracker, "t1", "RECEIVED")
    say(tracker, "t2", "STARTED")
    tracker.heard(Heartbeat("w1", "w@host", 1, last=True))
    assert pass_time(tracker, 3 * LIMIT) == [("t2", "STALLED")]


def test_ten_thousand_tasks_stall_bit_by_bit(tracker: WorkerTracker) -> None:
    """All are told of, some in each turn; unwatched ones are forgotten."""
    for number in range(10_000):
        say(tracker, f"t{number}", "STARTED")
    tracker.prune({events.FEED})
    assert len(pass_time(tracker, 3 * LIMIT)) == 10_000
    tracker.prune({events.task_topic("t1")})
    assert sum(len(worker.stalled) for worker in tracker.workers.values()) == 1
    tracker.prune(set())
    assert not tracker.workers
