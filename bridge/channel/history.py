"""Positions and the messages around them. No I/O."""

from collections.abc import Sequence

from bridge.backends.base import History, States
from bridge.model.message import Message
from bridge.model.position import ORIGIN, Position


def known_position(message: Message) -> Position:
    """Return the position of a message of a backend that keeps positions."""
    assert message.position is not None, "only backends that keep positions have a history"
    return message.position


def messages_after(messages: Sequence[Message], position: Position) -> Sequence[Message]:
    """Return those of `messages`, which are numbered without a hole, that follow `position`."""
    if not messages or position.is_beginning:
        return messages
    return messages[max(0, position.number + 1 - known_position(messages[0]).number) :]


def is_lost(position: Position, history: History) -> bool:
    """Return whether `history` lacks messages that follow `position`, or the topic has no such position."""
    if position.is_beginning:
        return False
    end = history.end
    if position.number > end.number or (position != ORIGIN and position.epoch != end.epoch):
        return True
    if position.number == end.number:
        return position.mark != end.mark
    if not history.messages:
        return True
    first, last = known_position(history.messages[0]), known_position(history.messages[-1])
    if position.number < first.number:
        # The message just before the first one cannot be compared: it is not here. If the backend still kept
        # it under the requested mark, it would be here.
        is_kept = position.number >= history.oldest
        return position.number + 1 < first.number or is_kept or position.mark > first.mark
    if position.number > last.number:
        return position.mark < last.mark
    return position.mark != known_position(history.messages[position.number - first.number]).mark


def is_outdated(page: States | None, end: Position) -> bool:
    """Return whether the topic, now at `end`, was flushed or replaced after `page` was read."""
    if page is None or page.position is None:
        return False
    return page.position.number > end.number or page.position.epoch != end.epoch
