"""How Pub/Sub carries a message.

Where messages are kept, a frame is `id type_size counts_size `, then type, counts and payload. The sizes are
in bytes. Type and counts may be empty: a message without them is `id 0 0 payload`.

Where no messages are kept, such a message is its payload alone, so any Redis client can publish and receive
it. A message with a type is the same frame with `MARK` instead of the id.
"""

from functools import lru_cache

from bridge.model.counts import Counts
from bridge.model.message import Message, make_message

MARK = b"bridge/1"
"""A payload without a type that begins like this is sent in a frame too."""


@lru_cache(1000)
def _type_of(name: bytes) -> str | None:
    """Return the type of a message, `None` for an empty one, and for one that no publisher may give."""
    event_type = name.decode()
    return event_type if event_type and event_type.isprintable() else None


def parse_frame(topic: str, data: bytes) -> Message:
    """Return the message in a frame, where messages are kept."""
    message_id, type_size, counts_size, rest = data.split(b" ", 3)
    if type_size == b"0" == counts_size:
        return Message(rest, topic=topic, id=message_id.decode())
    return _message(topic, message_id.decode(), int(type_size), int(counts_size), rest)


def parse_live_frame(topic: str, data: bytes) -> Message:
    """Return the message that Pub/Sub brought, where no messages are kept."""
    if data.startswith(MARK):
        try:
            mark, type_size, counts_size, rest = data.split(b" ", 3)
            if mark == MARK:
                return _message(topic, None, int(type_size), int(counts_size), rest)
        except (ValueError, TypeError):
            pass  # another program published a payload that begins like a frame
    return Message(data, topic=topic)


def live_frame(payload: bytes, event_type: str | None) -> bytes:
    """Return what Pub/Sub carries of a message without counts, where no messages are kept."""
    if not event_type and not payload.startswith(MARK):
        return payload
    name = (event_type or "").encode()
    return b"%s %d 0 %s%s" % (MARK, len(name), name, payload)


def parse_entry(topic: str, message_id: str, fields: list[bytes]) -> Message:
    """Return the message in an entry of the stream: names and values of payload, token, type and counts."""
    if len(fields) < 6:
        return Message(fields[1], topic=topic, id=message_id)
    event_type = _type_of(fields[5])
    counts = Counts.parse(fields[7]) if len(fields) > 7 else None
    return make_message(fields[1], topic=topic, id=message_id, type=event_type, counts=counts)


def _message(topic: str, message_id: str | None, type_size: int, counts_size: int, rest: bytes) -> Message:
    start = type_size + counts_size
    event_type = _type_of(rest[:type_size])
    counts = Counts.parse(rest[type_size:start]) if counts_size else None
    return make_message(rest[start:], topic=topic, id=message_id, type=event_type, counts=counts)
