"""What a backend keeps of a topic beside its messages: the last values of some fields, and recent entries.

Nothing here knows what the fields mean; `bridge.tasks.events` gives them their meaning for tasks.
"""

from dataclasses import dataclass, field

from bridge.model.counts import Counts

MAX_ENTRIES = 1000
"""Entries kept for each topic; older ones are counted, not kept."""

MAX_MEMBERS = 1000
"""Topics listed in each group, the most recently added ones."""

MAX_ROWS = 50
"""Parts of a canvas of which a row is kept: those that went wrong first, then those that run."""

END = 2**31 - 1
"""The rank of a state that is an end."""

UNENDED_SECONDS = 7 * 86_400.0
"""Seconds that a state which is no end is kept at least, after its last change or renewal."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic's messages are kept: both bounds hold. Its state is kept as long after its end."""

    seconds: float
    messages: int

    @property
    def unended(self) -> float:
        """Seconds that a state which is no end is kept after its last change or renewal.

        A task that waits or works in silence stays known; one that nobody ever ends does not stay for ever.
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
    """Of the topic of a canvas: what is shown of its parts."""
    counts: Counts | None = None
    """Of the topic of a canvas: the counts of its parts, which are not in the fields."""

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        held = (*self.fields.values(), *self.entries, *self.rows)
        return sum(map(len, held)) + 64 * (1 + len(held))
