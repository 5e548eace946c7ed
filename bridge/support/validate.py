"""Checks of what callers pass: names, payloads and numbers."""

import unicodedata

from bridge.errors import ConfigurationError

INTERNAL = "\x1f"
"""The names of internal topics begin with this. `check_name` refuses them, so no application meets one."""

LONGEST_TOPIC = 255
"""The most characters in the name of a topic."""


def is_control(character: str) -> bool:
    """Return whether a name must not contain `character`: a control character or a lone surrogate."""
    return unicodedata.category(character) in ("Cc", "Cs")


def check_name(name: object, what: str) -> str:
    """Return `name` if it has 1 to 255 characters and no control characters, else raise `ValueError`."""
    if not isinstance(name, str):
        raise ValueError(
            f"{what} must be a str of 1 to {LONGEST_TOPIC} characters, not {type(name).__name__}"
        )
    if not 1 <= len(name) <= LONGEST_TOPIC:
        raise ValueError(f"{what} must have 1 to {LONGEST_TOPIC} characters, this one has {len(name)}")
    # Most names are printable, which one call tells. What is not need not be a control character.
    for character in "" if name.isprintable() else name:
        if is_control(character):
            raise ValueError(f"{what} must not contain control characters, {name!r} contains {character!r}")
    return name


def check_payload(payload: object, limit: int) -> bytes:
    """Return `payload` as bytes. Raises `ValueError` if it is not bytes or has more than `limit` bytes."""
    if not isinstance(payload, bytes | bytearray | memoryview):
        how = "payload.encode()" if isinstance(payload, str) else "json.dumps(payload).encode()"
        raise ValueError(
            f"a payload must be bytes, not {type(payload).__name__}; encode it, for example {how} "
            f"(at most {limit} bytes)"
        )
    payload = bytes(payload)
    if len(payload) > limit:
        raise ValueError(f"a payload must be at most {limit} bytes (max_payload), not {len(payload)}")
    return payload


def check_positive(
    *,
    unit: str = "a number",
    whole: bool = False,
    error: type[Exception] = ConfigurationError,
    **numbers: object,
) -> None:
    """Raise `error` for the first of `numbers` that is not a number above zero.

    `unit` is for the message, for example "seconds". With `whole` only an `int` is accepted.
    """
    allowed = int if whole else int | float
    for name, value in numbers.items():
        if not isinstance(value, allowed) or isinstance(value, bool) or not value > 0:
            raise error(f"{name} must be {unit} above zero, not {value!r}")
