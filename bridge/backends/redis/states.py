"""Reads the state of a topic. In a cluster the states of a group's members are on other nodes."""

# `Any` in this module: redis-py declares no type for the answers of scripts.
from typing import Any

from bridge.backends.base import PAGE_BYTES, States
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.link import Argument
from bridge.backends.redis.publish import Call
from bridge.backends.redis.replies import parse_head, parse_states
from bridge.model.position import Position

MAX_NAMED = 20
"""Members of a group whose states are requested together where they are on different nodes."""


def states_call(keys: Keys, topic: str, after: str | None, one_slot: bool) -> Call:
    """Return the call that reads a page of the state of `topic`; `after` ended the page before it."""
    names = keys.of(topic)
    args: list[Argument] = [
        topic,
        after or "",
        PAGE_BYTES,
        MAX_NAMED if one_slot else 0,
        *keys.around_topic(),
    ]
    return Call("read_states", [names.meta, names.members], args)


class StatesPage:
    """Gathers a page of the state of a topic from the answers of one node or of several."""

    def __init__(self, after: str | None) -> None:
        self._after = after
        self._more: str | None = None
        self._position: Position | None = None
        self._states: list[Any] = []
        self._answers = 0
        self.requested = 0
        """How many answers were requested."""

    def add(self, answer: Any) -> list[str]:
        """Add an answer of `read_states`. Return the members whose states must be requested too."""
        head, states, names, more = answer
        self._answers += 1
        self._states += states
        if self._answers > 1:  # only the first answer is about the topic itself
            return []
        self._position = parse_head(head)
        self._more = more.decode() if more else None
        return [name.decode() for name in names]

    def states(self, topic: str, *, with_position: bool) -> States | None:
        """Return the page if all requested answers have been added, else `None`."""
        if self._answers < self.requested:
            return None
        position = self._position if with_position else None
        return States(topic, parse_states(self._states), position, self._after, self._more)
