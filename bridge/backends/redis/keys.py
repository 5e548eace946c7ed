"""The names of a topic's keys, and what stands in them."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention, TopicState

KNOWN_NAMES = 1000
"""Topics of which the names are kept at hand, those used most recently."""


class Names(NamedTuple):
    """What one topic is called."""

    channel: bytes
    meta: bytes
    log: bytes
    entries: bytes
    parts: bytes
    shown: bytes
    lines: bytes
    members: bytes
    durable: bytes


class Keys:
    """Names within one namespace. The braces put all keys of a topic into one slot of a cluster.

    Two namespaces never share a name. So the sign that ends a namespace is written in another way within it:
    the brace in that of a key, the colon too in that of a channel without a log.
    """

    def __init__(self, namespace: str, retention: Retention, *, logged: bool, database: int) -> None:
        self.prefix = _escaped(namespace, "{").encode() + b":"
        self.seconds = max(1, round(retention.seconds))
        self.unended = max(1, round(retention.unended))
        self._logged = logged
        # All databases of a server share its Pub/Sub channels; Celery's transport has the same prefix.
        self._channels = b"/%d." % database
        self._unlogged = _escaped(namespace, "{:").encode() + b":"
        self.of = lru_cache(KNOWN_NAMES)(self._names)

    def _names(self, topic: str) -> Names:
        """Return the names of a topic."""
        tag = b"%s{t:%s}:" % (self.prefix, topic.encode())
        # Without a log the payload alone goes out: any Redis client can send and read by the topic's name.
        channel = tag + b"log" if self._logged else self._unlogged + topic.encode()
        return Names(self._channels + channel, *(tag + part.encode() for part in Names._fields[1:]))

    def channel(self, topic: str) -> bytes:
        return self.of(topic).channel

    def meta(self, topic: str) -> bytes:
        return self.of(topic).meta

    def log(self, topic: str) -> bytes:
        return self.of(topic).log

    def of_message(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message is written to."""
        return self.of(topic)[1:3]

    def of_change(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message with a change is written to."""
        return self.of(topic)[1:4]

    def of_part(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message of a part is written to."""
        return self.of(topic)[1:7]

    def of_group(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message of a member is written to."""
        names = self.of(topic)
        return names.meta, names.log, names.members

    def of_everything(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys of what is kept of a topic, but for the places of its durable readers."""
        return self.of(topic)[1:8]

    def needed(self, publication: Publication, command: str) -> str:
        """Return in words what a user must be allowed to do who publishes a message."""
        topics = (
            [publication.topic]
            if publication.change is None
            else [publication.topic, publication.change.group]
        )
        channels = " ".join(self.channel(topic).decode() for topic in topics)
        needed = f"{command} on {channels}"
        if self._logged or publication.change is not None:
            keys = " ".join(f"{self.meta(topic).removesuffix(b'meta').decode()}*" for topic in topics)
            needed = f"to read and write {keys} and {needed}"
        return needed


def _escaped(namespace: str, signs: str) -> str:
    """Return `namespace` without any of `signs`, another for each namespace."""
    codes = {sign: f"%{ord(sign):02X}" for sign in f"%{signs}"}
    codes_of_signs = "|".join(code[1:] for code in codes.values())
    return re.sub(f"%(?={codes_of_signs})|[{signs}]", lambda found: codes[found[0]], namespace)


def position_of(head: Sequence[bytes | None]) -> Position:
    """Return the position that the three fields of `meta` name, or the origin if there are none."""
    epoch, number, mark = head
    return Position((epoch or b"").decode(), int(number or 0), int(mark or 0))


def position_in(text: bytes) -> Position:
    """Return the position written as `epoch number mark`."""
    return position_of(text.split(b" "))


def states_of(rows: Sequence[Any]) -> list[TopicState]:
    """Return what READ_STATES found."""
    states = []
    for name, pairs, entries, lines in rows:
        held = dict(zip(pairs[::2], pairs[1::2], strict=True))
        fields = {key[1:].decode(): value for key, value in held.items() if key.startswith(b".")}
        omitted = int(held.get(b"entries", 0)) - len(entries)
        states.append(TopicState(name.decode(), fields, list(entries), max(0, omitted), list(lines)))
    return states
