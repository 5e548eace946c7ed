"""Frames of messages, and payloads of other programs that look like one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.backends.redis.frames import MARK, live_frame, parse_entry, parse_frame, parse_live_frame

PAYLOADS = st.binary() | st.binary().map(MARK.__add__) | st.binary().map((MARK + b" ").__add__)
PRINTABLE = st.characters(exclude_categories=["C", "Z"], include_characters=" ")
KINDS = st.none() | st.text(PRINTABLE, min_size=1, max_size=100)


@given(PAYLOADS, KINDS)
def test_what_goes_out_comes_back(payload: bytes, kind: str | None) -> None:
    """Payload and kind are the same after a frame where no messages are kept."""
    (message,) = parse_live_frame("orders", live_frame(payload, kind))
    assert (bytes(message), message.type, message.id) == (payload, kind, None)


@pytest.mark.parametrize(
    "payload",
    [b"bridge/1", b"bridge/1 ", b"bridge/1 a b c", b"bridge/1 1", b"bridge/10 1 0 ab", b"bridge/1 0 3 a b"],
)
def test_a_payload_of_another_program_stays_as_it_is(payload: bytes) -> None:
    """What begins like a frame and is none is a payload."""
    (message,) = parse_live_frame("orders", payload)
    assert (bytes(message), message.type) == (payload, None)


def test_a_type_that_nobody_may_publish_is_none() -> None:
    """Another program cannot break a line of a stream with it."""
    (message,) = parse_live_frame("orders", b"bridge/1 3 0 a\nbone")
    assert (bytes(message), message.type) == (b"one", None)


def test_the_sizes_say_where_a_payload_begins() -> None:
    """A kind may hold spaces and digits, a payload line ends; counts are added to the payload."""
    (message,) = parse_frame("orders", b"0a-7-99 7 0 5\n3 0 a b0 0\n")
    assert (bytes(message), message.type, message.id) == (b"0 0\n", "3 0 a b", "0a-7-99")
    (counted,) = parse_frame("orders", b'0a-7-99 5 15 7\nstate2 10000 1 1 0 0{"v":1}')
    assert counted.counted
    assert counted.type == "state"
    assert b'"running":1,"succeeded":1' in bytes(counted)


def test_a_frame_has_several_messages() -> None:
    """Each has its own kind and payload, and the number after that of the one before it."""
    messages = parse_frame("orders", b"0a-9-99 0 0 3 4 0 2 0 0 0\n1\n2step{}")
    assert [(bytes(message), message.type, message.id) for message in messages] == [
        (b"1\n2", None, "0a-9-99"),
        (b"{}", "step", "0a-10-99"),
        (b"", None, "0a-11-99"),
    ]


def test_an_entry_of_an_earlier_version_has_no_type() -> None:
    """The fields of kind and counts may be missing."""
    message = parse_entry("orders", "0a-7-99", [b"p", b"one", b"t", b"token"])
    assert (bytes(message), message.type, message.id) == (b"one", None, "0a-7-99")


def test_what_another_program_wrote_into_a_stream_is_a_message() -> None:
    """A type that is no text and counts that are none are left out; the payload arrives."""
    fields = [b"p", b"one", b"t", b"token", b"k", b"\xff", b"c", b"many"]
    message = parse_entry("orders", "0a-7-99", fields)
    assert (bytes(message), message.type, message.counted) == (b"one", None, False)


@pytest.mark.parametrize(
    "frame",
    [b"", b"hello", b"hello\n", b"0a-7-99 a b c\none", b"0a-7-99 1 2\none", b"\xff 0 0 0\n", b"0a-7 0 0 0\n"],
)
def test_a_frame_of_another_program_has_no_messages(frame: bytes) -> None:
    """Messages that are kept have an id, so what has none is nothing."""
    assert parse_frame("orders", frame) == []
