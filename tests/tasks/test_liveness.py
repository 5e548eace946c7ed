"""Who watches for vanished workers: the decisions, without I/O."""

from typing import Any

import pytest

from bridge.backends.base import States
from bridge.model.message import Message
from bridge.model.state import TopicState
from bridge.tasks import events
from bridge.tasks.liveness import Watch

LIMIT = 10.0


def say(watch: Watch, task: str, state: str, process: str | None = "w1", **fields: Any) -> None:
    """Have the watch see a state of a task."""
    event = events.make("state", task, state=state, process=process, stalls_after=LIMIT, **fields)
    watch.see([Message(event.payload, topic=events.task_topic(task))])


def pass_time(watch: Watch, seconds: float, beats_of: str | None = None) -> list[tuple[str, str]]:
    """Let time pass; return the tasks whose state changed, and what to."""
    found = []
    for number in range(int(seconds)):
        watch.tick(1.0)
        if beats_of:
            watch.heard(beats_of, number, gone=False)
        found += [(event["task"], state) for event, state, _ in watch.due()]
    return found


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.mark.parametrize("state", ["RECEIVED", "STARTED"])
def test_a_silent_worker_stalls_its_tasks_once(watch: Watch, state: str) -> None:
    """After the limit, not before it, each of its tasks is told of, once."""
    say(watch, "t1", state)
    say(watch, "t2", "STARTED", process="w2")
    assert pass_time(watch, LIMIT, beats_of="w2") == []
    assert pass_time(watch, LIMIT, beats_of="w2") == [("t1", "STALLED")]
    assert pass_time(watch, LIMIT, beats_of="w2") == []


def test_no_time_passes_without_a_tick(watch: Watch) -> None:
    """However late it is on any other clock: without an own beat that came back nobody is missed."""
    say(watch, "t1", "STARTED")
    assert list(watch.due()) == []


@pytest.mark.parametrize("last", ["SUCCESS", "FAILURE", "REVOKED", "IGNORED", "REJECTED", "RETRY"])
def test_a_task_that_is_over_does_not_stall(watch: Watch, last: str) -> None:
    """What has ended, or waits for its next attempt, is with no worker."""
    say(watch, "t1", "STARTED")
    say(watch, "t1", last)
    assert pass_time(watch, 3 * LIMIT) == []


def test_another_worker_that_takes_the_task_counts(watch: Watch) -> None:
    """Run again elsewhere, a task is missed there and not where it was."""
    say(watch, "t1", "STARTED")
    say(watch, "t1", "STARTED", process="w2")
    assert pass_time(watch, 3 * LIMIT, beats_of="w2") == []


@pytest.mark.parametrize("state", ["RECEIVED", "STARTED"])
def test_a_worker_that_is_heard_of_again_has_its_tasks_back(watch: Watch, state: str) -> None:
    """Not at its first beat but at its second the task goes back to the state it had."""
    say(watch, "t1", state)
    assert pass_time(watch, 2 * LIMIT) == [("t1", "STALLED")]
    assert pass_time(watch, 1, beats_of="w1") == []
    assert pass_time(watch, 3, beats_of="w1") == [("t1", state)]
    assert pass_time(watch, 2 * LIMIT) == [("t1", "STALLED")]


def test_after_a_goodbye_only_what_was_begun_stalls(watch: Watch) -> None:
    """What a worker had only received is queued again when it leaves."""
    say(watch, "t1", "RECEIVED")
    say(watch, "t2", "STARTED")
    watch.heard("w1", 1, gone=True)
    assert pass_time(watch, 3 * LIMIT) == [("t2", "STALLED")]


def test_a_snapshot_tells_as_much_as_events(watch: Watch) -> None:
    """A viewer that comes late makes known where its task is; one that is stalled already is not told of."""
    states = []
    for task, state in (("t1", "STARTED"), ("t2", "STALLED")):
        event = events.make("state", task, state=state, process="w1", stalls_after=LIMIT)
        assert event.change is not None
        states.append(TopicState(events.task_topic(task), dict(event.change.fields)))
        assert event.payload in event.change.fields.values()
    watch.see([States(events.FEED, states)])
    assert pass_time(watch, 2 * LIMIT) == [("t1", "STALLED")]


def test_ten_thousand_tasks_stall_bit_by_bit(watch: Watch) -> None:
    """All are told of, some in each turn; unwatched ones are forgotten."""
    for number in range(10_000):
        say(watch, f"t{number}", "STARTED")
    watch.prune({events.FEED})
    assert len(pass_time(watch, 3 * LIMIT)) == 10_000
    watch.prune({events.task_topic("t1")})
    assert sum(len(worker.stalled) for worker in watch.workers.values()) == 1
    watch.prune(set())
    assert not watch.workers


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"type":"beat","process":7}', b"[" * 99_999])
def test_what_is_no_beat_is_passed_over(payload: bytes) -> None:
    """Anyone may publish anything to the topic of beats."""
    assert events.beat_of(payload) is None
