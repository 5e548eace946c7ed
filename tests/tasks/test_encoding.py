"""Any value as JSON: what goes into an event comes out as JSON that every reader can parse."""

import json
import math
import sys
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.tasks import encoding
from tests import events
from tests.tasks.folding import fold


class Awkward:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    __str__ = __repr__


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
    made = events.make("preview", "t1", data=[name, cooked(value)])
    event = json.loads(made.payload.decode(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert depth_of(event) <= encoding.DEEPEST
    assert events.decode(made.payload) == event
    assert json.loads(encoding.encode(fold(made)))["events"] == [event]


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
