"""What a backend keeps of a topic beside its messages: the last word on a few names, and recent entries.

Nothing here knows what the fields mean; `bridge.events` gives them their meaning for tasks.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MAX_ENTRIES = 1000
"""Entries kept for each topic; older ones are counted, not kept."""

MAX_MEMBERS = 1000
"""Topics listed in each group, the most recently added ones."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How long a topic's messages are kept: both bounds hold. Its state is as long after its last change."""

    seconds: float
    messages: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one message changes in the state of its topic; applied with the publish, in one atomic step.

    A change whose `rank` is below the topic's is refused, message and all: so a progress event that comes
    late never overwrites the end. A `final` change is also refused at the topic's own rank: so there is
    one end.
    """

    rank: int
    final: bool
    fields: Mapping[str, bytes]
    """Values to set, by name."""
    entry: bool
    """Whether the message itself joins the topic's entries."""
    group: str
    """The topic that also gets the message and lists this topic as a member."""

    def refused_by(self, rank: int) -> bool:
        """Whether a state of this rank refuses the change."""
        return self.rank < rank or (self.final and self.rank == rank)


@dataclass(slots=True)
class TopicState:
    """The state of one topic, as read at one point between two of its messages."""

    topic: str
    fields: dict[str, bytes] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    omitted: int = 0
    """How many older entries are no longer kept."""
