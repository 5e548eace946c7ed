"""The text that viewers see: what names an event, and what has to be decoded for it."""

from unittest.mock import patch

import pytest

import bridge
from bridge.model.message import Message
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder
from bridge.tasks import events

TASK = bridge.task_topic("t1")


def text(message: Message) -> bytes:
    """Return what the viewers of the message's topic see."""
    return b"".join(Encoder([message.topic], Cursor(), with_ids=False).frames(message))


def message(kind: str, topic: str = TASK, *, typed: bool = True, **fields: object) -> Message:
    """Return an event as a backend hands it out, or as somebody publishes it who knows no kinds."""
    payload = events.make(kind, "t1", **fields).payload
    return Message(payload, topic=topic, kind=kind if typed else None)


@pytest.mark.parametrize("topic", [TASK, bridge.FEED])
@pytest.mark.parametrize("kind", ["progress", "log", "custom"])
def test_the_kind_names_the_event_without_decoding(topic: str, kind: str) -> None:
    """Of an event that is no state nothing is decoded, and the text is that of the decoded one."""
    decoded = text(message(kind, topic, typed=False))
    with patch.object(events, "decode", side_effect=AssertionError):
        seen = text(message(kind, topic))
    assert seen.startswith(b"event: %s\n" % kind.encode())
    assert seen.partition(b"data: ")[0] == decoded.partition(b"data: ")[0]


@pytest.mark.parametrize("typed", [True, False])
def test_the_end_of_a_task_ends_its_stream(typed: bool) -> None:
    """A state that is an end is followed by `end`, with a kind and without; in the feed it is not."""
    end = message("state", typed=typed, state="SUCCESS")
    assert text(end).startswith(b"event: state\n")
    assert b"event: end\n" in text(end)
    assert b"event: end\n" not in text(message("state", bridge.FEED, typed=typed, state="SUCCESS"))
    assert b"event: end\n" not in text(message("state", typed=typed, state="STARTED"))


def test_what_is_no_event_has_no_name() -> None:
    """Anyone may publish to a task's topic; on other topics a payload that looks like an event is none."""
    assert text(Message(b"plain", topic=TASK)) == b"data: plain\n\n"
    assert text(message("log", "orders", typed=False)).startswith(b"data: {")


@pytest.mark.parametrize("typed", [True, False])
def test_only_progress_gives_way(typed: bool) -> None:
    """Newer progress stands for older; other events, and progress among them, do not give way."""
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    progress, log = message("progress", typed=typed, current=1), message("log", typed=typed)
    assert encoder.mere_progress([progress, progress]) == TASK
    assert encoder.mere_progress([progress, log]) is None
    assert encoder.mere_progress([message("progress", bridge.FEED, typed=typed)]) is None
    assert encoder.mere_progress([Message(b"plain", topic=TASK)]) is None


def test_a_text_that_looks_like_a_kind_decides_nothing() -> None:
    """The kind comes from the message, never from a search in its bytes."""
    fake = message("log", message='"type":"progress"')
    assert Encoder([TASK], Cursor(), with_ids=False).mere_progress([fake]) is None
    real = message("progress", message='"ended":true')
    assert Encoder([TASK], Cursor(), with_ids=False).mere_progress([real]) == TASK
