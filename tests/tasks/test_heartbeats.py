"""The JSON of heartbeats, and what is none."""

import json

import pytest

from bridge.tasks.heartbeats import Heartbeat, Report, Running, decode_heartbeat, outdated, reports


@pytest.mark.parametrize("worker", ["w1@host", None])
def test_what_is_encoded_is_decoded(worker: str | None) -> None:
    """All fields come back; the JSON is the one that other versions read."""
    heartbeat = Heartbeat("p1", worker, 7, last=True)
    assert decode_heartbeat(heartbeat.encode()) == heartbeat
    assert json.loads(heartbeat.encode()) == {
        "v": 1, "type": "beat", "process": "p1", "worker": worker, "number": 7, "gone": True
    }  # fmt: skip


@pytest.mark.parametrize("payload", [b"", b"[]", b"{}", b'{"type":"beat","process":7}', b"[" * 99_999])
def test_what_is_no_beat_is_passed_over(payload: bytes) -> None:
    """Anyone may publish anything to the topic of beats."""
    assert decode_heartbeat(payload) is None


def test_a_heartbeat_says_that_the_feed_is_off() -> None:
    """Only then the member is there, so heartbeats of other versions mean that it is on."""
    off = Heartbeat("p1", "w1@host", 7, feed=False)
    assert decode_heartbeat(off.encode()) == off
    assert json.loads(off.encode())["feed"] is False


def fields_of(*heartbeats: Heartbeat) -> dict[str, bytes]:
    """Return the fields that the state of the topic has after these heartbeats."""
    found: dict[str, bytes] = {}
    for heartbeat in heartbeats:
        change = heartbeat.publication().change
        assert change is not None
        found |= change.fields
    return found


def reporting(worker: str, number: int, at: float) -> Heartbeat:
    running = [Running("t1", "x" * 1000, at)]
    report = Report(at, at - 5, 15.0, succeeded=number, failed=1, running=running, active=70)
    return Heartbeat("p1", worker, number, report=report)


def test_the_state_has_the_last_report_of_each_worker() -> None:
    """A later heartbeat of a worker replaces the one before; names are cut; the message is the same JSON."""
    first, second, other = reporting("b@h", 1, 10.0), reporting("b@h", 2, 15.0), reporting("a@h", 7, 12.0)
    found = reports(fields_of(first, second, other))
    assert [(heartbeat.worker, heartbeat.number) for heartbeat in found] == [("a@h", 7), ("b@h", 2)]
    report = found[1].report
    assert report is not None
    assert (report.at, report.succeeded, report.active) == (15.0, 2, 70)
    assert report.running == [Running("t1", "x" * 200, 15.0)]
    decoded = decode_heartbeat(second.encode())
    assert decoded is not None
    assert decoded.number == 2
    assert Heartbeat("p1", None, 1).publication().change is None


def test_workers_that_are_long_silent_are_found() -> None:
    """Fields of old heartbeats, and what is no heartbeat, are to be removed; other fields are not."""
    old, new = fields_of(reporting("old@h", 1, 10.0)), fields_of(reporting("new@h", 1, 5000.0))
    bad = {"worker.bad": b"[]", "worker.half": Heartbeat("p", "w", 1).encode(), "else": b""}
    assert set(outdated(old | new | bad, 5001.0)) == {*old, "worker.bad", "worker.half"}
    assert [heartbeat.worker for heartbeat in reports(bad | new)] == ["new@h"]
