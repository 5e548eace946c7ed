"""What a snapshot makes of the state of a task."""

import json
import time

import pytest

from bridge.model.state import TopicState
from bridge.tasks.snapshot import current_state, has_ended, read_snapshot, snapshot_text
from tests import events
from tests.tasks.folding import RETRIED, fold, state


def test_a_snapshot_is_the_whole_state() -> None:
    """State, times, progress, logs and custom events are in it; a late event of an older state is not."""
    snapshot = fold(
        events.make("state", "t1", state="STARTED", name="work", worker="w1"),
        events.make("state", "t1", state="PENDING", name="work"),
        events.make("progress", "t1", current=1, total=4, percent=25.0),
        events.make("log", "t1", level="info", message="hello"),
        events.make("progress", "t1", current=2, total=4, percent=50.0),
        events.make("preview", "t1", data={"url": "x"}),
        events.make("state", "t1", state="SUCCESS", result={"rows": 4}),
        events.make("progress", "t1", current=3, total=4, percent=75.0),
    )
    assert (snapshot["state"], snapshot["name"], snapshot["worker"]) == ("SUCCESS", "work", "w1")
    assert snapshot["result"] == {"rows": 4}
    assert snapshot["progress"]["current"] == 2
    assert [event["type"] for event in snapshot["events"]] == ["log", "preview"]
    assert snapshot["started_at"] <= snapshot["ended_at"]
    assert "queued_at" not in snapshot


def test_a_retry_is_no_end_and_begins_afresh() -> None:
    """After RETRY the next attempt starts without the progress of the last, and its end counts."""
    first = (
        events.make("state", "t1", state="STARTED"),
        events.make("progress", "t1", current=9),
        events.make("state", "t1", state="RETRY", error={"type": "E", "message": "m"}),
    )
    assert events.end_of(fold(*first)) is None
    second = fold(*first, events.make("state", "t1", attempt=2, state="STARTED"))
    assert (second["state"], second["attempt"], second["progress"]) == ("STARTED", 2, None)
    late = events.make("progress", "t1", attempt=1, current=10)
    assert fold(*first, events.make("state", "t1", attempt=2, state="STARTED"), late)["progress"] is None


def test_why_and_when_a_task_is_tried_again_is_known_until_it_is() -> None:
    """In either order of RETRY and the RECEIVED of the next attempt, and not a moment longer."""
    before = [state("STARTED", 1), events.make("progress", "t1", current=9)]
    retry, received = state("RETRY", 1, **RETRIED), state("RECEIVED", 2, process="p2")
    for waiting in ([*before, retry, received], [*before, received, retry]):
        snapshot = fold(*waiting)
        assert (snapshot["state"], snapshot["attempt"]) == ("RECEIVED", 2)
        assert {name: snapshot.get(name) for name in RETRIED} == RETRIED
        for follows in ("STARTED", "SUCCESS", "REVOKED"):
            later = fold(*waiting, state(follows, 2))
            assert (later["state"], later["attempt"]) == (follows, 2)
            assert not RETRIED.keys() & later.keys()
    assert fold(*before, retry)["state"] == "RETRY"
    assert RETRIED.items() <= fold(*before, retry).items()
    assert fold(*before, retry, state("STARTED", 2), retry)["state"] == "STARTED"


def test_a_worker_that_vanishes_during_a_countdown_is_no_new_attempt() -> None:
    """STALLED keeps why and when, where the attempt has not begun."""
    waiting = [state("STARTED", 1), state("RETRY", 1, **RETRIED), state("RECEIVED", 2)]
    assert RETRIED.items() <= fold(*waiting, state("STALLED", 2, was="RECEIVED")).items()
    stalled = fold(*waiting, state("STARTED", 2), state("STALLED", 2, was="STARTED"))
    assert not RETRIED.keys() & stalled.keys()


def test_a_task_takes_as_long_as_all_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`started_at` is the start of the latest attempt, `first_started_at` that of the first."""
    clock = iter(range(100, 200))
    monkeypatch.setattr(time, "time", lambda: next(clock))
    told = [state("STARTED", 1)]
    assert (fold(*told)["started_at"], fold(*told)["first_started_at"]) == (100, 100)
    told += [state("STARTED", 1, redelivered=True), state("RETRY", 1, **RETRIED), state("STARTED", 2)]
    told += [state("STALLED", 2), events.make("state", "t1", attempt=2, state="STARTED", resumed=True)]
    ended = fold(*told, state("SUCCESS", 2))
    assert (ended["started_at"], ended["first_started_at"]) == (105, 100)
    unheard_of = fold(state("STARTED", 2))  # the first attempt
    assert unheard_of["first_started_at"] == unheard_of["started_at"]


def test_what_is_known_without_a_snapshot() -> None:
    """Whether a task has ended, and the event that says where it is."""
    running, ended = TopicState("task:t1"), TopicState("task:t1")
    for event in (state("RETRY", 1), state("RECEIVED", 2)):
        assert event.change is not None
        running.fields.update(event.change.fields)
    running.fields["state"] = state("RETRY", 1).payload
    current = current_state(running)
    assert current is not None
    assert (current.state, current.attempt) == ("RECEIVED", 2)
    assert not has_ended(running)
    success = state("SUCCESS", 1)
    assert success.change is not None
    ended.fields.update(success.change.fields)
    assert has_ended(ended)
    assert read_snapshot(ended, "t1").ended
    assert current_state(TopicState("task:t1")) is None


def test_nothing_known_is_pending() -> None:
    """A task that nobody has spoken of is PENDING, as Celery has it."""
    assert events.snapshot(None, "t1")["state"] == "PENDING"


def test_a_snapshot_in_text_is_the_snapshot() -> None:
    """The JSON that streams send says what `snapshot` returns, without what is no event."""
    entries = [
        events.make("log", "t1", level="info", message=f"line {n} \u2028 \x00 é").payload for n in range(3)
    ]
    fields = {"state": events.make("state", "t1", state="STARTED").payload}
    state = TopicState("task:t1", fields, [*entries, b"{"], 7)
    text, bare = snapshot_text(state, "t1")
    snapshot = events.snapshot(state, "t1")
    assert {**json.loads(text), "at": 0} == {**snapshot, "at": 0}
    assert (bare.task, bare.state, bare.omitted) == ("t1", "STARTED", 7)
    assert len(snapshot["events"]) == 3
    nothing, _ = snapshot_text(None, "t1")
    assert json.loads(nothing)["events"] == []
