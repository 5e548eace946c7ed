"""The state of a topic, which a backend keeps beside the messages: values of fields, and recent entries.

This module does not know what the fields mean. `bridge.tasks.changes` sets those of tasks.
"""

from dataclasses import dataclass, field

from bridge.model.counts import Counts

MAX_ENTRIES = 1000
"""The most entries that are kept for each topic. Older ones are only counted."""

MAX_ENTRY_BYTES = 8 * 1024 * 1024
"""The most bytes of entries that are kept for each topic. The newest is kept whatever its size."""

MAX_ROWS = 50
"""The most rows that are kept of a canvas: first of parts that failed, then of parts that run."""

END = 2**31 - 1
"""The rank of a state that is an end."""

UNENDED_SECONDS = 7 * 86_400.0
"""The least number of seconds that a state which is no end is kept after its last change or renewal."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long messages are kept: all limits apply. A state is kept for `seconds` after its end."""

    seconds: float
    messages: int
    bytes: int = 64 * 1024 * 1024
    """About how many bytes of messages are kept of each topic. The newest is kept whatever its size."""

    @property
    def unended(self) -> float:
        """Seconds that a state which is no end is kept after its last change or renewal.

        So a task that waits or works without events is not forgotten, and a task without an end is not kept
        forever.
        """
        return max(self.seconds, UNENDED_SECONDS)


@dataclass(slots=True)
class TopicState:
    """The state of one topic, as read at one point between two of its messages."""

    topic: str
    fields: dict[str, bytes] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    omitted: int = 0
    """How many older entries are no longer kept."""
    rows: list[bytes] = field(default_factory=list)
    """Of the topic of a canvas: the rows of its parts."""
    counts: Counts | None = None
    """Of the topic of a canvas: the counts of its parts, which are not in the fields."""

    @property
    def size(self) -> int:
        """Return its approximate size in bytes."""
        held = (*self.fields.values(), *self.entries, *self.rows)
        return sum(map(len, held)) + 64 * (1 + len(held))
