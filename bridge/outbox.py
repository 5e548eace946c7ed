"""The outbox: publishes in the background, so that whoever has something to say neither waits nor fails.

While the backend is out of reach messages queue up, the oldest giving way to newer ones, and are sent in
order when it is back.
"""

import logging
import threading
import time
from collections import deque

from bridge.connect import Channel, draw_token
from bridge.errors import PublishError
from bridge.fork import reset_in_child
from bridge.hub import backoff
from bridge.ports import Letter
from bridge.state import Change

logger = logging.getLogger("bridge.outbox")

LIMIT = 10_000
"""Messages that may wait."""

BATCH = 200
"""Messages sent in one go."""

PAUSE = 0.01
"""Seconds between two batches: who says much is sent in batches, who says little is sent at once."""


class Outbox:
    """Sends what it is given through one channel. Safe to share by threads and greenlets, and to fork."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.dropped = 0
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards everything below.
        self._changed = threading.Condition(threading.Lock())
        self._letters: deque[Letter] = deque()
        self._sending = 0
        self._idle = False
        self._awaited = 0  # how many wait for the outbox to be empty
        self._down = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """What waits is the parent's to send."""
        self._reset()

    def put(self, topic: str, payload: bytes, change: Change | None, token: bytes | None = None) -> None:
        """Queue a message. Never waits; raises `ValueError` for a payload that is too large.

        Messages of several processes with one `token` are one message, where the backend keeps messages.
        """
        known = token is not None
        letter = Letter(topic, self._channel.check_payload(payload), change, token or draw_token(), known)
        with self._changed:
            if len(self._letters) >= LIMIT:
                self._letters.popleft()
                self.dropped += 1
            self._letters.append(letter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bridge-outbox", daemon=True)
                self._thread.start()
            if self._idle:
                self._changed.notify_all()

    def flush(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until all is sent; return whether it is.

        Returns at once while the backend is out of reach: an outage is waited for once, not by every task.
        """
        with self._changed:
            self._awaited += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._down or not (self._letters or self._sending), timeout)
            self._awaited -= 1
            sent = not (self._letters or self._sending)
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
        letters: list[Letter] = []
        while self._mine():
            if not letters:
                letters = self._take()
                continue
            began = time.monotonic()
            try:
                self._send(letters, again=attempt > 0)
            except PublishError as error:
                attempt = self._wait_out(error, attempt)
                continue
            attempt, letters = 0, []
            self._sent(began)

    def _mine(self) -> bool:
        """Whether this thread is to go on: gevent carries a copy of it into a forked child."""
        with self._changed:
            return not self._stopped and self._thread is threading.current_thread()

    def _take(self) -> list[Letter]:
        """Wait for messages and take what waits, as far as it goes in one batch."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: self._letters or self._stopped)
            self._idle = False
            # Where no messages are kept, one that is repeated would appear twice: fewer are at risk.
            most = BATCH if self._channel.replays else 1
            letters = [self._letters.popleft() for _ in range(min(most, len(self._letters)))]
            self._sending = len(letters)
            return letters

    def _sent(self, began: float) -> None:
        with self._changed:
            self._sending = 0
            self._come_up()
            if not self._letters:
                self._changed.notify_all()
                rest = began + PAUSE - time.monotonic()
                self._changed.wait_for(lambda: self._awaited or self._stopped, max(0.0, rest))

    def _send(self, letters: list[Letter], again: bool) -> None:
        try:
            self._channel.publish_many(letters, again=again)
        except PublishError:
            raise
        except Exception:
            if len(letters) > 1:
                for letter in letters:
                    self._send([letter], again=True)
                return
            self.dropped += 1
            logger.exception("a task event could not be sent and was dropped")

    def _wait_out(self, error: PublishError, attempt: int) -> int:
        with self._changed:
            self._go_down(error)
            self._changed.wait_for(lambda: self._stopped, backoff(attempt))
        return attempt + 1
