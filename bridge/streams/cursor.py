"""The cursor of a stream: what a viewer's `Last-Event-ID` says of each topic."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.model.position import BEGINNING, Position, parse
from bridge.tasks import events

ENDED = "end"
ANEW = ""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream begins: what the cursor of a viewer says of each topic."""

    after: Mapping[str, Position] = field(default_factory=dict)
    """The topics that go on after a message; the others begin with their state."""
    ended: frozenset[str] = frozenset()
    """The tasks whose end the viewer has seen."""
    lost: bool = False
    """The cursor is none of this stream's."""

    def running(self, topics: Collection[str]) -> set[str]:
        """Return those of `topics` of which there is more to see."""
        return set(topics).difference(self.ended)


def parse_cursor(cursor: str | None, topics: Sequence[str]) -> Cursor:
    """Read the cursor of a stream of `topics`: for each, with commas between, an id, `end` or nothing.

    `BEGINNING` stands for all of them. Nothing means: begin with the state.
    """
    if not cursor:
        return Cursor()
    words = cursor.split(",", len(topics))
    if words == [BEGINNING]:
        words *= len(topics)
    if len(words) != len(topics):
        return Cursor(lost=True)
    by_topic = dict(zip(topics, words, strict=True))
    try:
        after = {topic: parse(word) for topic, word in by_topic.items() if word not in (ENDED, ANEW)}
    except ValueError:
        return Cursor(lost=True)
    tasks = (topic for topic in topics if events.task_of(topic) is not None)
    return Cursor(after, frozenset(topic for topic in tasks if by_topic[topic] == ENDED))
