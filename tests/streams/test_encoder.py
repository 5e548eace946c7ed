"""What viewers see of messages and states."""

from typing import Any
from unittest.mock import patch

import pytest

import bridge
from bridge.backends.base import States
from bridge.model.message import Gap, Message
from bridge.model.position import parse
from bridge.streams.cursor import Cursor, parse_cursor
from bridge.streams.encoder import Encoder, opens_with_state, plain_text, resets
from tests import events

TASK = bridge.task_topic("t1")


def event(kind: str, **fields: Any) -> Message:
    """An event of the task, as the hub hands it on."""
    return Message(events.make(kind, "t1", **fields).payload, topic=TASK)


def text(encoder: Encoder, *items: Message | States) -> str:
    return b"".join(frame for item in items for frame in encoder.frames(item)).decode()


def test_a_plain_topic_is_the_data_of_its_messages() -> None:
    """Messages of a plain topic need no encoder; a gap does."""
    assert plain_text([Message(b"one", topic="orders"), Message(b"two", topic="orders")]) == (
        b"data: one\n\ndata: two\n\n"
    )
    assert plain_text([Gap(b"", topic="orders")]) is None


def test_a_stream_with_a_state_opens_with_it() -> None:
    """A task, the feed, and several topics begin with states, one plain topic does not."""
    assert opens_with_state([TASK])
    assert opens_with_state([bridge.FEED])
    assert opens_with_state(["orders", "bills"])
    assert not opens_with_state(["orders"])
    assert opens_with_state(["orders"], parse_cursor("now", ["orders"]))


def test_the_end_follows_the_state_that_ends_a_task() -> None:
    """The stream is finished with it, and shows nothing that comes after."""
    encoder = Encoder([TASK], Cursor(), with_ids=True)
    assert not encoder.finished
    shown = text(encoder, event("state", state="SUCCESS"), event("log", level="info", message="late"))
    assert [line for line in shown.splitlines() if line.startswith(("event", "id"))] == [
        "event: state",
        "id: ",
        "event: end",
        "id: end",
    ]
    assert encoder.finished


def test_without_replay_only_the_end_has_an_id() -> None:
    """A viewer cannot resume, but it is told not to come back after the end."""
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    assert "id:" not in text(encoder, event("progress", current=1), event("log", level="info", message="x"))
    assert text(encoder, event("state", state="SUCCESS")).count("id: ") == 1


def test_a_gap_is_a_reset() -> None:
    """Messages that were lost on the way give a reset."""
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    assert text(encoder, Gap(b"", topic=TASK)).startswith("event: reset\n")


def test_a_state_that_is_unknown_is_a_snapshot_too() -> None:
    """A task of which nothing is known begins with a snapshot without fields."""
    shown = text(Encoder([TASK], Cursor(), with_ids=False), States(TASK, ()))
    assert shown.startswith("event: snapshot\n")


def test_only_progress_of_one_task_can_be_replaced() -> None:
    """Progress together with anything else, and progress on the feed, is kept."""
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    progress = event("progress", current=1)
    assert encoder.mere_progress([progress, progress]) == TASK
    assert encoder.mere_progress([progress, event("log", level="info", message="x")]) is None
    assert encoder.mere_progress([Message(bytes(progress), topic=bridge.FEED)]) is None


def test_a_lost_cursor_gives_a_reset_of_each_topic() -> None:
    """Where nothing is kept no cursor can be lost."""
    topics = [TASK, "orders"]
    lost = parse_cursor("yesterday", topics)
    assert resets(topics, lost, with_ids=True).count(b"event: reset\n") == 2
    assert resets(topics, lost, with_ids=False) == b""
    assert resets(topics, Cursor(), with_ids=True) == b""


def seen_of(message: Message) -> bytes:
    """Return what the viewers of the message's topic see."""
    return b"".join(Encoder([message.topic], Cursor(), with_ids=False).frames(message))


def message_of(kind: str, topic: str = TASK, *, typed: bool = True, **fields: Any) -> Message:
    """Return an event as a backend hands it out, or as somebody publishes it who knows no kinds."""
    payload = events.make(kind, "t1", **fields).payload
    return Message(payload, topic=topic, type=kind if typed else None)


@pytest.mark.parametrize("topic", [TASK, bridge.FEED])
@pytest.mark.parametrize("kind", ["progress", "log", "custom"])
def test_the_kind_names_the_event_without_decoding(topic: str, kind: str) -> None:
    """Of an event that is no state nothing is decoded, and the text is that of the decoded one."""
    decoded = seen_of(message_of(kind, topic, typed=False))
    with patch.object(events, "decode", side_effect=AssertionError):
        seen = seen_of(message_of(kind, topic))
    assert seen.startswith(b"event: %s\n" % kind.encode())
    assert seen.partition(b"data: ")[0] == decoded.partition(b"data: ")[0]


@pytest.mark.parametrize("typed", [True, False])
def test_the_end_of_a_task_ends_its_stream(typed: bool) -> None:
    """A state that is an end is followed by `end`, with a kind and without; in the feed it is not."""
    end = message_of("state", typed=typed, state="SUCCESS")
    assert seen_of(end).startswith(b"event: state\n")
    assert b"event: end\n" in seen_of(end)
    assert b"event: end\n" not in seen_of(message_of("state", bridge.FEED, typed=typed, state="SUCCESS"))
    assert b"event: end\n" not in seen_of(message_of("state", typed=typed, state="STARTED"))


def test_what_is_no_event_has_no_name() -> None:
    """Anyone may publish to a task's topic; on other topics a payload that looks like an event is none."""
    assert seen_of(Message(b"plain", topic=TASK)) == b"data: plain\n\n"
    assert seen_of(message_of("log", "orders", typed=False)).startswith(b"data: {")


def test_a_plain_topic_names_the_types_of_its_messages() -> None:
    """A typed message is an event of that type; one without a type has the same bytes as ever."""
    typed = Message(b"one\ntwo", topic="orders", type="größe", id="a-1-2")
    assert plain_text([typed, Message(b"two", topic="orders")]) == (
        "event: größe\nid: a-1-2\ndata: one\ndata: two\n\ndata: two\n\n".encode()
    )
    assert seen_of(Message(b"one", topic="orders", type="ordered")) == b"event: ordered\ndata: one\n\n"


def test_no_message_of_another_topic_ends_a_stream() -> None:
    """A message that looks like the end of a task is a message, whatever type its publisher gave it."""
    end = events.make("state", "t1", state="SUCCESS").payload
    encoder = Encoder([TASK, "orders"], Cursor(), with_ids=False)
    for event_type in ("state", None):
        text(encoder, Message(end, topic="orders", type=event_type))
    assert encoder.running == {TASK, "orders"}


@pytest.mark.parametrize("event_type", ["end", "reset", "snapshot", "expired"])
@pytest.mark.parametrize("topic", [TASK, bridge.FEED])
def test_only_a_stream_itself_sends_its_own_events(topic: str, event_type: str) -> None:
    """JSON that anyone published to the topic of a task is no event of a stream."""
    payload = b'{"v":1,"type":"%s","task":"t1","at":1,"state":"SUCCESS"}' % event_type.encode()
    assert seen_of(Message(payload, topic=topic)) == b"data: %s\n\n" % payload


@pytest.mark.parametrize("typed", [True, False])
def test_only_progress_gives_way(typed: bool) -> None:
    """Newer progress stands for older; other events, and progress among them, do not give way."""
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    progress, log = message_of("progress", typed=typed, current=1), message_of("log", typed=typed)
    assert encoder.mere_progress([progress, progress]) == TASK
    assert encoder.mere_progress([progress, log]) is None
    assert encoder.mere_progress([message_of("progress", bridge.FEED, typed=typed)]) is None
    assert encoder.mere_progress([Message(b"plain", topic=TASK)]) is None


def test_a_text_that_looks_like_a_kind_decides_nothing() -> None:
    """The kind comes from the message, never from a search in its bytes."""
    fake = message_of("log", message='"type":"progress"')
    assert Encoder([TASK], Cursor(), with_ids=False).mere_progress([fake]) is None
    real = message_of("progress", message='"ended":true')
    assert Encoder([TASK], Cursor(), with_ids=False).mere_progress([real]) == TASK


def topics_in(shown: str) -> list[str]:
    return [line.removeprefix("topic: ") for line in shown.splitlines() if line.startswith("topic: ")]


def test_each_event_of_several_topics_names_its_topic() -> None:
    """Snapshots, events, resets and ends say which topic they belong to, in the feed too."""
    topics = [TASK, bridge.FEED, "orders"]
    encoder = Encoder(topics, Cursor(), with_ids=True)
    end = event("state", state="SUCCESS")
    items: list[Message | States] = [
        States(TASK, ()),
        Message(bytes(end), topic=bridge.FEED),
        Message(b"one", topic="orders"),
        Gap(b"", topic="orders"),
        end,
    ]
    assert topics_in(text(encoder, *items)) == [TASK, bridge.FEED, "orders", "orders", TASK, TASK]
    lost = resets(topics, parse_cursor("yesterday", topics), with_ids=True).decode()
    assert topics_in(lost) == topics


def test_one_topic_is_not_named() -> None:
    """A viewer of one topic knows it, and gets the same bytes as before."""
    encoder = Encoder([TASK], Cursor(), with_ids=True)
    assert "topic:" not in text(encoder, States(TASK, ()), event("state", state="SUCCESS"))
    assert b"topic:" not in resets([TASK], parse_cursor("yesterday", [TASK]), with_ids=True)


def test_a_position_is_told_to_those_who_ask() -> None:
    """The word `now` asks for the position of a topic without a state, so that a viewer can resume there."""
    topics = ["orders", "bills"]
    states = States("orders", (), position=parse("0a-7-1"))
    asked = Encoder(topics, parse_cursor("now,", topics), with_ids=True)
    assert text(asked, states) == "event: position\ntopic: orders\nid: 0a-7-1,\ndata: \n\n"
    assert text(Encoder(topics, Cursor(), with_ids=True), states) == ""
    assert text(Encoder(topics, parse_cursor("now,", topics), with_ids=False), states) == ""
    alone = Encoder(["orders"], parse_cursor("now", ["orders"]), with_ids=True)
    assert text(alone, states) == "event: position\nid: 0a-7-1\ndata: \n\n"
