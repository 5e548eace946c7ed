"""The checks of names, payloads and numbers."""

import math

import pytest

from bridge.errors import ConfigurationError
from bridge.support.validate import check_name, check_payload, check_positive


@pytest.mark.parametrize("name", ["a", "x" * 255, "a name/with:signs", "Größe"])
def test_a_name_is_returned(name: str) -> None:
    """Any text without control characters is a name."""
    assert check_name(name, "a topic name") == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\n", "\x00", "\ud800", None, b"a", 7])
def test_what_is_no_name_is_refused(name: object) -> None:
    """The error says what the name is for."""
    with pytest.raises(ValueError, match=r"^a topic name must"):
        check_name(name, "a topic name")


@pytest.mark.parametrize("payload", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_a_payload_becomes_bytes(payload: object) -> None:
    """Whatever kind of bytes it was."""
    assert type(check_payload(payload, 3)) is bytes


@pytest.mark.parametrize(("payload", "says"), [("abc", "encode"), ({}, "json"), (b"abcd", "at most 3 bytes")])
def test_what_is_no_payload_is_refused(payload: object, says: str) -> None:
    """The error says what to do."""
    with pytest.raises(ValueError, match=says):
        check_payload(payload, 3)


@pytest.mark.parametrize("value", [0, -1, 0.0, math.nan, True, "1", None])
def test_what_is_no_positive_number_is_refused(value: object) -> None:
    """The first of several is named."""
    with pytest.raises(ConfigurationError, match=r"^timeout must be seconds above zero, not "):
        check_positive(unit="seconds", queue_size=1, timeout=value)


def test_a_whole_number_and_another_error() -> None:
    """A float is no whole number, and the caller chooses the error."""
    check_positive(size=0.5)
    with pytest.raises(ValueError, match=r"^limit must be a whole number above zero, not 0\.5"):
        check_positive(unit="a whole number", whole=True, error=ValueError, limit=0.5)
