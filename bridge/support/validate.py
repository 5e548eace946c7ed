"""Checks of what callers pass: names and numbers."""

import unicodedata

from bridge.errors import ConfigurationError

LONGEST_TOPIC = 255


def check_name(name: object, what: str) -> str:
    """Return `name` if it is 1 to 255 characters without control characters, else raise `ValueError`."""
    if not isinstance(name, str):
        raise ValueError(
            f"{what} must be a str of 1 to {LONGEST_TOPIC} characters, not {type(name).__name__}"
        )
    if not 1 <= len(name) <= LONGEST_TOPIC:
        raise ValueError(f"{what} must have 1 to {LONGEST_TOPIC} characters, this one has {len(name)}")
    for character in name:
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"{what} must not contain control characters, {name!r} contains {character!r}")
    return name


def check_positive(**numbers: object) -> None:
    """Raise `ConfigurationError` for the first option that is no number above zero."""
    for name, value in numbers.items():
        if not isinstance(value, int | float) or isinstance(value, bool) or value <= 0:
            raise ConfigurationError(f"{name} must be a number above zero, not {value!r}")
