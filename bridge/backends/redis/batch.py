"""What the script that publishes takes: messages as keys and arguments."""

from collections.abc import Callable, Sequence
from typing import Any

from bridge.backends.redis import publishing
from bridge.backends.redis.keys import Keys
from bridge.model.publication import Change, Part, Publication


class Batch:
    """The keys and arguments of one call. Each topic's keys are named once, however many messages it has."""

    def __init__(self, keys: Keys, *, grouped: bool) -> None:
        self.keys: list[bytes] = []
        self.args: list[Any] = []
        self._names = keys
        self._grouped = grouped
        self._places: dict[object, int] = {}
        self._kinds: set[str] = set()
        self._again = False

    def add(self, publication: Publication, known: bytes) -> None:
        """Add a message; `known` is a place of its topic that was confirmed once."""
        topic, payload, change = publication.topic, publication.payload, publication.change
        names = self._names
        words: list[Any] = [payload]
        kind, own = "message", names.of_message
        if change is not None:
            group = self._place(change.group, names.of_group) if self._grouped else 0
            words = [group, names.channel(change.group), topic.encode(), int(change.listed)]
            if publication.part is None:
                kind, own = "change", names.of_change
                words += [payload, change.rank, int(change.final), int(change.entry), *fields_of(change)]
            else:
                kind, own = "part", names.of_part
                words += part_of(payload, change, publication.part)
        self._kinds.add(kind)
        self._again |= publication.repeated
        place = self._place(topic, own)
        self.args += [
            kind,
            place,
            names.channel(topic),
            int(publication.repeated),
            publication.token,
            known,
            len(words),
            *words,
        ]

    @property
    def script(self) -> str:
        """The script that publishes these messages."""
        parts = "part" in self._kinds
        return publishing.script(changes=parts or "change" in self._kinds, parts=parts, again=self._again)

    def _place(self, topic: str, keys_of: Callable[[str], Sequence[bytes]]) -> int:
        """Return where the keys of a topic begin, counted from 1."""
        asked = (topic, keys_of)
        place = self._places.get(asked)
        if place is None:
            place = self._places[asked] = len(self.keys) + 1
            self.keys += keys_of(topic)
        return place


def size_of(publication: Publication) -> int:
    """Return about how many bytes a message sends to the server."""
    change, size = publication.change, len(publication.payload)
    if change is not None:
        size += sum(map(len, change.fields.values()))
    part = publication.part
    if part is not None:
        size += len(part.row) + (0 if part.follow_up is None else size_of(part.follow_up))
    return size


def fields_of(change: Change) -> list[bytes | str]:
    """Return the names and values of the fields that a change sets."""
    return [word for name, value in change.fields.items() for word in (f".{name}", value)]


def part_of(payload: bytes, change: Change, part: Part) -> list[Any]:
    """Return what the script that counts takes."""
    words: list[Any] = [part.name, part.size, part.stage, part.value, part.row, ""]
    messages = [(payload, change)]
    if part.follow_up is not None and part.follow_up.change is not None:
        messages.append((part.follow_up.payload, part.follow_up.change))
    for text, its_change in messages:
        fields = fields_of(its_change)
        words += [text, its_change.rank, int(its_change.final), len(fields), *fields]
    return words
