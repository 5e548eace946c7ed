"""The outbox: publishes in the background, so that whoever has something to say neither waits nor fails.

While the backend is out of reach messages queue up and are sent in order when it is back. Where they are too
many, the oldest give way: first entries, whose number is told in their place, and only then others.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from bridge.channel.transport import Transport
from bridge.errors import MessageRefused, PublishError
from bridge.model.publication import Publication
from bridge.support.backoff import backoff
from bridge.support.fork import reset_in_child
from bridge.support.validate import check_payload
from bridge.tasks import events

logger = logging.getLogger("bridge.tasks.publisher")

LIMIT = 10_000
"""Messages that may wait."""

BATCH = 200
"""Messages sent in one go."""

PAUSE = 0.01
"""Seconds between two batches: who says much is sent in batches, who says little is sent at once."""


class Source(Protocol):
    """Something to be asked for messages now and then."""

    due: float
    """The `time.monotonic()` before which it should not be asked."""
    waiting: bool
    """Whether it is to be asked again."""

    def take(self) -> Publication | None:
        """Return what is new, and set `due` and `waiting`. Not called twice at once."""

    def reset_after_fork(self) -> None:
        """Nobody in the child knows of this source."""


class _Waiting(NamedTuple):
    publication: Publication
    stands_for: int = 0
    """How many entries were left out here, if that is what the message says."""

    @property
    def is_entry(self) -> bool:
        return self.publication.change is not None and self.publication.change.entry


class BackgroundPublisher:
    """Sends what it is given through one channel. Safe to share by threads and greenlets, and to fork."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.dropped = 0
        self._refused = False  # whether a refused message was logged
        self._sources: dict[str, Source] = {}
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards everything below. May be taken twice: the garbage collector closes generators that report.
        self._changed = threading.Condition(threading.RLock())
        self._publications: deque[_Waiting] = deque()
        self._entries = 0  # of the letters
        # By topic, the one due first in front: each goes to the end when it was asked.
        for source in self._sources.values():
            source.reset_after_fork()
        self._sources = {}
        self._sending = 0
        self._idle = False
        self._awaited = 0  # how many wait for the outbox to be empty
        self._down = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """What waits is the parent's to send."""
        self._reset()

    def takes(self, payload: bytes) -> bool:
        """Whether `payload` is not too large."""
        try:
            check_payload(payload, self._transport.max_payload)
        except ValueError:
            return False
        return True

    def put(self, publication: Publication) -> None:
        """Queue a message. Never waits; raises `ValueError` for a payload that is too large."""
        publication.payload = check_payload(publication.payload, self._transport.max_payload)
        change, topic = publication.change, publication.topic
        with self._changed:
            if change is not None and not change.entry and topic in self._sources:
                self._ask(topic, self._sources[topic])
            self._append(publication)

    def watch(self, topic: str, source: Source) -> None:
        """Send what `source` has to say: now if it is due, then whenever it is, as long as it is `waiting`.

        It is also asked before the next message that changes the state of `topic`, so that it is never late
        for the last word.
        """
        with self._changed:
            if source.due <= time.monotonic():
                self._ask(topic, source)
            else:
                source.waiting = True
                self._sources[topic] = source
                self._wake()

    def _ask(self, topic: str, source: Source) -> None:
        """Requires holding `_changed`."""
        self._sources.pop(topic, None)
        message = source.take()
        if source.waiting:
            self._sources[topic] = source
            self._wake()
        if message is not None:
            self._append(message)

    def _ask_those_due(self) -> float | None:
        """Return the seconds until the next is due, if one is. Requires holding `_changed`."""
        while self._sources:
            topic, source = next(iter(self._sources.items()))
            wait = source.due - time.monotonic()
            if wait > 0:
                return wait
            try:
                self._ask(topic, source)
            except Exception:
                logger.exception("the progress of a task could not be told")
        return None

    def _append(self, publication: Publication) -> None:
        """Requires holding `_changed`."""
        if len(self._publications) >= LIMIT:
            self._make_room()
        waiting = _Waiting(publication)
        self._publications.append(waiting)
        self._entries += waiting.is_entry
        self._wake()

    def _wake(self) -> None:
        """Requires holding `_changed`."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="bridge-outbox", daemon=True)
            thread.start()  # if it cannot, the next message tries again
            self._thread = thread
        if self._idle:
            self._changed.notify_all()

    def _make_room(self) -> None:
        """Leave out the older half of the entries, or the oldest message if few are entries.

        Requires holding `_changed`.
        """
        surplus = self._entries // 2
        if surplus < LIMIT // 4:
            self._entries -= self._publications.popleft().is_entry
            self.dropped += 1
            return
        kept: list[_Waiting] = []
        gone: dict[str, list[_Waiting]] = {}
        places: dict[str, int] = {}
        while surplus:
            waiting = self._publications.popleft()
            if not waiting.is_entry:
                kept.append(waiting)
                continue
            topic = waiting.publication.topic
            surplus -= 1
            self.dropped += not waiting.stands_for
            gone.setdefault(topic, []).append(waiting)
            if places.setdefault(topic, len(kept)) == len(kept):
                kept.append(waiting)
        for topic, those in gone.items():
            kept[places[topic]] = _left_out(topic, those)
        self._publications.extendleft(reversed(kept))
        self._entries = sum(waiting.is_entry for waiting in self._publications)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all is sent; return whether it is.

        Returns at once while the backend is out of reach: an outage is waited for once, not by every task.
        """
        with self._changed:
            self._awaited += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._down or not (self._publications or self._sending), timeout)
            self._awaited -= 1
            sent = not (self._publications or self._sending)
            if not sent and not self._down:
                self._go_down(f"no answer within {timeout:g} s")
            return sent

    @property
    def down(self) -> bool:
        """Whether the backend was out of reach when it was last tried."""
        return self._down

    def close(self) -> None:
        """Send what waits if the backend can be reached, then stop."""
        self.flush(1.0)
        with self._changed:
            unsent = len(self._publications) + self._sending
            if unsent:
                self.dropped += unsent
                logger.warning("%d task events could not be sent before the outbox was closed", unsent)
            self._stopped = True
            self._changed.notify_all()
        self._transport.close()

    def _go_down(self, why: object) -> None:
        """Requires holding `_changed`."""
        if not self._down:
            self._down = True
            logger.warning("task events cannot be sent and wait until the backend is back: %s", why)
            self._changed.notify_all()

    def _come_up(self) -> None:
        """Requires holding `_changed`."""
        if self._down:
            self._down = False
            logger.warning("task events are sent again; %d were dropped so far", self.dropped)

    def _run(self) -> None:
        attempt = 0
        publications: list[Publication] = []
        while self._mine():
            if not publications:
                publications = self._take()
                continue
            began = time.monotonic()
            try:
                sent = self._send(publications)
            except PublishError as error:
                attempt = self._wait_out(error, attempt)
                _mark_repeated(publications)
                continue
            # Those that are left were tried too: any of them may have been published.
            attempt, publications = 0, publications[sent:]
            _mark_repeated(publications)
            self._sent(began, len(publications))

    def _mine(self) -> bool:
        """Whether this thread is to go on: gevent carries a copy of it into a forked child."""
        with self._changed:
            return not self._stopped and self._thread is threading.current_thread()

    def _take(self) -> list[Publication]:
        """Wait for messages and take what waits, as far as it goes in one batch."""
        with self._changed:
            wait = self._ask_those_due()
            if not self._publications:
                self._idle = True
                self._changed.wait(wait)  # the loop around this looks again
                self._idle = False
            # Where no messages are kept, one that is repeated would appear twice: fewer are at risk.
            most = BATCH if self._transport.backend.replays else 1
            taken = [self._publications.popleft() for _ in range(min(most, len(self._publications)))]
            self._entries -= sum(waiting.is_entry for waiting in taken)
            self._sending = len(taken)
            return [waiting.publication for waiting in taken]

    def _sent(self, began: float, left: int) -> None:
        with self._changed:
            self._sending = left
            self._come_up()
            if not (self._publications or left):
                self._changed.notify_all()
                rest = began + PAUSE - time.monotonic()
                self._changed.wait_for(lambda: self._awaited or self._stopped, max(0.0, rest))

    def _send(self, publications: list[Publication]) -> int:
        """Send some of `publications`; return how many need not be sent any more."""
        try:
            return self._transport.publish_many(publications)
        except MessageRefused as error:
            # The first of them: to wait for it would hold up all others.
            self.dropped += 1
            if not self._refused:
                self._refused = True
                logger.error(
                    "an event of %r was dropped, further ones are only counted: %s",
                    publications[0].topic,
                    error,
                )
            return 1
        except PublishError:
            raise
        except Exception:
            if len(publications) > 1:
                _mark_repeated(publications)
                return self._send(publications[:1])
            self.dropped += 1
            logger.exception("a task event could not be sent and was dropped")
            return 1

    def _wait_out(self, error: PublishError, attempt: int) -> int:
        with self._changed:
            self._go_down(error)
            self._changed.wait_for(lambda: self._stopped, backoff(attempt))
        return attempt + 1


def _mark_repeated(publications: Iterable[Publication]) -> None:
    for publication in publications:
        publication.repeated = True


def _left_out(topic: str, those: list[_Waiting]) -> _Waiting:
    """Return what stands in for entries of `topic`."""
    count = sum(waiting.stands_for or 1 for waiting in those)
    changes = [waiting.publication.change for waiting in those if waiting.publication.change is not None]
    return _Waiting(events.left_out(topic, count, changes), count)
