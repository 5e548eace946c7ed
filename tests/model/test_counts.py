"""The counts of the parts of a canvas: text form, figures, and what a part changes."""

import json

import pytest

from bridge.model.counts import (
    DONE,
    FAILED,
    REVOKED,
    RUNNING,
    SUCCEEDED,
    WAITING,
    Counts,
    Reached,
    importance_of,
    messages,
    parse_counts,
)
from bridge.model.publication import Part, Publication

PAYLOAD = b'{"v":1}'


def part(stage: int, value: int = 0, *, name: str = "a", size: int = 0) -> Part:
    return Part(name, size, stage, value, b"{}", Publication("t", b"follow-up"))


@pytest.mark.parametrize("counts", [Counts(), Counts(3, 12_345, 1, 1, 0, 1), Counts(10**6, 10**10, 0, 10**6)])
def test_the_text_form_round_trips(counts: Counts) -> None:
    """The text is six plain integers; text and bytes are parsed."""
    assert Counts.parse(str(counts)) == Counts.parse(str(counts).encode()) == counts
    assert parse_counts(str(counts)) == counts


def test_the_text_form_is_fixed() -> None:
    """Databases and scripts hold it: size, done, running, succeeded, revoked, failed."""
    counts = Counts(size=6, done=5, running=4, succeeded=3, revoked=2, failed=1)
    assert str(counts) == "6 5 4 3 2 1"
    assert parse_counts(None) is parse_counts("") is parse_counts(b"") is None


@pytest.mark.parametrize("text", ["", "1 2 3", "1 2 3 4 5 6 7", "a b c d e f", "1 2 3 4 5 6.5"])
def test_other_text_is_refused(text: str) -> None:
    """What is not six integers raises `ValueError`."""
    with pytest.raises(ValueError, match=r"values to unpack|invalid literal"):
        Counts.parse(text)


@pytest.mark.parametrize(
    ("counts", "percent"),
    [
        (Counts(), 0),
        (Counts(0, 25_000, 1, 2), 0),
        (Counts(3, DONE, 0, 1), 33.33),
        (Counts(3, 2 * DONE, 0, 2), 66.66),
        (Counts(3, 3 * DONE - 1, 1, 2), 99.99),
        (Counts(3, 3 * DONE, 0, 3), 100),
    ],
)
def test_the_percent_is_rounded_down(counts: Counts, percent: float) -> None:
    """It has two decimals, is 100 only when all is done, and 0 while the size is unknown."""
    assert counts.percent == percent


@pytest.mark.parametrize(
    ("counts", "worst"),
    [
        (Counts(), SUCCEEDED),
        (Counts(succeeded=1), SUCCEEDED),
        (Counts(succeeded=1, revoked=1), REVOKED),
        (Counts(revoked=1, failed=1), FAILED),
        (Counts(succeeded=1, failed=1), FAILED),
    ],
)
def test_the_worst_ending_counts(counts: Counts, worst: int) -> None:
    """A failure is worse than a revocation, and that is worse than success."""
    assert counts.worst == worst


def test_the_total_is_what_is_known() -> None:
    """It is the size, and while that is unknown the number of parts that have started or ended."""
    unknown = Counts(0, 0, running=2, succeeded=1, revoked=1, failed=1)
    assert (unknown.ended, unknown.total, unknown.waiting, unknown.complete) == (3, 5, 0, False)
    known = Counts(7, 0, running=2, succeeded=1, revoked=1, failed=1)
    assert (known.ended, known.total, known.waiting, known.complete) == (3, 7, 2, False)
    assert Counts(2, 0, failed=2).complete
    assert not Counts().complete


def test_progress_gets_all_figures() -> None:
    """A progress payload gets `current`, `total`, `percent` and `parts`, and stays JSON."""
    payload = Counts(3, 15_000, running=1, succeeded=1).append_to(PAYLOAD, "progress")
    assert json.loads(payload) == {
        "v": 1,
        "current": 1,
        "total": 3,
        "percent": 50.0,
        "parts": {"waiting": 1, "running": 1, "succeeded": 1, "revoked": 0, "failed": 0},
    }


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        (Counts(2, 0, running=1), None),
        (Counts(0, 0, failed=2), None),
        (Counts(2, 0, succeeded=2), "SUCCESS"),
        (Counts(2, 0, succeeded=1, revoked=1), "REVOKED"),
        (Counts(2, 0, revoked=1, failed=1), "FAILURE"),
    ],
)
def test_a_state_gets_the_parts_and_the_end(counts: Counts, state: str | None) -> None:
    """A state payload gets `parts`, and `state` when all parts have ended."""
    event = json.loads(counts.append_to(PAYLOAD, "state"))
    assert event.get("state") == state
    assert set(event) - {"state"} == {"v", "parts"}


def test_a_part_never_goes_back() -> None:
    """A message about a part is news only if it raises stage or value, and after the end nothing is."""
    assert Reached().advanced(part(RUNNING, 10)) == (RUNNING, 10)
    running = Reached(RUNNING, 50)
    assert running.advanced(part(RUNNING, 50)) is None
    assert running.advanced(part(RUNNING, 10)) is None
    assert running.advanced(part(RUNNING, 60)) == (RUNNING, 60)
    assert running.advanced(part(FAILED, 0)) == (FAILED, 50)
    assert Reached(FAILED, 50).advanced(part(SUCCEEDED, DONE)) is None


def test_counting_moves_a_part() -> None:
    """A part leaves one stage for another; a part without a name sets the size only."""
    counts = Counts().count(part(RUNNING, 10), Reached(), Reached(RUNNING, 10))
    assert counts == Counts(0, 10, running=1)
    counts = counts.count(part(SUCCEEDED, DONE, size=2), Reached(RUNNING, 10), Reached(SUCCEEDED, DONE))
    assert counts == Counts(2, DONE, succeeded=1)
    assert counts.count(part(RUNNING), Reached(), Reached(RUNNING)).size == 2
    settled = counts.count(part(WAITING, 5, name="", size=5), Reached(), Reached(WAITING, 5))
    assert settled == Counts(5, DONE, succeeded=1)


def test_a_follow_up_comes_with_the_first_and_the_last_part() -> None:
    """It is published before the first part that runs and after the last one that ends, else not at all."""
    running, ended = part(RUNNING), part(SUCCEEDED, DONE)
    message = Publication("t", b"progress")
    one, two = Counts(2, 0, running=1), Counts(2, 0, running=2)
    assert messages(message, running, Counts(), one) == [running.follow_up, message]
    assert messages(message, running, Counts(2, 0, failed=1), one) == [message]
    assert messages(message, running, one, two) == [message]
    assert messages(message, ended, one, Counts(2, DONE, succeeded=1)) == [message]
    assert messages(message, ended, one, Counts(2, DONE, 0, 1, 1)) == [message, ended.follow_up]
    assert messages(message, Part("a", 1, SUCCEEDED, DONE, b"{}"), one, Counts(1, DONE, 0, 1)) == [message]


def test_failures_matter_most() -> None:
    """Of the rows that are kept, those that went wrong come first, then those that run."""
    assert sorted((SUCCEEDED, FAILED, RUNNING), key=importance_of) == [SUCCEEDED, RUNNING, FAILED]
    assert importance_of(REVOKED) == importance_of(FAILED)
