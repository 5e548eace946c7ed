"""Messages as subscriptions deliver them."""

from collections.abc import Callable
from typing import Self

from bridge.errors import ConfigurationError
from bridge.model.counts import Counts
from bridge.model.position import Position, position_of_id


class Message(bytes):
    """A payload as received: the published bytes, with their topic and id."""

    # All attributes are text, so the garbage collector does not need to traverse the many messages.
    topic: str
    id: str | None
    """The id for `subscribe(after=...)` to continue after this message, or `None` if none are kept."""
    type: str | None
    """The type that it was published with, the `event:` of a stream; `None` if it has none."""
    counted: bool = False
    """Whether the payload has the figures of a canvas: the counts of its parts at this message."""
    _acknowledge: Callable[[Position], None] | None = None

    def __new__(
        cls,
        payload: bytes = b"",
        *,
        topic: str,
        id: str | None = None,  # noqa: A002
        type: str | None = None,  # noqa: A002
    ) -> Self:
        message = bytes.__new__(cls, payload)
        message.topic = topic
        message.id = id
        message.type = type
        return message

    @property
    def position(self) -> Position | None:
        """Its position in the topic, or `None` if the backend keeps no messages."""
        return None if self.id is None else position_of_id(self.id)

    def for_reader(self, acknowledge: Callable[[Position], None]) -> Self:
        """Return a copy whose `ack` calls `acknowledge`. All readers share the message itself."""
        copy = type(self)(self, topic=self.topic, id=self.id, type=self.type)
        copy.counted = self.counted
        copy._acknowledge = acknowledge
        return copy

    def without_id(self) -> Self:
        """Return a copy without an id, so that no subscription can continue after it."""
        copy = type(self)(self, topic=self.topic, type=self.type)
        copy.counted = self.counted
        return copy

    def ack(self) -> None:
        """Note that the durable reader has dealt with this message and all before it.

        A later subscription of the same durable name begins after it. Raises `ConfigurationError` on a
        message that no durable reader received, and `PublishError` if the backend did not store it.
        """
        position = self.position
        if self._acknowledge is None or position is None:
            raise ConfigurationError("ack() is for messages of a durable reader: subscribe(durable='a name')")
        self._acknowledge(position)

    def __repr__(self) -> str:
        event_type = "" if self.type is None else f" type={self.type!r}"
        return f"<{type(self).__name__} {bytes(self)!r} topic={self.topic!r} id={self.id!r}{event_type}>"


class Gap(Message):
    """Marks a place in a subscription where messages may be missing. It is empty, and nobody publishes it.

    If the backend keeps no messages, a subscription gets it once after every outage, before the next message.
    A reader that keeps a state reads the state again. Another reader may skip it:
    `if isinstance(message, bridge.Gap): continue`.
    """


def make_message(
    payload: bytes,
    *,
    topic: str,
    id: str | None = None,  # noqa: A002
    type: str | None,  # noqa: A002
    counts: Counts | None,
) -> Message:
    """Return the message that readers get, from what a backend has stored."""
    if counts is None:
        return Message(payload, topic=topic, id=id, type=type)
    message = Message(counts.append_to(payload, type), topic=topic, id=id, type=type)
    message.counted = True
    return message
