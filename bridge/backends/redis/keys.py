"""The names of keys and Pub/Sub channels. No other module makes or reads one.

The keys of a topic, all in one slot of a cluster:

    meta       hash: epoch, number and mark of the last message; of the state its rank, the number of its
               entries and its fields (as `.name`); of a canvas its counts and the age of its last row
    log        stream: the messages, under ids `mark-number`; the mark is the server's time in milliseconds
    entries    list: the entries of the state
    parts      hash: stage and value of each part of a canvas, until the last part has ended
    row_order  sorted set: the parts that have a row, by importance and age
    rows       hash: the rows of those parts
    members    sorted set: the topics of a group, by the time they were first seen
    durable    hash: the positions of durable readers
"""

import re
from functools import lru_cache
from typing import NamedTuple

from bridge.model.publication import Publication

MAX_CACHED = 1000
"""Topics of which the names are cached, those used most recently."""


class Names(NamedTuple):
    """The channel and the keys of one topic."""

    channel: bytes
    meta: bytes
    log: bytes
    entries: bytes
    parts: bytes
    row_order: bytes
    rows: bytes
    members: bytes
    durable: bytes


class Keys:
    """Names within one namespace. The braces put all keys of a topic into one slot of a cluster.

    Two namespaces never share a name. So the character that ends a namespace is escaped within it: the brace
    in the name of a key, and the colon too in the name of a channel without a log.
    """

    def __init__(self, namespace: str, *, logged: bool, database: int) -> None:
        self._start = _escaped(namespace, "{").encode() + b":{t:"
        self._logged = logged
        # All databases of a server share its Pub/Sub channels; Celery's transport has the same prefix.
        self._channels = b"/%d." % database
        self._unlogged = _escaped(namespace, "{:").encode() + b":"
        self.of = lru_cache(MAX_CACHED)(self._names)

    def _names(self, topic: str) -> Names:
        """Return the names of a topic."""
        start = self._start + topic.encode()
        # Without a log any Redis client can publish and subscribe by the topic's name.
        channel = start + _end("log") if self._logged else self._unlogged + topic.encode()
        return Names(self._channels + channel, *(start + _end(key) for key in Names._fields[1:]))

    def around_topic(self) -> tuple[bytes, bytes, bytes, bytes]:
        """Return what stands before the name of a topic in its keys, and after it in meta, entries and rows.

        A script reads the states of a group's members, whose names only the server has.
        """
        return self._start, _end("meta"), _end("entries"), _end("rows")

    def channel(self, topic: str) -> bytes:
        return self.of(topic).channel

    def meta(self, topic: str) -> bytes:
        return self.of(topic).meta

    def of_message(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message is written to."""
        names = self.of(topic)
        return names.meta, names.log

    def of_change(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message with a change is written to."""
        names = self.of(topic)
        return names.meta, names.log, names.entries

    def of_part(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys that a message about a part of a canvas is written to."""
        names = self.of(topic)
        return names.meta, names.log, names.parts, names.row_order, names.rows

    def of_group(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys of a group that a message of a member is written to."""
        names = self.of(topic)
        return names.meta, names.log, names.members

    def of_everything(self, topic: str) -> tuple[bytes, ...]:
        """Return the keys of a topic, without the positions of its durable readers."""
        _channel, *keys, _durable = self.of(topic)
        return tuple(keys)

    def pattern(self) -> bytes:
        """Return the pattern for SCAN of the keys that say that a topic exists."""
        return _literally(self._start) + b"*" + _end("meta")

    def topic_of(self, meta: bytes) -> str | None:
        """Return the topic of a key that matches `pattern`, `None` for a name that is no text."""
        try:
            return meta[len(self._start) : -len(_end("meta"))].decode()
        except UnicodeDecodeError:
            return None

    def pattern_of_namespaces(self, topic: str) -> bytes:
        """Return the pattern for SCAN of the keys that say that a topic exists in any namespace."""
        return b"*" + _literally(b"{t:" + topic.encode() + _end("meta"))

    def namespace_of(self, meta: bytes) -> str:
        """Return the namespace of a key that matches `pattern_of_namespaces`."""
        escaped = meta.partition(b":{t:")[0].decode(errors="replace")
        return escaped.replace("%7B", "{").replace("%25", "%")

    def permissions_for(self, publication: Publication, command: str) -> str:
        """Return in words what a user who publishes a message must be allowed to do."""
        topics = [publication.topic]
        if publication.change is not None:
            topics += [group.topic for group in publication.change.groups]
        channels = " ".join(self.channel(topic).decode() for topic in topics)
        permissions = f"{command} on {channels}"
        if self._logged or publication.change is not None:
            keys = " ".join(f"{(self._start + topic.encode()).decode()}}}:*" for topic in topics)
            permissions = f"to read and write {keys} and {permissions}"
        return permissions


def _literally(key: bytes) -> bytes:
    """Return a pattern for SCAN that only `key` matches."""
    return re.sub(rb"([*?\[\]\\^])", rb"\\\1", key)


def _end(key: str) -> bytes:
    """Return what stands after the name of a topic in this key."""
    return b"}:" + key.encode()


def _escaped(namespace: str, characters: str) -> str:
    """Return `namespace` without any of `characters`, a different text for each namespace."""
    codes = {character: f"%{ord(character):02X}" for character in f"%{characters}"}
    escapes = "|".join(code[1:] for code in codes.values())
    return re.sub(f"%(?={escapes})|[{characters}]", lambda found: codes[found[0]], namespace)
