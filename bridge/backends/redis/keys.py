"""The names of a topic's keys, and what stands in them."""

from collections.abc import Sequence
from typing import Any

from bridge.position import Position
from bridge.state import Retention, TopicState


class Keys:
    """Names within one namespace. The braces put all keys of a topic into one slot of a cluster."""

    def __init__(self, namespace: str, retention: Retention, *, logged: bool) -> None:
        self.prefix = f"{namespace}:".encode()
        self.seconds = max(1, round(retention.seconds))
        self._logged = logged

    def channel(self, topic: str) -> bytes:
        # Without a log the payload alone goes out: any Redis client can send and read by the topic's name.
        return self.log(topic) if self._logged else self.prefix + topic.encode()

    def meta(self, topic: str) -> bytes:
        return self._name(topic, b"meta")

    def log(self, topic: str) -> bytes:
        return self._name(topic, b"log")

    def entries(self, topic: str) -> bytes:
        return self._name(topic, b"entries")

    def parts(self, topic: str) -> bytes:
        return self._name(topic, b"parts")

    def shown(self, topic: str) -> bytes:
        return self._name(topic, b"shown")

    def lines(self, topic: str) -> bytes:
        return self._name(topic, b"lines")

    def members(self, topic: str) -> bytes:
        return self._name(topic, b"members")

    def durable(self, topic: str) -> bytes:
        return self._name(topic, b"durable")

    def _name(self, topic: str, part: bytes) -> bytes:
        return b"%s{t:%s}:%s" % (self.prefix, topic.encode(), part)


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
