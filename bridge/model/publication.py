"""Publications: messages on their way to the backend, with the changes that they make there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bridge.support.tokens import new_token

MAX_MEMBERS = 1000
"""The most topics of a group whose states its readers get: those added most recently."""

MAX_LISTED = 100_000
"""The most topics that a group lists at all, the feed of all tasks: `Backend.listed` reads them in pages."""


class Group(NamedTuple):
    """A topic that also gets the messages of other topics."""

    topic: str
    lists: int = MAX_MEMBERS
    """How many members the group lists at most, 0 if it does not list the topic of the message."""


@dataclass(slots=True)
class Change:
    """What one message changes in the state of its topic. The publish applies it in the same atomic step.

    The backend refuses a change whose `rank` is below the rank of the topic, and its message too, so late
    progress never overwrites the end. It also refuses a `final` change at the topic's own rank, so there is
    only one end.
    """

    rank: int
    final: bool
    fields: Mapping[str, bytes]
    """Values to set, by name."""
    entry: bool
    """Whether the message itself joins the topic's entries."""
    groups: tuple[Group, ...]
    """The topics that also get the message, each once.

    A database locks them in this order. So all publications that share groups have these in the same order.
    """

    def refused_by(self, rank: int) -> bool:
        """Return whether a state of this rank refuses the change."""
        return self.rank < rank or (self.final and self.rank == rank)


@dataclass(frozen=True, slots=True)
class Part:
    """How far one part of a canvas is. The backend counts the parts in the step that publishes the message.

    The counts never go back: of each part the highest stage and the highest value hold. A message that
    raises neither is not published. See `bridge.model.counts` for the counting.

    If the parts do not know their number, a `Part` without a name sets the size. Its value is the size too.
    Until then the canvas does not end, and its percentage is 0.
    """

    name: str
    size: int
    """How many parts the canvas has, 0 if the part does not know."""
    stage: int
    value: int
    """How much of the part is done, from 0 to `bridge.model.counts.DONE`."""
    row: bytes
    """What the state of the canvas shows of the part."""
    follow_up: "Publication | None" = None
    """Published in the same step, with the same counts and a token of its own.

    It comes just before the message if this is the first part to run, and just after it if this is the last
    part to end. Otherwise it is not published.
    """


@dataclass(slots=True)
class Publication:
    """A message to publish, with the change that it makes in the state of its topic."""

    topic: str
    payload: bytes
    type: str | None = None
    """The type of the event; `None` for a message without one."""
    change: Change | None = None
    part: Part | None = None
    """The part of a canvas that the message is about. It needs a `change`, and a topic of its own canvas.

    The backend keeps the `Counts` beside the payload. Readers get the payload with the figures in it.
    """
    token: bytes = field(default_factory=new_token)
    """Identifies the message. If the backend keeps messages, it publishes one message for each token."""
    repeated: bool = False
    """Whether a message with this token may have been published already."""
