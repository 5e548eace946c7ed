"""The readers of one topic: those that are live, and those that catch up. No I/O, no lock, no thread.

A live reader gets each new message at once. A reader that catches up gets history and pages of the state
until it has got everything up to the position of the topic. Then it is live.
"""

from collections.abc import Iterator, Sequence

from bridge.backends.base import States
from bridge.channel.history import known_position, messages_after
from bridge.channel.reader import Delivery, Reader
from bridge.channel.waiting import Wait
from bridge.errors import PositionLost
from bridge.model.message import Gap, Message
from bridge.model.position import Position

_LOST = (
    "what follows the reader's position in {!r} is no longer kept, or the server that knew the position was "
    "flushed or replaced; begin again, after=bridge.BEGINNING for all that is kept"
)


class TopicReaders:
    """The readers of one topic in this process."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self.position: Position | None = None
        """Where the live readers are; `None` without a connection, or if the backend keeps no positions."""
        self.live: dict[Reader, None] = {}
        self.waiting: dict[Reader, Wait] = {}
        self.paging: dict[Reader, Wait] = {}
        """Live readers that still need pages of the state, where the backend keeps no positions."""

    def __iter__(self) -> Iterator[Reader]:
        yield from self.live
        yield from self.waiting

    def __bool__(self) -> bool:
        return bool(self.live or self.waiting)

    def leave(self, reader: Reader) -> None:
        """Remove a reader."""
        self.live.pop(reader, None)
        self.waiting.pop(reader, None)
        self.paging.pop(reader, None)

    def has_room(self, reader: Reader) -> None:
        """Note that a reader, which was full, has room again."""
        for readers in (self.waiting, self.paging):
            if reader in readers:
                readers[reader].full = False

    def make_live(self, reader: Reader) -> None:
        """Let a reader get new messages from now on."""
        self.waiting.pop(reader, None)
        self.live[reader] = None
        reader.establish(self._topic)

    def make_caught_up_live(self) -> None:
        """Let the readers that have got everything up to the position of the topic get new messages."""
        for reader, wait in list(self.waiting.items()):
            if wait.after is not None and wait.after == self.position and wait.next_page is None:
                self.make_live(reader)

    def make_all_wait(self, *, gap: bool = False) -> None:
        """Let the live readers catch up from the position where they are."""
        for reader in self.live:
            self.waiting[reader] = Wait(self.position, gap)
        self.live.clear()
        self.paging.clear()

    def lose_position(self, readers: Sequence[Reader]) -> Iterator[Delivery]:
        """Close readers whose history cannot be had; those that are stateful begin with the state again."""
        for reader in readers:
            self.leave(reader)
            if reader.stateful:
                self.waiting[reader] = Wait(None, gap=True)
        closed = [reader for reader in readers if not reader.stateful]
        if closed:
            yield closed, PositionLost(_LOST.format(self._topic))

    def give_history(
        self, reader: Reader, wait: Wait, messages: Sequence[Message], end: Position | None
    ) -> Iterator[Delivery]:
        """Give a reader what it needs of `messages`. With an `end`, no message is kept after them."""
        assert wait.after is not None
        reader.establish(self._topic)
        needed, until = messages_after(messages, wait.after), end
        if wait.page is not None and wait.page.position is not None:
            until = wait.page.position
            needed = [message for message in needed if known_position(message).number <= until.number]
        given = needed[: reader.room(needed)] if needed else needed
        if given:
            wait.after = given[-1].position
            # Between two pages of the state there is no position from which a reader could go on later.
            is_between_pages = wait.page is not None
            yield [reader], [message.without_id() for message in given] if is_between_pages else given
        if len(given) < len(needed):
            wait.full = True
        elif end is not None and until is not None and end.number >= until.number:
            wait.after, wait.is_confirmed = until, True
        yield from self.give_waiting_page(reader, wait)

    def give_waiting_page(self, reader: Reader, wait: Wait) -> Iterator[Delivery]:
        """Give a reader the page of the state that waits for it, if the reader has reached its position."""
        page, after = wait.page, wait.after
        if page is None or page.position is None or after is None or wait.full:
            return
        if page.position.epoch != (after.epoch or page.position.epoch) or page.position.number < after.number:
            yield from self.lose_position([reader])
        elif after == page.position:
            yield from self._give_page_if_room(reader, wait, page)

    def give_page(self, reader: Reader, wait: Wait, page: States) -> Iterator[Delivery]:
        """Give a reader the page of the state that it needs, or note that it is full."""
        if wait.needs_page and reader.stateful:
            yield from self._give_page_if_room(reader, wait, page)

    def _give_page_if_room(self, reader: Reader, wait: Wait, page: States) -> Iterator[Delivery]:
        if not reader.room([page]):
            wait.full = True
            return
        reader.establish(self._topic)
        self.paging.pop(reader, None)
        if page.position is None:
            self.make_live(reader)
            if page.more is not None:
                self.paging[reader] = Wait(None, next_page=page.more)
        elif page.more is None and page.position == self.position:
            self.make_live(reader)
        else:
            self.waiting[reader] = Wait(page.position, next_page=page.more, is_confirmed=True)
        yield [reader], [Gap(topic=self._topic), page] if wait.gap else [page]
