"""Checks of the arguments that a task passes. A bad number raises; everything else becomes text."""

import math
import operator
from collections.abc import Iterable

from bridge.tasks.encoding import in_text, in_words

MOST = 1e100
"""Numbers must be smaller than this."""


def checked(
    caller: str, current: float, total: float | None, message: object
) -> tuple[float, float | None, str | None]:
    """Return the arguments of `progress` or `track`. Raise `ValueError` for a bad number."""
    return (
        number(f"{caller}: current", current),
        None if total is None else number(f"{caller}: total", total),
        None if message is None else in_text(message),
    )


def number(what: str, value: object) -> float:
    """Return `value` as an `int` or `float`. Raise `ValueError` if it is no number or beyond 1e100."""
    found: float = math.nan
    try:
        if hasattr(value, "__index__"):
            found = operator.index(value)
        elif hasattr(value, "__float__"):
            found = float(value)
    except Exception:  # noqa: S110  # Its own methods may raise anything.
        pass
    if not -MOST < found < MOST:
        raise ValueError(f"{what} must be a finite number, not {in_words(value)}")
    return found


def length(iterable: Iterable[object]) -> int | None:
    """Return how many items `iterable` has, or `None` if that is unknown."""
    try:
        return operator.length_hint(iterable) or None
    except Exception:
        return None
