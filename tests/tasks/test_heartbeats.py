"""The JSON of heartbeats, and what is none."""

import json

import pytest

from bridge.tasks.heartbeats import Heartbeat, decode_heartbeat


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
