"""What a backend keeps of a topic beside its messages: the last word on a few names, and recent entries.

Nothing here knows what the fields mean; `bridge.tasks.events` gives them their meaning for tasks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

MAX_ENTRIES = 1000
"""Entries kept for each topic; older ones are counted, not kept."""

MAX_MEMBERS = 1000
"""Topics listed in each group, the most recently added ones."""

MAX_LINES = 50
"""Parts of a whole of which a line is kept: those that went wrong first, then those that run."""

END = 2**31 - 1
"""The rank of a state that is an end."""

UNENDED_SECONDS = 7 * 86_400.0
"""Seconds that a state which is no end is kept at least, after its last change or renewal."""

WAITING, RUNNING, ENDED_WELL = 0, 1, 2
"""Stages of a part; those above are other ways to end, the higher the worse."""

WHOLE = 10_000
"""The value of a part that is done."""


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
    listed: bool = True
    """Whether the group lists it."""
    part: "Part | None" = None
    """The part of this topic that the message tells of, where the topic is that of a whole."""

    def refused_by(self, rank: int) -> bool:
        """Whether a state of this rank refuses the change."""
        return self.rank < rank or (self.final and self.rank == rank)


@dataclass(frozen=True, slots=True)
class Part:
    """How far one part of a whole is. The topic of the whole keeps count, in one step with the publish.

    Where the parts do not know how many they are, a `Part` without a name tells it: its value is the size.
    Until then the whole does not end and 0 percent of it are done.

    What is counted never goes back: of each part the highest stage and the highest value hold, and a message
    that raises neither is not published. In the payload of such a message, in that of its turn and in the
    names of their fields these bytes, which no JSON text contains, give way to what has been counted:

    | byte  | becomes |
    |-------|---------|
    | 1     | how many parts have ended |
    | 2     | the percentage of the whole that is done, rounded down, with two decimals |
    | 3     | the name of the worst way in which a part ended |
    | 4 + n | how many parts are at stage n |
    | 9     | how many parts the whole has; how many were heard of, as long as that is unknown |
    """

    name: str
    size: int
    """How many parts the whole has, 0 if the part does not know."""
    stage: int
    value: int
    """How much of the part is done, from 0 to `WHOLE`."""
    line: bytes
    """What is shown of the part."""
    endings: Sequence[str]
    """The names of the ways to end, from `ENDED_WELL` on."""
    turn: "tuple[bytes, Change] | None" = None
    """Published too where this is the first part to run, just before, or the last one to end, just after."""


@dataclass(slots=True)
class TopicState:
    """The state of one topic, as read at one point between two of its messages."""

    topic: str
    fields: dict[str, bytes] = field(default_factory=dict)
    entries: list[bytes] = field(default_factory=list)
    omitted: int = 0
    """How many older entries are no longer kept."""
    lines: list[bytes] = field(default_factory=list)
    """Of the topic of a whole: what is shown of its parts."""

    @property
    def size(self) -> int:
        """About how many bytes it holds."""
        held = (*self.fields.values(), *self.entries, *self.lines)
        return sum(map(len, held)) + 64 * (1 + len(held))
