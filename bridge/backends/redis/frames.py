"""How Pub/Sub carries messages.

Where messages are kept, a frame has all messages of a topic that one call of a script published. Its first
line is the id of the first message and, of each message, the sizes of type, counts and payload in bytes, with
spaces between them. After the line come type, counts and payload of each message. Type and counts may be
empty. Each message has the next number, and epoch and mark are the same.

Where no messages are kept, a message without type and counts is its payload alone, so any Redis client can
publish and receive it. Another one is `MARK`, the sizes of type and counts, and after another space type,
counts and payload.
"""

from contextlib import suppress
from functools import lru_cache

from bridge.model.counts import Counts
from bridge.model.message import Message, make_message
from bridge.model.position import position_of_id

MARK = b"bridge/1"
"""A payload without a type that begins like this is sent in a frame too."""


@lru_cache(1000)
def _type_of(name: bytes) -> str | None:
    """Return the type of a message, `None` for an empty one, and for one that no publisher may give."""
    try:
        event_type = name.decode()
    except UnicodeDecodeError:  # another program wrote it
        return None
    return event_type if event_type and event_type.isprintable() else None


def parse_frame(topic: str, data: bytes) -> list[Message]:
    """Return the messages in a frame, where messages are kept: none in what another program published."""
    try:
        return _messages_in(topic, data)
    except ValueError:
        return []


def _messages_in(topic: str, data: bytes) -> list[Message]:
    """Raises `ValueError`."""
    head, texts = data.split(b"\n", 1)
    first_id, *words = head.decode().split(" ")
    epoch, number, mark = position_of_id(first_id)
    if len(words) == 3:
        return [_message(topic, first_id, int(words[0]), int(words[1]), texts)]
    sizes = list(map(int, words))
    messages: list[Message] = []
    start = 0
    for type_size, counts_size, payload_size in zip(sizes[::3], sizes[1::3], sizes[2::3], strict=True):
        end = start + type_size + counts_size + payload_size
        message_id = f"{epoch}-{number + len(messages)}-{mark}"
        messages.append(_message(topic, message_id, type_size, counts_size, texts[start:end]))
        start = end
    return messages


def parse_live_frame(topic: str, data: bytes) -> list[Message]:
    """Return the one message that Pub/Sub brought, where no messages are kept."""
    if data.startswith(MARK):
        try:
            mark, type_size, counts_size, rest = data.split(b" ", 3)
            if mark == MARK:
                return [_message(topic, None, int(type_size), int(counts_size), rest)]
        except (ValueError, TypeError):
            pass  # another program published a payload that begins like a frame
    return [Message(data, topic=topic)]


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
    counts = None
    if len(fields) > 7:
        with suppress(ValueError):  # another program wrote it
            counts = Counts.parse(fields[7])
    return make_message(fields[1], topic=topic, id=message_id, type=event_type, counts=counts)


def _message(topic: str, message_id: str | None, type_size: int, counts_size: int, text: bytes) -> Message:
    """Return the message whose type, counts and payload are `text`."""
    if not type_size and not counts_size:
        return Message(text, topic=topic, id=message_id)
    start = type_size + counts_size
    event_type = _type_of(text[:type_size])
    counts = Counts.parse(text[type_size:start]) if counts_size else None
    return make_message(text[start:], topic=topic, id=message_id, type=event_type, counts=counts)
