"""Whether a stream that opens waits for the backend."""

import logging

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams.availability import FIRST_BYTE_WITHIN, BackendAvailability, without_secrets
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
    assert "the backend redis://host does not answer (nothing came within 1 s)" in record.getMessage()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://:pass@host:6379/0", "redis://host:6379"),
        ("rediss://user:pass@host/0?password=pass", "rediss://host"),
        ("redis+cluster://u:pass@one:1,two:2", "redis+cluster://one:1,two:2"),
        ("redis://[::1]:6379", "redis://[::1]:6379"),
        ("postgresql://u:pass@host/name?sslpassword=pass", "postgresql://host"),
        ("sqlite:////var/bridge.db?mode=rw", "sqlite:////var/bridge.db"),
        ("sqlite+pysqlcipher://:pass@/var/bridge.db", "sqlite+pysqlcipher://..."),
        ("redis://:pa/ss@host:6379/0", "redis://..."),
        ("redis://:pa?ss@host:6379/0", "redis://..."),
        ("redis://:pa#ss@host:6379/0", "redis://..."),
        ("redis://:pa@ss@host:6379/0", "redis://host:6379"),
        ("redis://host/0?password=p@ss", "redis://..."),
        ("redis://:pass", "redis://..."),
        ("redis://pass word@/0", "redis://..."),
    ],
)
def test_what_is_shown_of_a_url_holds_no_password(url: str, says: str) -> None:
    """The hosts where they are sure, else the scheme alone."""
    assert without_secrets(url) == says
