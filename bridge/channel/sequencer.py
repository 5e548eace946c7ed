"""The order of one topic: which reader gets which message next. No I/O, no lock, no thread.

A reader is live, or it catches up from the position after which it needs messages. The sequencer reads
history once for all readers that catch up. Live messages, history, repetitions and lost connections may come
in any order: a reader gets each message once and in order, or learns that its position is lost.
"""

import weakref
from collections.abc import Iterator, Sequence

from bridge.backends.base import History, States
from bridge.channel.history import is_lost, is_outdated, messages_after
from bridge.channel.history_cache import HistoryCache
from bridge.channel.reader import Delivery, Reader
from bridge.channel.topic_readers import TopicReaders
from bridge.channel.waiting import StatePage, Wait
from bridge.model.message import Gap, Message
from bridge.model.position import Position
from bridge.model.state import Retention

Request = Position | StatePage
"""What to ask the backend for: history from a position on, or a page of the state."""


class Sequencer:
    """One topic in one process. The backend keeps the messages for as long as `retention` requires."""

    def __init__(self, topic: str, retention: Retention) -> None:
        self.topic = topic
        self.readers = TopicReaders(topic)
        self._attached = False
        self._kept_messages = retention.messages
        # The request that is not answered yet, and the last request.
        self._request: Request | None = None
        self._last_request: Request | None = None
        # At the time of the request: the position of the topic, and the readers that needed history.
        self._requested_at: Position | None = None
        self._requested_for: dict[Reader, Position] = {}
        self._cache = HistoryCache(retention.seconds, retention.bytes)
        # The live messages since the request: the answer may be older than they are.
        self._since_request = HistoryCache(retention.seconds, retention.bytes)
        # The first page of the state, as long as somebody has it.
        self._first_page: weakref.ref[States] | None = None

    def join(self, reader: Reader, after: Position | None) -> bool:
        """Add a reader; return whether the backend must be asked for something before it is live."""
        needs_nothing = not reader.opens_with_state if after is None else after == self.readers.position
        if self._attached and needs_nothing:
            self.readers.make_live(reader)
            return False
        self.readers.waiting[reader] = Wait(after)
        return True

    @property
    def has_work(self) -> bool:
        """Whether the hub has something to do for the topic: a reader waits, or there is none any more."""
        return bool(self.readers.waiting or self.readers.paging) or not self.readers.live

    @property
    def cached(self) -> int:
        """The bytes of messages that are kept for readers that catch up."""
        return self._cache.size + self._since_request.size

    def drop_cache(self) -> None:
        """Drop those messages, but not the few that the answer to a request needs."""
        self._cache.clear()

    # Requests to the backend.

    def next_request(self) -> Request | None:
        """Return what to ask the backend for now, `None` for nothing.

        There is one request at a time. History and pages of the state alternate, so that a long history
        does not delay a reader that begins. If the positions of the readers contradict each other because
        one of them is forged, the request covers the history of all of them.
        """
        if not self._attached or self._request is not None:
            return None
        needed = self._needed_history()
        request: Request | None = self._needed_page()
        if needed and (request is None or isinstance(self._last_request, StatePage)):
            positions = needed.values()
            request = Position("", min(p.number for p in positions), min(p.mark for p in positions))
        if request is not None:
            self._request = self._last_request = request
            # The answer serves only these readers: it may know less than a position that is learnt later.
            self._requested_for = needed
            self._requested_at = self.readers.position
            self._since_request.clear(self.readers.position)
        return request

    def _needed_page(self) -> StatePage | None:
        for wait in (*self.readers.waiting.values(), *self.readers.paging.values()):
            if wait.needs_page:
                return StatePage(wait.next_page)
        return None

    def _needed_history(self) -> dict[Reader, Position]:
        """Return the readers that need history, and the position that each needs it from."""
        current = self.readers.position.number if self.readers.position is not None else 0
        return {
            reader: wait.after
            for reader, wait in self.readers.waiting.items()
            # A confirmed position ahead of the topic needs no request: the messages before it are coming.
            if wait.after is not None
            and wait.needs_history
            and not (wait.is_confirmed and wait.after.number > current)
        }

    # Answers of the backend.

    def on_disconnect(self) -> None:
        """The connection is lost: the live readers need what follows their position."""
        self.readers.make_all_wait(gap=self.readers.position is None)
        self._attached = False
        self.readers.position = self._request = None
        self._requested_for = {}
        self._cache.clear()
        self._since_request.clear()
        for wait in self.readers.waiting.values():
            wait.page = None
            wait.is_confirmed = False

    def on_attached(self, position: Position | None) -> Iterator[Delivery]:
        """The topic is attached, at `position`, or at `None` if the backend keeps no positions."""
        self._attached = True
        self.readers.position = position
        for reader, wait in list(self.readers.waiting.items()):
            if wait.after is None and not reader.opens_with_state:
                if wait.gap:
                    yield [reader], [Gap(topic=self.topic)]
                self.readers.make_live(reader)
        self.readers.make_caught_up_live()

    def on_messages(self, messages: Sequence[Message]) -> Iterator[Delivery]:
        """New messages were published."""
        fresh: list[Message] = []
        for message in messages if self._attached else ():
            position, current = message.position, self.readers.position
            if position is not None and current is not None:
                if position.number <= current.number and position.epoch == current.epoch:
                    continue
                if position.number != current.number + 1 or position.epoch != (
                    current.epoch or position.epoch
                ):
                    if fresh:
                        self._cache_live(fresh)
                        yield list(self.readers.live), fresh
                        fresh = []
                    yield from self.on_seen(position)
                    continue
                self.readers.position = position
            fresh.append(message)
        if fresh:
            self._cache_live(fresh)
            yield list(self.readers.live), fresh

    def _cache_live(self, messages: Sequence[Message]) -> None:
        """Keep live messages for readers that catch up."""
        if self.readers.position is not None:
            self._drop_outdated_cache()
            self._cache.add_live(messages)
            if self._request is not None:
                self._since_request.add_live(messages)

    def _drop_outdated_cache(self) -> None:
        if not self.readers.waiting and self._cache.is_outdated:
            self._cache.clear()

    def on_seen(self, position: Position) -> Iterator[Delivery]:
        """The topic is at `position`: ahead of the live readers, or in another epoch."""
        self._drop_outdated_cache()
        for wait in self.readers.waiting.values():
            wait.is_confirmed = False  # the backend may have lost the messages up to there
        current = self.readers.position
        if current is None or position == current:
            return
        if position.number > current.number and current.epoch in ("", position.epoch):
            self.readers.make_all_wait()
        else:
            yield from self.readers.lose_position(list(self.readers.live))
        self._cache.clear()
        self._since_request.clear()
        self.readers.position = position

    def on_history(self, history: History) -> Iterator[Delivery]:
        """The requested history, or the first messages of it."""
        self._request = None
        if not self._is_usable(history.end):
            return
        yield from self._follow_epoch(history.end)
        live: Sequence[Message] = []
        end = None
        self._cache.add_page(history.messages)
        if history.complete:
            live = self._live_after(history.end)
            end = live[-1].position if live else history.end
            self._continue_cache(history.end)
        messages = [*history.messages, *live]
        for reader, wait in list(self.readers.waiting.items()):
            if wait.after is None or not wait.needs_history:
                continue
            if self._requested_for.get(reader) is not wait.after:
                continue
            if is_lost(wait.after, history) or is_outdated(wait.page, history.end):
                yield from self.readers.lose_position([reader])
            else:
                yield from self.readers.give_history(reader, wait, messages, end)
        self.readers.make_caught_up_live()

    def on_states(self, page: States) -> Iterator[Delivery]:
        """The requested page of the state."""
        self._request = None
        if page.position is not None:
            if not self._is_usable(page.position):
                return
            yield from self._follow_epoch(page.position)
            self._continue_cache(page.position)
            if page.after is None:
                self._first_page = weakref.ref(page)
        readers = self.readers
        for reader, wait in list(readers.paging.items()):
            if wait.next_page == page.after:
                yield from readers.give_page(reader, wait, page)
        for reader, wait in list(readers.waiting.items()):
            if not wait.needs_page or wait.next_page != page.after or not reader.stateful:
                continue
            if wait.after is None:
                yield from readers.give_page(reader, wait, page)
            else:
                wait.page = page
                yield from readers.give_waiting_page(reader, wait)

    def serve_from_cache(self) -> Iterator[Delivery]:
        """Give readers what was read or received a moment ago, without a request to the backend."""
        first_page = self._first_page() if self._first_page is not None else None
        readers = self.readers
        for reader, wait in list(readers.waiting.items()):
            yield from readers.give_waiting_page(reader, wait)
            if wait.after is None and first_page is not None and first_page.position == readers.position:
                yield from readers.give_page(reader, wait, first_page)
            if not wait.needs_history or wait.after is None or readers.waiting.get(reader) is not wait:
                continue
            if self._is_still_kept(wait.after) and self._cache.reaches_back_to(wait.after):
                end = readers.position if self._cache.end == readers.position else None
                yield from readers.give_history(reader, wait, self._cache.messages, end)
        readers.make_caught_up_live()

    # Answers and live messages travel on two connections: an answer may be older or newer than they are.

    def _is_usable(self, position: Position) -> bool:
        """Return whether an answer given at `position` is of the topic's epoch or of a newer one.

        Messages of a newer epoch may have come before the answer.
        """
        current, before = self.readers.position, self._requested_at
        if current is None or before is None or current.epoch in (before.epoch, position.epoch):
            return True
        return position.epoch == before.epoch == ""

    def _follow_epoch(self, position: Position) -> Iterator[Delivery]:
        """Go on in the epoch of an answer if that is newer than the topic's."""
        current, before = self.readers.position, self._requested_at
        if current is None or before is None or not current.epoch:
            return
        if current.epoch == before.epoch and position.epoch != current.epoch:
            yield from self.on_seen(position)

    def _continue_cache(self, end: Position) -> None:
        """Add the live messages since the request to the cache, now that it is answered at `end`."""
        live = self._live_after(end)
        if self._cache.end == end and live:
            self._cache.add_live(live)
        elif self._cache.end not in (end, self.readers.position):
            self._cache, self._since_request = self._since_request, self._cache
            self._cache.is_brief = True

    def _live_after(self, end: Position) -> Sequence[Message]:
        """Return the live messages since `end`, or nothing if some of them are not known."""
        base = self._since_request.base
        if base is None or base.number > end.number or base.epoch not in ("", end.epoch):
            return []
        return messages_after(self._since_request.messages, end)

    def _is_still_kept(self, after: Position) -> bool:
        """Return whether the backend, too, would still give what follows `after`."""
        current = self.readers.position
        return current is None or after.number >= current.number - self._kept_messages
