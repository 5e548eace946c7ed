"""What events change in the state of a task: ranks, and what stands in for events that are left out."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bridge.model.publication import MAX_LISTED, MAX_MEMBERS
from bridge.model.state import END
from bridge.tasks.changes import left_out, publication
from bridge.tasks.event_types import CancelRequested, Custom, Log, Progress, State, Step
from bridge.tasks.events import decode, encode
from tests import events
from tests.tasks.folding import fold


def change(event: Any, attempt: int = 1) -> Any:
    return publication(event, attempt).change


@given(st.permutations([("PENDING", 0), ("RECEIVED", 1), ("STARTED", 2), ("SUCCESS", 3), ("REVOKED", 3)]))
def test_states_never_go_backwards(order: list[tuple[str, int]]) -> None:
    """In whatever order the states of one attempt come, the furthest stands, the first of two ends."""
    snapshot = fold(*(events.make("state", "t1", state=state) for state, _ in order))
    assert snapshot["state"] == next(state for state, rank in order if rank == 3)


def test_ranks_order_the_events_of_a_task() -> None:
    """By attempt, then by state; all that a running task publishes counts as STARTED, an end as final."""
    order = [
        change(State("t1", state="PENDING", attempt=1)),
        change(State("t1", state="RECEIVED", attempt=1)),
        change(State("t1", state="STARTED", attempt=1)),
        change(State("t1", state="RETRY", attempt=1)),
        change(State("t1", state="STARTED", attempt=2)),
        change(State("t1", state="FAILURE")),
    ]
    ranks = [each.rank for each in order]
    assert ranks == sorted(set(ranks))
    assert [each.final for each in order] == [False] * 5 + [True]
    assert ranks[-1] == END
    running = [
        Progress("t1"),
        Log("t1", level="info", message=""),
        CancelRequested("t1"),
        Custom("t1", type="x"),
    ]
    running += [State("t1", state="STALLED"), State("t1", state="PENDING", resumed=True)]
    assert {change(event).rank for event in running} == {ranks[2]}
    assert change(State("t1", state="RETRY")).rank == change(State("t1", state="RECEIVED", attempt=2)).rank


def test_only_steps_logs_and_custom_events_are_entries() -> None:
    """They join the list of a task's entries; the others set fields of its state."""
    entries = [
        Log("t1", level="info", message=""),
        Custom("t1", type="x"),
        Step("t1", name="s", status="started"),
    ]
    assert all(change(event).entry for event in entries)
    others = [Progress("t1"), CancelRequested("t1"), State("t1", state="STARTED")]
    assert not any(change(event).entry for event in others)
    assert set(change(Progress("t1")).fields) == {"progress"}
    assert set(change(CancelRequested("t1")).fields) == {"cancel_requested"}


def test_a_publication_names_the_type_of_its_event() -> None:
    """The kind beside the payload is the type within it, and the topic is that of the task."""
    for event in (Progress("t1"), Custom("t1", type="preview"), State("t1", state="STARTED")):
        made = publication(event)
        assert (made.topic, made.type) == ("task:t1", event.type)
        assert events.decoded(made.payload)["type"] == event.type


def test_feeds_do_not_list_parts_of_a_canvas() -> None:
    """10,000 parts would push all other tasks off the list. A tag that the canvas lacks lists its part."""
    assert change(Progress("t1")).groups == (("tasks", MAX_LISTED),)
    assert change(Progress("t1", canvas_id="w")).groups == (("tasks", 0),)
    tagged = Progress("t1", canvas_id="w", tags=["one", "own"], own_tags=["own"])
    assert change(tagged).groups == (("tag:one", 0), ("tag:own", MAX_MEMBERS), ("tasks", 0))


def test_the_order_of_feeds_does_not_depend_on_that_of_the_tags() -> None:
    """Databases lock them in this order, and in batches by name: the two must be the same."""
    for tags in (["b", "a", "z", "😀"], ["😀", "z", "a", "b"]):
        topics = [group.topic for group in change(Progress("t1", tags=tags)).groups]
        assert topics == sorted(topics) == ["tag:a", "tag:b", "tag:z", "tag:😀", "tasks"]


def test_the_tags_of_another_publisher_are_checked() -> None:
    """An event that anyone has published names at most eight tags, and nothing that is none."""
    hostile = encode(State("t1", state="STARTED", tags=[*"123456789"])).replace(b'"3"', b'{"a":3}')
    event = decode(hostile)
    assert isinstance(event, State)
    assert event.tags == [*"1245678"]
    event = decode(hostile.replace(b'["1"', b'[["1"]').replace(b'"tags":[', b'"tags":"x","t":['))
    assert isinstance(event, State)
    assert event.tags is None


def test_what_stands_in_for_events_changes_what_they_changed() -> None:
    """The line of the log has the fields of all of them."""
    steps = [publication(Step("t1", name=name, status="started", steps=[])) for name in "ab"]
    notice = left_out("task:t1", 2, [made.change for made in steps if made.change is not None])
    assert notice.change is not None
    assert notice.change.entry
    assert set(notice.change.fields) == {"steps"}
    assert events.decoded(notice.payload)["message"].startswith("2 events were left out")
