"""Any value as JSON that every reader can parse. What JSON cannot express becomes text.

Not every reader can parse what Python can write. Python itself limits nesting, to a depth that depends on
where it is called, and the digits of a number; browsers know no NaN; a lone surrogate is no UTF-8.
"""

import json
import math
import sys
from collections.abc import Mapping

# `Any` in this module: a task may give any value, and JSON has no narrower type in Python.
from typing import Any

LONGEST_TEXT = 10_000
"""Characters of a value that JSON cannot express, or of an error's message; the rest is cut with a mark."""

DEEPEST = 100
"""Levels of lists and objects within each other; what is deeper becomes text."""

_MOST_BITS = 2_000
"""Bits of a number that every Python can read: the limit on digits can be set to 640 and above."""

_MOST_DIGITS = 4_300
"""The limit on digits that Python has unless it is set."""


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return `text`, cut with a mark if it is longer than `longest` characters."""
    if len(text) <= longest:
        return text
    return f"{text[:longest]}… ({len(text) - longest} characters cut)"


def well_formed(text: str) -> str:
    """Return `text` with lone surrogates replaced by U+FFFD, as browsers do."""
    if text.isascii():
        return text
    return str.encode(text, "utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def in_words(value: object) -> str:
    """Return the text for a value that JSON cannot express: its `repr`, cut. Never raises."""
    try:
        return well_formed(cut(repr(value)))
    except Exception as error:
        return f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"


def in_text(value: object) -> str:
    """Return `value` as text, cut. Never raises."""
    try:
        return well_formed(cut(str(value)))
    except Exception:
        return in_words(value)


_JSON = json.JSONEncoder(default=in_words, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def encode(value: Mapping[str, Any], deepest: int = DEEPEST) -> bytes:
    """Return `value` as JSON.

    A value that JSON or one of its readers cannot express becomes its `repr`, cut to `LONGEST_TEXT`
    characters. The values around it do not change. A lone surrogate becomes U+FFFD. Values that are more than
    `deepest` levels deep become text too.
    """
    try:
        payload = _JSON.encode(value).encode()
        if not _is_too_deep(value, payload, deepest) and 0 < sys.get_int_max_str_digits() <= _MOST_DIGITS:
            return payload
    except Exception:  # noqa: S110  # a value's own methods may raise anything
        pass
    return _JSON.encode(_expressible(value, frozenset(), deepest)).encode()


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


_PARSER = json.JSONDecoder(parse_constant=_refuse)


def parse(payload: bytes) -> object:
    """Return the value of a JSON text in UTF-8, or `None` if `payload` is not one.

    Python's own parser accepts more, such as NaN. But payloads are inserted into other texts unchanged. If a
    browser cannot parse one of them, it cannot parse the text.
    """
    try:
        return _PARSER.decode(payload.decode())
    except (ValueError, RecursionError):
        return None


def _is_too_deep(value: object, payload: bytes, deepest: int) -> bool:
    if payload.count(b"[") + payload.count(b"{") <= deepest:
        return False
    level: list[Any] = [value]
    for _ in range(deepest):
        inner = (item for outer in level for item in (outer.values() if isinstance(outer, dict) else outer))
        level = [item for item in inner if isinstance(item, (dict, list, tuple))]  # faster than a union
        if not level:
            return False
    return True


def _expressible(value: Any, around: frozenset[int], deepest: int) -> Any:
    """Return `value` with text for what JSON cannot express. `around` has the ids of its containers."""
    try:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return well_formed(value)
        if isinstance(value, int):
            return value if value.bit_length() <= _MOST_BITS else f"<int of {value.bit_length():,} bits>"
        if isinstance(value, float) and math.isfinite(value):
            return value
        if len(around) < deepest and id(value) not in around:
            inside = around | {id(value)}
            if isinstance(value, dict):
                return {_key(key): _expressible(item, inside, deepest) for key, item in [*value.items()]}
            if isinstance(value, list | tuple):
                return [_expressible(item, inside, deepest) for item in [*value]]
    except Exception:  # noqa: S110
        pass
    return in_words(value)


def _key(key: object) -> str:
    """Return the JSON text for the key of a dict."""
    if isinstance(key, str):
        return well_formed(key)
    if key is None or isinstance(key, bool):
        return "null" if key is None else str(key).lower()
    return in_words(key)
