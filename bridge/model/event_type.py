"""Event types: what a publisher may call the type of a message, and the names that are reserved.

The type becomes the `event:` field of a stream. Most clients do not see which topic of a stream an event is
from. So the types of the streams and of task events are reserved on every topic.
"""

STREAM_TYPES = frozenset({"snapshot", "reset", "end", "expired", "position"})
"""The types of the events that only a stream itself creates."""

TASK_TYPES = frozenset({"state", "progress", "step", "log", "cancel_requested"})
"""The types of the events that the bridge publishes about tasks."""

_EVENT_SOURCE = frozenset({"open", "message", "error"})
"""The types that mean something else to a browser's `EventSource`."""

RESERVED = STREAM_TYPES | TASK_TYPES | _EVENT_SOURCE

LONGEST = 100
"""The most characters in an event type."""


def check_event_type(value: object) -> str:
    """Return `value` as a plain `str` if a message may have that type, else raise `ValueError`."""
    if not isinstance(value, str):
        raise ValueError(
            f"an event type must be a str of 1 to {LONGEST} characters, not {type(value).__name__}"
        )
    if not 1 <= len(value) <= LONGEST:
        raise ValueError(f"an event type must have 1 to {LONGEST} characters, this one has {len(value)}")
    if not value.isprintable():
        raise ValueError(f"an event type must not contain line breaks or control characters: {value!r}")
    if value in RESERVED:
        names = ", ".join(sorted(RESERVED))
        raise ValueError(f"the event type {value!r} is reserved, choose another name (reserved: {names})")
    return str.__str__(value)  # the drivers of some databases store an enum by its name
