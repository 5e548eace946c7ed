"""The cursor of a stream: the text in a browser's `Last-Event-ID`, read and written.

The cursor has one word for each topic of the stream, in their order, with commas between. A word is the id of
the last message seen, `end` for a task whose end was seen, or nothing for a topic that begins with its state.
The word `now` is like nothing, but asks for an event that tells the position of the topic.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bridge.model.position import BEGINNING, Position, parse
from bridge.tasks import events

ENDED = "end"
FROM_STATE = ""
NOW = "now"
_NO_POSITION = (ENDED, FROM_STATE, NOW)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream begins, topic by topic."""

    after: Mapping[str, Position] = field(default_factory=dict)
    """The topics that continue after a message; the others begin with their state."""
    ended: frozenset[str] = frozenset()
    """The tasks whose end the viewer has seen."""
    told: frozenset[str] = frozenset()
    """The topics whose position the viewer asks for."""
    lost: bool = False
    """Whether the text is no cursor of this stream, so that every topic begins with its state."""

    def unfinished(self, topics: Collection[str]) -> set[str]:
        """Return those of `topics` whose end the viewer has not seen."""
        return set(topics).difference(self.ended)


_NEW = Cursor()


def parse_cursor(text: str | None, topics: Sequence[str]) -> Cursor:
    """Read the cursor of a stream of `topics`. Without text, every topic begins with its state.

    `BEGINNING` alone stands for all topics.
    """
    if not text:
        return _NEW
    words = text.split(",", len(topics))
    if words == [BEGINNING]:
        words *= len(topics)
    if len(words) != len(topics):
        return Cursor(lost=True)
    by_topic = dict(zip(topics, words, strict=True))
    try:
        after = {topic: parse(word) for topic, word in by_topic.items() if word not in _NO_POSITION}
    except ValueError:
        return Cursor(lost=True)
    tasks = (topic for topic in topics if events.task_of(topic) is not None)
    ended = frozenset(topic for topic in tasks if by_topic[topic] == ENDED)
    return Cursor(after, ended, frozenset(topic for topic in topics if by_topic[topic] == NOW))


class CursorWriter:
    """Writes the cursor of a stream while the stream advances."""

    def __init__(self, topics: Sequence[str], cursor: Cursor) -> None:
        self._words = {topic: str(cursor.after.get(topic, FROM_STATE)) for topic in topics}
        self._words.update(dict.fromkeys(cursor.ended, ENDED))

    def advance(self, topic: str, id: str | None) -> None:  # noqa: A002
        """Note the id of the last message of `topic`. Without an id, the topic would begin with its state."""
        self._words[topic] = id or FROM_STATE

    def end(self, topic: str) -> None:
        """Note that the viewer has seen the end of a task."""
        self._words[topic] = ENDED

    def text(self) -> str:
        """Return the cursor."""
        return ",".join(self._words.values())
