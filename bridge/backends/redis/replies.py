"""Parses what the server answers: positions, messages and states.

Any: an answer is a list of lists of bytes, whose shape the script that is named describes.
"""

from collections.abc import Sequence

# `Any` in this module: an answer is a list of lists of bytes, whose shape depends on the script.
from typing import Any

from bridge.backends.base import History
from bridge.backends.redis.frames import parse_entry
from bridge.model.counts import Counts
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.state import TopicState


def parse_head(head: Sequence[bytes | None]) -> Position:
    """Return the position that epoch, number and mark of a topic name, the origin if it has none."""
    epoch, number, mark = head
    return Position((epoch or b"").decode(), int(number or 0), int(mark or 0))


def parse_messages(topic: str, epoch: bytes | None, entries: Sequence[Any]) -> list[Message]:
    """Return the entries of a stream as messages, from the last missing number on.

    So a reader that needs those before it finds that they are missing.
    """
    text = (epoch or b"").decode()
    messages: list[Message] = []
    last = 0
    for entry_id, fields in entries:
        mark, number = entry_id.decode().split("-")
        if messages and int(number) != last + 1:
            messages.clear()
        last = int(number)
        messages.append(parse_entry(topic, f"{text}-{number}-{mark}", fields))
    return messages


def parse_history(topic: str, answer: Sequence[Any]) -> History:
    """Return the page of messages that `read_history` found."""
    head, entries, oldest, is_last = answer
    end = parse_head(head)
    oldest_number = int(oldest[0][0].split(b"-")[1]) if oldest else end.number + 1
    return History(topic, parse_messages(topic, head[0], entries), end, bool(is_last), oldest_number)


def parse_states(states: Sequence[Any]) -> list[TopicState]:
    """Return the states that `read_states` found."""
    return [_state(*state) for state in states]


def parse_fields(name: bytes, pairs: Sequence[bytes]) -> TopicState:
    """Return the state with these names and values of its hash, without entries and rows."""
    return _state(name, list(pairs), [], [])


def _state(name: bytes, pairs: list[bytes], entries: list[bytes], rows: list[bytes]) -> TopicState:
    held = dict(zip(pairs[::2], pairs[1::2], strict=True))
    fields = {key[1:].decode(): value for key, value in held.items() if key.startswith(b".")}
    omitted = max(0, int(held.get(b"entries", 0)) - len(entries))
    counts = Counts.parse(held[b"counts"]) if b"counts" in held else None
    return TopicState(name.decode(), fields, entries, omitted, rows, counts)
