"""Makes an event smaller, for a channel that refuses large payloads: its longer texts are cut."""

from collections.abc import Iterator
from dataclasses import fields, replace

# `Any` in this module: the values of an event are any JSON that a task gives.
from typing import Any, TypeVar

from bridge.tasks.encoding import LONGEST_TEXT, cut, in_words
from bridge.tasks.event_types import Event

E = TypeVar("E", bound=Event)

_SHORTER = (LONGEST_TEXT, 1_000, 100)
"""Characters that a text of an event keeps, one after the other, until the event is small enough."""

_KEPT = frozenset({"type", "task", "at", "steps", "path", "tags", "own_tags"})


def versions(event: E) -> Iterator[E]:
    """Yield `event` as it is, then ever smaller versions of it."""
    yield event
    for longest in _SHORTER:
        yield shortened(event, longest)


def shortened(event: E, longest: int) -> E:
    """Return a copy of `event` with texts of at most `longest` characters; large values become texts."""
    short: dict[str, Any] = {}
    for field in fields(event):
        value = getattr(event, field.name)
        if field.name in _KEPT or value is None or isinstance(value, bool | float):
            continue
        if field.name == "error":
            short[field.name] = {name: cut(text, longest) for name, text in value.items()}
        elif isinstance(value, int) and -1e100 < value < 1e100:
            continue
        else:
            short[field.name] = cut(value if isinstance(value, str) else in_words(value), longest)
    return replace(event, **short)
