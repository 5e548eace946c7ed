"""How Pub/Sub carries a message.

Where messages are kept, a frame is `id kind_size counts_size `, then kind, counts and payload. The sizes are
in bytes. Kind and counts may be empty: a plain message is `id 0 0 payload`.

Where no messages are kept, a plain message is its payload alone, so any Redis client can publish and receive
it. A message with a kind is the same frame with `MARK` instead of the id.
"""

from functools import lru_cache

from bridge.model.counts import Counts
from bridge.model.message import Message, make_message

MARK = b"bridge/1"
"""A plain payload that begins like this is sent in a frame too."""

_kind_of = lru_cache(1000)(bytes.decode)


def parse_frame(topic: str, data: bytes) -> Message:
    """Return the message in a frame, where messages are kept."""
    message_id, kind_size, counts_size, rest = data.split(b" ", 3)
    if kind_size == b"0" == counts_size:
        return Message(rest, topic=topic, id=message_id.decode())
    return _message(topic, message_id.decode(), int(kind_size), int(counts_size), rest)


def parse_live_frame(topic: str, data: bytes) -> Message:
    """Return the message that Pub/Sub brought, where no messages are kept."""
    if data.startswith(MARK):
        try:
            mark, kind_size, counts_size, rest = data.split(b" ", 3)
            if mark == MARK:
                return _message(topic, None, int(kind_size), int(counts_size), rest)
        except (ValueError, TypeError):
            pass  # another program published a payload that begins like a frame
    return Message(data, topic=topic)


def live_frame(payload: bytes, kind: str | None) -> bytes:
    """Return what Pub/Sub carries of a message without counts, where no messages are kept."""
    if not kind and not payload.startswith(MARK):
        return payload
    name = (kind or "").encode()
    return b"%s %d 0 %s%s" % (MARK, len(name), name, payload)


def parse_entry(topic: str, message_id: str, fields: list[bytes]) -> Message:
    """Return the message in an entry of the stream: names and values of payload, token, kind and counts."""
    if len(fields) < 6:
        return Message(fields[1], topic=topic, id=message_id)
    kind = _kind_of(fields[5]) or None
    counts = Counts.parse(fields[7]) if len(fields) > 7 else None
    return make_message(fields[1], topic=topic, id=message_id, kind=kind, counts=counts)


def _message(topic: str, message_id: str | None, kind_size: int, counts_size: int, rest: bytes) -> Message:
    start = kind_size + counts_size
    kind = _kind_of(rest[:kind_size]) or None
    counts = Counts.parse(rest[kind_size:start]) if counts_size else None
    return make_message(rest[start:], topic=topic, id=message_id, kind=kind, counts=counts)
