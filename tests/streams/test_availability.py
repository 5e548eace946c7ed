"""Whether a stream that opens waits for the backend."""

import logging

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams.availability import FIRST_BYTE_WITHIN, BackendAvailability
from bridge.streams.limits import Client
from bridge.streams.viewer import Viewer
from tests.streams.test_wheel import Idle


def test_one_stream_waits_and_one_line_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """After a wait without an answer no stream waits, until the backend has answered."""
    with bridge.connect("memory://") as channel, caplog.at_level(logging.WARNING):
        availability = BackendAvailability(transport_of(channel.topic("t")), "redis://:secret@host/0")
        assert availability.seconds_to_wait() == FIRST_BYTE_WITHIN
        viewers = [Viewer(Idle(), frozenset({"t"}), None, Client()) for _ in range(2)]
        for viewer in viewers:
            availability.note_unanswered(viewer, FIRST_BYTE_WITHIN)
        assert availability.seconds_to_wait() == 0
        viewers[-1].establish("t")
        assert availability.seconds_to_wait() == FIRST_BYTE_WITHIN
    (record,) = caplog.records
    assert "the backend redis://host/0 does not answer (nothing came within 1 s)" in record.getMessage()
