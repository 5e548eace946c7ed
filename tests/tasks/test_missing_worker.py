"""Whether a process with viewers finds out that no worker publishes where it listens."""

import pytest

import bridge
from bridge.tasks.missing_worker import PATIENCE, MissingWorkerCheck

TASK = bridge.task_topic("t1")


@pytest.fixture
def check() -> MissingWorkerCheck:
    return MissingWorkerCheck("redis://h/0, namespace 'n'")


def complaints(check: MissingWorkerCheck, caplog: pytest.LogCaptureFixture, watched: str = TASK) -> list[str]:
    """What is logged in a long time in which nothing happens."""
    for _ in range(3 * int(PATIENCE)):
        check.pass_time(1.0, {watched})
    return [record.getMessage() for record in caplog.records if record.name == "bridge.tasks.missing_worker"]


@pytest.mark.parametrize(
    "watched", [TASK, bridge.FEED, bridge.tag_topic("one")], ids=["the task", "the feed", "the tag"]
)
def test_a_watched_task_that_no_worker_takes(
    check: MissingWorkerCheck, caplog: pytest.LogCaptureFixture, watched: str
) -> None:
    """Logged once, with the place where nobody publishes and what is to be looked at."""
    check.note(TASK, pending=True, tags=["one"])
    check.pass_time(PATIENCE - 1, {watched})
    assert not caplog.records
    (said,) = complaints(check, caplog, watched)
    assert all(word in said for word in ("t1", "redis://h/0, namespace 'n'", "install(app, url)", "worker"))
    check.note(TASK, pending=True)
    assert len(complaints(check, caplog, watched)) == 1
    assert not check.waits
    assert check.missing
    check.heard()
    assert not check.missing


def test_a_task_that_a_worker_has_taken(check: MissingWorkerCheck, caplog: pytest.LogCaptureFixture) -> None:
    """Is no reason to complain, also if nobody had it before."""
    check.note(TASK, pending=True)
    check.note(TASK, pending=False)
    assert not check.waits
    assert complaints(check, caplog) == []


def test_nobody_is_missed_once_heard_of(check: MissingWorkerCheck, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that is heard of may be busy for long; a task that nobody watches does not matter."""
    check.note(TASK, pending=True)
    assert complaints(check, caplog, watched="another") == []
    check.note(TASK, pending=True)
    check.heard()
    check.note(TASK, pending=True)
    assert complaints(check, caplog) == []
