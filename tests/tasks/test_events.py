"""Task events: their JSON, and what is none."""

import json
from typing import Any

import pytest

from bridge.model.message import Message
from bridge.tasks import events
from bridge.tasks.event_types import (
    CancelRequested,
    Custom,
    End,
    Error,
    Event,
    Log,
    Progress,
    Reset,
    State,
    Step,
    StepStatus,
)
from tests.tasks.test_encoding import Awkward


def test_an_event_is_one_json_object_with_type_task_and_time() -> None:
    """Fields that are None are left out; the schema's version, the task and the time are always there."""
    payload = events.encode(Progress("t1", current=1, total=None, message="zwölf"))
    event = json.loads(payload)
    assert (event["v"], event["type"], event["task"]) == (events.SCHEMA_VERSION, "progress", "t1")
    assert isinstance(event["at"], float)
    assert event["message"] == "zwölf"
    assert "total" not in event
    assert "zwölf".encode() in payload


def test_an_error_is_told_even_if_it_cannot_be_printed() -> None:
    """The type and the message of an exception, whatever its own methods do."""

    class BadError(Exception):
        __str__ = Awkward.__repr__
        __repr__ = Awkward.__repr__

    assert events.error(ValueError("no"))["message"] == "no"
    assert events.error(BadError())["type"] == "BadError"
    assert len(events.error(ValueError("x" * 1_000_000))["message"]) < 11_000


@pytest.mark.parametrize(
    "kind", ["", "a\nb", "a\rb", "a\u2028b", "x" * 101, None, 7, "state", "end", "expired", "error"]
)
def test_a_bad_event_type_is_refused(kind: object) -> None:
    """Nothing that breaks a line, is empty, too long or means something already can be a custom type."""
    with pytest.raises(ValueError, match="event type"):
        events.check_type(kind)


NAN = b'{"type":"preview","task":"t1","at":1,"data":NaN}'


@pytest.mark.parametrize(
    "payload",
    [
        NAN,
        NAN.decode().replace("NaN", "1").encode("utf-16"),
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b'{"type": 1}',
        b'{"type": "a\\nb"}',
        b"[" * 99_999,
    ],
)
def test_what_is_no_event_is_none(payload: bytes) -> None:
    """Bytes that hold no task event are told apart, never an error."""
    assert events.decode(payload) is None


def test_a_task_and_its_topic_name_each_other() -> None:
    """`task_of` undoes `task_topic`, and knows a topic that is none of a task."""
    assert events.task_of(events.task_topic("t1")) == "t1"
    assert events.task_of(events.FEED) is None


@pytest.mark.parametrize(
    "event",
    [
        State(
            "t1", state="SUCCESS", attempt=2, name="work", result={"rows": [1, None]}, index=0, canvas_id="w"
        ),
        State("t1", state="FAILURE", error=Error(type="E", message="m"), reason=""),
        Progress("t1", current=0, total=1.5, message="é", parts={"waiting": 1}, part={"task": "a"}),
        Step("t1", name="b", status="started", path=["a", "b"]),
        Log("t1", level="info", message="hello"),
        CancelRequested("t1", terminate=True),
        Custom("t1", type="preview", data=[False], canvas_id="w"),
    ],
    ids=lambda event: event.type,
)
def test_what_is_encoded_is_decoded(event: Event) -> None:
    """An event comes back as it was, each field under its own name in the JSON."""
    payload = events.encode(event)
    assert events.decode(payload) == event
    given = {name: value for name, value in events.members(event).items() if name not in ("v", "type")}
    assert all(getattr(event, name) == value for name, value in given.items())
    assert json.loads(payload) == events.members(event)


def test_the_steps_of_a_snapshot_are_no_member_of_a_step() -> None:
    """They would grow with each step; the state of the task keeps them."""
    steps: list[StepStatus] = [{"name": "a", "status": "started"}]
    event = Step("t1", name="a", status="started", steps=steps)
    assert "steps" not in events.members(event)
    assert events.decode_steps(events.encode_steps(event)) == steps
    assert events.decode_steps(b"") == events.decode_steps(b'{"steps": 1}') == []


def test_streams_have_two_events_of_their_own() -> None:
    """`reset` names the task, if the topic is that of one, and `end` its last state."""
    reset, end = events.members(Reset("t1", at=1.0)), events.members(End("t1", at=1.0, state="SUCCESS"))
    assert reset == {"v": 1, "type": "reset", "task": "t1", "at": 1.0}
    assert end == {"v": 1, "type": "end", "task": "t1", "at": 1.0, "state": "SUCCESS"}
    assert "task" not in events.members(Reset(None))


def decoded(**changed: Any) -> Event | None:
    return events.decode(
        json.dumps({"type": "state", "task": "t1", "at": 1, "state": "STARTED"} | changed).encode()
    )


def test_a_member_of_another_type_is_left_out() -> None:
    """Anyone may publish to the topic of a task: what is decoded has the types of its class."""
    wrong: dict[str, Any] = {"attempt": "2", "process": 7, "stalls_after": "x", "error": [], "unknown": 1}
    assert decoded(**wrong) == State("t1", at=1, state="STARTED")
    assert decoded(stalls_after=15) == State("t1", at=1, state="STARTED", stalls_after=15)
    assert decoded(state=5) is None
    assert decoded(type="log", level="info") is None


@pytest.mark.parametrize(
    ("payload", "kind"),
    [
        (b'{"type":"progress","task":"t1","at":1}', "progress"),
        (b'{"at":1,"task":"t1","data":{"type":"state"},"type":"preview"}', "preview"),
        (b'{"type":"state","task":"t1","at":1}', None),
        (b'{"type":"end","task":"t1","at":1,"state":"SUCCESS"}', None),
        (b"hello", None),
    ],
)
def test_the_type_of_a_message_whose_backend_does_not_say(payload: bytes, kind: str | None) -> None:
    """It is read from the JSON, on the topics that carry events."""
    for topic in ("task:t1", events.FEED):
        assert events.type_of(Message(payload, topic=topic)) == kind
    assert events.type_of(Message(payload, topic="orders")) is None


def test_the_type_that_a_backend_delivers_holds() -> None:
    """Nothing is decoded then."""
    assert events.type_of(Message(b"{", topic="task:t1", type="progress")) == "progress"


@pytest.mark.parametrize(
    ("event", "mere"),
    [
        (Progress("t1", current=1), True),
        (Progress("t1", parts={"running": 1}, part={"task": "a", "state": "STARTED"}), True),
        (Progress("t1", parts={"running": 0}, part={"task": "a", "state": "SUCCESS", "ended": True}), False),
        (Progress("t1", message='","ended":true'), True),
        (Log("t1", level="info", message='"type":"progress"'), False),
    ],
)
def test_mere_progress(event: Event, mere: bool) -> None:
    """Later progress says all that progress says, except that a part of a canvas has ended."""
    payload = events.encode(event)
    for kind in (event.type, None):
        message = Message(payload, topic="task:t1", type=kind)
        message.counted = kind is not None and "parts" in events.members(event)
        assert events.is_mere_progress(message) is mere
