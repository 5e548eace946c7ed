"""The log of viewers that were closed because they read too slowly."""

from typing import Any

import pytest

from bridge.streams.cut_off_log import LOGGED, CutOffLog
from bridge.streams.limits import Client
from bridge.streams.viewer import Viewer


def test_many_viewers_have_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    """The first have a line each with topic, client and reason; the others are counted."""
    loop: Any = None  # nothing is sent
    log = CutOffLog()
    for number in range(LOGGED + 5):
        viewer = Viewer(loop, frozenset({f"topic-{number}"}), None, Client("10.0.0.1"))
        log.add(viewer, "it does not read")
        log.tick()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "closed a stream of 'topic-0' to 10.0.0.1: it does not read"
    assert lines[LOGGED:] == ["closed 1 more streams whose viewers read too slowly"]
