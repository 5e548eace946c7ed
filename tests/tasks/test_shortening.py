"""Events that are too large: what is cut, and what is kept."""

from bridge.tasks.event_types import Custom, Error, State, Step, StepStatus
from bridge.tasks.shortening import shortened, versions

LONG = "x" * 50_000


def test_each_version_is_smaller() -> None:
    """The event itself comes first, then its texts have 10,000, 1,000 and 100 characters at most."""
    results = [str(version.result) for version in versions(State("t1", state="SUCCESS", result=LONG))]
    assert results[0] == LONG
    assert [result.index("…") for result in results[1:]] == [10_000, 1_000, 100]


def test_only_texts_and_large_values_are_cut() -> None:
    """Numbers and the name of the task stay; a list or a huge number becomes a text."""
    event = State(
        "t" * 200,
        state="FAILURE",
        attempt=3,
        queued_at=1.5,
        redelivered=True,
        result=[LONG],
        reason=LONG,
        error=Error(type="E", message=LONG, traceback=LONG),
    )
    short = shortened(event, 100)
    assert (short.task, short.at, short.state, short.attempt) == (event.task, event.at, "FAILURE", 3)
    assert (short.queued_at, short.redelivered) == (1.5, True)
    assert short.error is not None
    assert all(len(text) < 150 for text in (short.result, short.reason, *short.error.values()))
    huge, small = Custom("t1", type="preview", data=10**5000), Custom("t1", type="preview", data=5)
    assert shortened(huge, 100).data == "<int whose repr failed: ValueError>"
    assert shortened(small, 100) == small


def test_the_steps_of_the_snapshot_stay() -> None:
    """There is a bound on their number already, and each has a short name."""
    steps: list[StepStatus] = [{"name": "a" * 100, "status": "started"}] * 100
    event = Step("t1", name="a", status="started", path=["b", "a"], steps=steps)
    assert shortened(event, 100) == event
