"""Text for a terminal."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli.text import plain, plain_json, plain_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("héllo 世界", "héllo 世界"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\u202eabc", r"\u202eabc"),
        ("\U000e0041", r"\U000e0041"),
        ("\ud800", r"\ud800"),
        ("👩\u200d🔬", "👩\u200d🔬"),
    ],
)
def test_what_a_terminal_obeys_becomes_an_escape(text: str, shown: str) -> None:
    """Control, direction and tag characters are shown as escapes; all other text is as it was."""
    assert plain(text) == shown


def test_lines_stay_lines() -> None:
    """A text with several lines gives each of them, and no line has a control character."""
    assert plain_lines("one\r\ntwo\x1b\nthree\rfour") == ["one", r"two\x1b", "three", "four"]


@given(st.text())
def test_no_control_character_is_left(text: str) -> None:
    """Whatever the text, no character of a control category is left, and JSON keeps its meaning."""
    document = json.dumps(text, ensure_ascii=False)
    assert json.loads(plain_json(document)) == text
    for shown in (plain(text), plain_json(document)):
        assert not {unicodedata.category(character) for character in shown} & {"Cc", "Cs", "Zl", "Zp"}
