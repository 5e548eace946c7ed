"""Framing: what a decoder makes of our text is what went in."""

import re

import httpx
import httpx_sse
import pytest
import sseclient
from hypothesis import given
from hypothesis import strategies as st

from bridge.streams import sse


def decode(text: bytes) -> list[httpx_sse.ServerSentEvent]:
    """Decode with a library that follows the standard."""
    response = httpx.Response(200, headers={"content-type": "text/event-stream; charset=utf-8"}, content=text)
    return list(httpx_sse.EventSource(response).iter_sse())


def test_an_event_has_its_type_its_id_and_its_data() -> None:
    """The three fields stand on lines of their own, and an empty line ends the event."""
    assert sse.frame(b"one", event="log", id="7") == b"event: log\nid: 7\ndata: one\n\n"


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_arrives_with_its_line_ends_as_line_feeds(text: str) -> None:
    """Data is split at CR LF, CR and LF only: U+2028, U+0085, VT and NUL are text like any other."""
    (event,) = [*decode(sse.frame(text.encode(), event="x")), None][:1]
    lines = re.split("\r\n|\r|\n", text)
    assert event is not None
    assert event.data == "\n".join(lines)


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\0"])
def test_a_type_or_an_id_that_breaks_out_of_its_line_is_refused(end: str) -> None:
    """A line break or NUL in an event type, an id or a comment is a ValueError."""
    with pytest.raises(ValueError, match="type"):
        sse.frame(b"", event=f"a{end}data: b")
    with pytest.raises(ValueError, match="id"):
        sse.frame(b"", id=f"a{end}data: b")
    with pytest.raises(ValueError, match="topic"):
        sse.frame(b"", topic=f"a{end}data: b")
    with pytest.raises(ValueError, match="comment"):
        sse.comment(f"a{end}data: b")


def test_the_topic_of_an_event_is_a_field_that_other_clients_ignore() -> None:
    """httpx-sse and sseclient-py read the event as if the field were not there."""
    framed = sse.frame(b"one", event="log", id="7", topic="task:é data: x")
    assert framed == "event: log\ntopic: task:é data: x\nid: 7\ndata: one\n\n".encode()
    (event,) = decode(framed)
    assert (event.event, event.id, event.data) == ("log", "7", "one")
    (other,) = sseclient.SSEClient(iter([framed])).events()
    assert (other.event, other.id, other.data) == ("log", "7", "one")


def test_comments_and_retry_are_no_events() -> None:
    """Heartbeats, comments and the retry field reach no event handler; retry is in milliseconds."""
    (event,) = decode(
        sse.retry(1.5) + sse.comment("hello") + sse.HEARTBEAT + sse.frame(b"one") + sse.HEARTBEAT
    )
    assert (event.data, event.retry) == ("one", 1500)
