"""Task events: what goes into JSON, what comes out, and what a snapshot makes of them."""

import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.model.publication import Publication
from bridge.model.state import TopicState
from bridge.tasks import encoding, events


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


def fold(*made: Publication) -> dict[str, Any]:
    """Return the snapshot that a backend's state amounts to after these events."""
    state, rank = TopicState("task:t1"), -1
    for event in made:
        change = event.change
        if change is not None and not change.refused_by(rank):
            rank = change.rank
            state.fields.update(change.fields)
            state.entries += [event.payload] if change.entry else []
    return events.snapshot(state, "t1")


def test_an_event_is_one_json_object_with_type_task_and_time() -> None:
    """Fields that are None are left out; the schema's version, the task and the time are always there."""
    payload = events.make("progress", "t1", current=1, total=None, message="zwölf").payload
    event = json.loads(payload)
    assert (event["v"], event["type"], event["task"]) == (events.SCHEMA_VERSION, "progress", "t1")
    assert isinstance(event["at"], float)
    assert event["message"] == "zwölf"
    assert "total" not in event
    assert "zwölf".encode() in payload


cyclic: list[object] = []
cyclic.append(cyclic)


@pytest.mark.parametrize(
    "value",
    [cyclic, math.nan, math.inf, {1, 2}, object(), Awkward(), {("a",): 1}, "\ud800", b"\xff", "x" * 100_000],
    ids=["cycle", "nan", "inf", "set", "object", "no repr", "key", "surrogate", "bytes", "long"],
)
def test_any_value_can_be_told(value: object) -> None:
    """A value that JSON cannot express is told in words: the event stays valid JSON with its own fields."""
    payload = events.make("state", "t1", state="SUCCESS", name="work", result=value).payload
    event = json.loads(payload.decode(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (event["type"], event["task"], event["state"], event["name"]) == ("state", "t1", "SUCCESS", "work")
    assert "result" in event


class Endless:
    """Its `repr` never comes to an end."""

    def __repr__(self) -> str:
        return repr(self)

    __str__ = __repr__


class Chatty:
    """Its `repr` is very long, and no UTF-8."""

    def __repr__(self) -> str:
        return "\ud800" * 1_000_000

    __str__ = __repr__


class Changing(dict[str, int]):
    """As if another thread changed it meanwhile."""

    def items(self) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    values = __iter__ = items


def nested(depth: int, inner: Any = 1, *, wide: bool = False) -> Any:
    """Lists and objects within each other."""
    for level in range(depth):
        inner = {"in": inner} if level % 2 else [inner, *([1, 2] if wide else [])]
    return inner


def depth_of(value: Any) -> int:
    """How many lists and objects are within each other."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, list | dict)]:
        depth += 1
        level = [item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer)]
    return depth


AWKWARD: dict[str, Any] = {
    "no repr": Awkward(), "endless": Endless(), "chatty": Chatty(), "changing": Changing(a=1),
    "cycle": cyclic, "object": object(), "long": 10**5000, "set": {1, 2}, "wide": nested(2000, wide=True),
    **{str(depth): nested(depth) for depth in (97, 98, 99, 100, 101, 500, 990, 5000)},
}  # fmt: skip


@dataclass(frozen=True)
class Recipe:
    """Stands for a value that Hypothesis itself could not print."""

    name: str


def cooked(value: Any) -> Any:
    """The value with what stands in it for awkward ones."""
    match value:
        case Recipe(name):
            return AWKWARD[name]
        case list() | tuple():
            return type(value)(map(cooked, value))
        case dict():
            return {key: cooked(item) for key, item in value.items()}
    return value


leaves = st.one_of(
    st.none() | st.booleans() | st.floats() | st.binary(max_size=20) | st.integers(),
    st.text(st.characters(), max_size=20),  # lone surrogates too
    st.integers(0, 20_000).map(lambda bits: -(2**bits)),
    st.sampled_from([*AWKWARD]).map(Recipe),
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.text(st.characters(), max_size=5) | st.sampled_from([1, 1.5, None, True, (1,), b"k"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.large_base_example])
@given(values, st.text(st.characters(), max_size=10))
def test_whatever_is_told_every_reader_can_parse_it(value: Any, name: str) -> None:
    """Any value comes out as valid JSON in UTF-8 of bounded depth, and is never missing from a snapshot."""
    made = events.make("preview", "t1", name=name, data=cooked(value))
    event = json.loads(made.payload.decode(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert depth_of(event) <= encoding.DEEPEST
    assert events.decode(made.payload) == event
    assert json.loads(events.encode(fold(made)))["events"] == [event]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ({"a": [1, math.nan, {"b": 10**5000}]}, {"a": [1, "nan", {"b": "<int of 16,610 bits>"}]}),
        ({"a\ud800": "\ud83d\ude00", "b": "x\udfffy"}, {"a\ufffd": "\U0001f600", "b": "x\ufffdy"}),
        (
            {None: {True: 1}, (1,): 2, 3: {4}, 10**5000: 5},
            {"null": {"true": 1}, "(1,)": 2, "3": "{4}", "<int whose repr failed: ValueError>": 5},
        ),
        (nested(50), nested(50)),
        (10**600, 10**600),
    ],
    ids=["numbers", "surrogates", "keys", "nested", "a long number"],
)
def test_only_what_cannot_be_told_is_put_in_words(value: Any, told: Any) -> None:
    """What is around it keeps its structure."""
    event = events.decode(events.make("preview", "t1", data=value).payload)
    assert event is not None
    assert event["data"] == told


def test_an_unlimited_python_writes_what_others_can_read() -> None:
    """A process without Python's limit on digits publishes no number that others refuse to read."""
    limit = sys.get_int_max_str_digits()
    try:
        sys.set_int_max_str_digits(0)
        payload = events.make("preview", "t1", data=[10**5000]).payload
    finally:
        sys.set_int_max_str_digits(limit)
    assert events.decode(payload) is not None


def test_an_error_is_told_even_if_it_cannot_be_printed() -> None:
    """The type and the message of an exception, whatever its own methods do."""

    class BadError(Exception):
        __str__ = Awkward.__repr__
        __repr__ = Awkward.__repr__

    assert events.error(ValueError("no"))["message"] == "no"
    assert events.error(BadError())["type"] == "BadError"
    assert len(events.error(ValueError("x" * 1_000_000))["message"]) < 11_000


@pytest.mark.parametrize(
    "kind", ["", "a\nb", "a\rb", "a\u2028b", "x" * 101, None, 7, "state", "end", "error"]
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


def test_a_snapshot_is_the_whole_state() -> None:
    """State, times, progress, logs and custom events are in it; a late event of an older state is not."""
    snapshot = fold(
        events.make("state", "t1", state="STARTED", name="work", worker="w1"),
        events.make("state", "t1", state="PENDING", name="work"),
        events.make("progress", "t1", current=1, total=4, percent=25.0),
        events.make("log", "t1", level="info", message="hello"),
        events.make("progress", "t1", current=2, total=4, percent=50.0),
        events.make("preview", "t1", data={"url": "x"}),
        events.make("state", "t1", state="SUCCESS", result={"rows": 4}),
        events.make("progress", "t1", current=3, total=4, percent=75.0),
    )
    assert (snapshot["state"], snapshot["name"], snapshot["worker"]) == ("SUCCESS", "work", "w1")
    assert snapshot["result"] == {"rows": 4}
    assert snapshot["progress"]["current"] == 2
    assert [event["type"] for event in snapshot["events"]] == ["log", "preview"]
    assert snapshot["started_at"] <= snapshot["ended_at"]
    assert "queued_at" not in snapshot


def test_a_retry_is_no_end_and_begins_afresh() -> None:
    """After RETRY the next attempt starts without the progress of the last, and its end counts."""
    first = (
        events.make("state", "t1", state="STARTED"),
        events.make("progress", "t1", current=9),
        events.make("state", "t1", state="RETRY", error={"type": "E", "message": "m"}),
    )
    assert events.end_of(fold(*first)) is None
    second = fold(*first, events.make("state", "t1", attempt=2, state="STARTED"))
    assert (second["state"], second["attempt"], second["progress"]) == ("STARTED", 2, None)
    late = events.make("progress", "t1", attempt=1, current=10)
    assert fold(*first, events.make("state", "t1", attempt=2, state="STARTED"), late)["progress"] is None


RETRIED = {"error": {"type": "E", "message": "m"}, "reason": "m", "retry_at": 1_800_000_000.5}


def state(now: str, attempt: int, **fields: Any) -> Publication:
    """An event that tells a state of the task."""
    return events.make("state", "t1", attempt=attempt, state=now, **fields)


def test_why_and_when_a_task_is_tried_again_is_known_until_it_is() -> None:
    """In either order of RETRY and the RECEIVED of the next attempt, and not a moment longer."""
    before = [state("STARTED", 1), events.make("progress", "t1", current=9)]
    retry, received = state("RETRY", 1, **RETRIED), state("RECEIVED", 2, process="p2")
    for waiting in ([*before, retry, received], [*before, received, retry]):
        snapshot = fold(*waiting)
        assert (snapshot["state"], snapshot["attempt"]) == ("RECEIVED", 2)
        assert {name: snapshot.get(name) for name in RETRIED} == RETRIED
        for follows in ("STARTED", "SUCCESS", "REVOKED"):
            later = fold(*waiting, state(follows, 2))
            assert (later["state"], later["attempt"]) == (follows, 2)
            assert not RETRIED.keys() & later.keys()
    assert fold(*before, retry)["state"] == "RETRY"
    assert RETRIED.items() <= fold(*before, retry).items()
    assert fold(*before, retry, state("STARTED", 2), retry)["state"] == "STARTED"


def test_a_worker_that_vanishes_during_a_countdown_is_no_new_attempt() -> None:
    """STALLED keeps why and when, where the attempt has not begun."""
    waiting = [state("STARTED", 1), state("RETRY", 1, **RETRIED), state("RECEIVED", 2)]
    assert RETRIED.items() <= fold(*waiting, state("STALLED", 2, was="RECEIVED")).items()
    stalled = fold(*waiting, state("STARTED", 2), state("STALLED", 2, was="STARTED"))
    assert not RETRIED.keys() & stalled.keys()


def test_a_task_takes_as_long_as_all_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """`started_at` is the start of the latest attempt, `first_started_at` that of the first."""
    clock = iter(range(100, 200))
    monkeypatch.setattr(events.time, "time", lambda: next(clock))
    told = [state("STARTED", 1)]
    assert (fold(*told)["started_at"], fold(*told)["first_started_at"]) == (100, 100)
    told += [state("STARTED", 1, redelivered=True), state("RETRY", 1, **RETRIED), state("STARTED", 2)]
    told += [state("STALLED", 2), events.make("state", "t1", attempt=2, state="STARTED", resumed=True)]
    ended = fold(*told, state("SUCCESS", 2))
    assert (ended["started_at"], ended["first_started_at"]) == (105, 100)
    unheard_of = fold(state("STARTED", 2))  # the first attempt
    assert unheard_of["first_started_at"] == unheard_of["started_at"]


def test_nothing_known_is_pending() -> None:
    """A task that nobody has spoken of is PENDING, as Celery has it."""
    assert events.snapshot(None, "t1")["state"] == "PENDING"


@given(st.permutations([("PENDING", 0), ("RECEIVED", 1), ("STARTED", 2), ("SUCCESS", 3), ("REVOKED", 3)]))
def test_states_never_go_backwards(order: list[tuple[str, int]]) -> None:
    """In whatever order the states of one attempt come, the furthest stands, the first of two ends."""
    snapshot = fold(*(events.make("state", "t1", state=state) for state, _ in order))
    assert snapshot["state"] == next(state for state, rank in order if rank == 3)


def test_a_snapshot_in_text_is_the_snapshot() -> None:
    """The JSON that streams send says what `snapshot` returns, without what is no event."""
    entries = [
        events.make("log", "t1", level="info", message=f"line {n} \u2028 \x00 é").payload for n in range(3)
    ]
    fields = {"state": events.make("state", "t1", state="STARTED").payload}
    state = TopicState("task:t1", fields, [*entries, b"{"], 7)
    text, bare = events.snapshot_text(state, "t1")
    snapshot = events.snapshot(state, "t1")
    assert {**json.loads(text), "at": 0} == {**snapshot, "at": 0}
    assert {**bare, "at": 0} == {**snapshot, "at": 0, "events": []}
    assert len(snapshot["events"]) == 3
    nothing, _ = events.snapshot_text(None, "t1")
    assert json.loads(nothing)["events"] == []
