"""The outbox: publishes in the background, so that whoever has something to say neither waits nor fails.

While the backend is out of reach messages queue up and are sent in order when it is back. Where they are too
many, the oldest give way: first entries, whose number is told in their place, and only then others.
"""

import logging
import threading
import time
from collections import deque
from typing import NamedTuple, Protocol

from bridge import events
from bridge.broadcast import Channel, draw_token
from bridge.errors import PublishError
from bridge.fork import reset_in_child
from bridge.hub import backoff
from bridge.state import Change

logger = logging.getLogger("bridge.outbox")

LIMIT = 10_000
"""Messages that may wait."""


class Source(Protocol):
    """Something to be asked for messages now and then."""

    due: float
    """The `time.monotonic()` before which it should not be asked."""
    waiting: bool
    """Whether it is to be asked again."""

    def take(self) -> tuple[bytes, Change] | None:
        """Return what is new, and set `due` and `waiting`. Not called twice at once."""

    def reset_after_fork(self) -> None:
        """Nobody in the child knows of this source."""


class _Letter(NamedTuple):
    topic: str
    payload: bytes
    change: Change
    token: bytes
    stands_for: int = 0
    """How many entries were left out here, if that is what the message says."""


class Outbox:
    """Sends what it is given through one channel. Safe to share by threads and greenlets, and to fork."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.dropped = 0
        self._sources: dict[str, Source] = {}
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards everything below. May be taken twice: the garbage collector closes generators that report.
        self._changed = threading.Condition(threading.RLock())
        self._letters: deque[_Letter] = deque()
        self._entries = 0  # of the letters
        # By topic, the one due first in front: each goes to the end when it was asked.
        for source in self._sources.values():
            source.reset_after_fork()
        self._sources = {}
        self._sending = False
        self._down = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """What waits is the parent's to send."""
        self._reset()

    def put(self, topic: str, payload: bytes, change: Change) -> None:
        """Queue a message. Never waits; raises `ValueError` for a payload that is too large."""
        letter = _Letter(topic, self._channel.check_payload(payload), change, draw_token())
        with self._changed:
            if not change.entry and topic in self._sources:
                self._ask(topic, self._sources[topic])
            self._append(letter)

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
            self._append(_Letter(topic, *message, draw_token()))

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

    def _append(self, letter: _Letter) -> None:
        """Requires holding `_changed`."""
        if len(self._letters) >= LIMIT:
            self._make_room()
        self._letters.append(letter)
        self._entries += letter.change.entry
        self._wake()

    def _wake(self) -> None:
        """Requires holding `_changed`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bridge-outbox", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _make_room(self) -> None:
        """Leave out the older half of the entries, or the oldest message if few are entries.

        Requires holding `_changed`.
        """
        surplus = self._entries // 2
        if surplus < LIMIT // 4:
            self._entries -= self._letters.popleft().change.entry
            self.dropped += 1
            return
        kept: list[_Letter] = []
        gone: dict[str, list[_Letter]] = {}
        places: dict[str, int] = {}
        while surplus:
            letter = self._letters.popleft()
            if not letter.change.entry:
                kept.append(letter)
                continue
            surplus -= 1
            self.dropped += not letter.stands_for
            gone.setdefault(letter.topic, []).append(letter)
            if places.setdefault(letter.topic, len(kept)) == len(kept):
                kept.append(letter)
        for topic, letters in gone.items():
            kept[places[topic]] = _left_out(topic, letters)
        self._letters.extendleft(reversed(kept))
        self._entries = sum(letter.change.entry for letter in self._letters)

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all is sent; return whether it is.

        Returns at once while the backend is out of reach: an outage is waited for once, not by every task.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._down or not (self._letters or self._sending), timeout)
            sent = not (self._letters or self._sending)
            if not sent and not self._down:
                self._go_down(f"no answer within {timeout:g} s")
            return sent

    def close(self) -> None:
        """Send what waits if the backend can be reached, then stop."""
        self.flush(1.0)
        with self._changed:
            unsent = len(self._letters) + self._sending
            if unsent:
                self.dropped += unsent
                logger.warning("%d task events could not be sent before the outbox was closed", unsent)
            self._stopped = True
            self._changed.notify_all()
        self._channel.close()

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
        letter: _Letter | None = None
        me = threading.current_thread()
        while True:
            with self._changed:
                while letter is None and not (self._stopped or self._thread is not me):
                    wait = self._ask_those_due()
                    if self._letters:
                        letter = self._letters.popleft()
                        self._entries -= letter.change.entry
                    else:
                        self._changed.wait(wait)
                if letter is None or self._stopped or self._thread is not me:
                    return
                self._sending = True
            try:
                self._channel.publish(*letter[:4], again=attempt > 0)
            except PublishError as error:
                attempt = self._wait_out(error, attempt)
                continue
            except Exception:
                self.dropped += 1
                logger.exception("a task event could not be sent and was dropped")
            attempt, letter = 0, None
            with self._changed:
                self._sending = False
                self._come_up()
                if not self._letters:
                    self._changed.notify_all()

    def _wait_out(self, error: PublishError, attempt: int) -> int:
        with self._changed:
            self._go_down(error)
            self._changed.wait_for(lambda: self._stopped, backoff(attempt))
        return attempt + 1


def _left_out(topic: str, letters: list[_Letter]) -> _Letter:
    """Return what stands in for entries of `topic`."""
    count = sum(letter.stands_for or 1 for letter in letters)
    message = events.left_out(topic, count, [letter.change for letter in letters])
    return _Letter(topic, *message, draw_token(), count)
