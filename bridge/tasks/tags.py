"""Tags: names of what a task is for, such as a user or a tenant. Each tag has a feed of its own."""

from collections.abc import Iterable
from itertools import islice
from typing import TypeGuard

MAX_TAGS = 8
"""The most tags of a task."""

LONGEST_TAG = 100
"""The most characters of a tag."""


def is_tag(value: object) -> TypeGuard[str]:
    """Whether `value` can be a tag: a `str` of 1 to 100 printable characters."""
    return isinstance(value, str) and 1 <= len(value) <= LONGEST_TAG and value.isprintable()


def check_tags(caller: str, values: Iterable[object]) -> list[str]:
    """Return `values` if they are at most 8 distinct tags. Otherwise raise `ValueError`."""
    found: list[str] = []
    for value in islice(values, MAX_TAGS + 1):
        if not is_tag(value):
            raise ValueError(f"{caller}: a tag must be {_REQUIRED}, not {_in_short(value)}")
        if value in found:
            raise ValueError(f"{caller}: each tag may be given once, {value!r} is given twice")
        found.append(value)
    if len(found) > MAX_TAGS:
        raise ValueError(f"{caller}: a task has at most {MAX_TAGS} tags")
    return found


def read_tags(value: object) -> list[str]:
    """Return the tags in an unchecked `value`: those of its first 8 items that can be tags."""
    if not isinstance(value, list | tuple):
        return []
    return list(dict.fromkeys(each for each in value[:MAX_TAGS] if is_tag(each)))


def joined_tags(*lists: Iterable[str]) -> list[str]:
    """Return the distinct tags of several lists. If there are more than 8, return the first ones."""
    return list(dict.fromkeys(tag for tags in lists for tag in tags))[:MAX_TAGS]


_REQUIRED = f"a str of 1 to {LONGEST_TAG} printable characters"


def _in_short(value: object) -> str:
    """Return what is wrong with a value that is no tag."""
    if not isinstance(value, str):
        return type(value).__name__
    return f"one of {len(value)} characters" if len(value) > LONGEST_TAG else repr(value)
