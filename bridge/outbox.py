"""The outbox: publishes in the background, so that whoever has something to say neither waits nor fails.

While the backend is out of reach messages queue up, the oldest giving way to newer ones, and are sent in
order when it is back.
"""

import logging
import threading
from collections import deque

from bridge.connect import Channel, draw_token
from bridge.errors import PublishError
from bridge.fork import reset_in_child
from bridge.hub import backoff
from bridge.state import Change

logger = logging.getLogger("bridge.outbox")

LIMIT = 10_000
"""Messages that may wait."""

_Letter = tuple[str, bytes, Change, bytes]


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
        self._letters: deque[_Letter] = deque()
        self._sending = False
        self._down = False
        self._stopped = False
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """What waits is the parent's to send."""
        self._reset()

    def put(self, topic: str, payload: bytes, change: Change) -> None:
        """Queue a message. Never waits; raises `ValueError` for a payload that is too large."""
        letter = (topic, self._channel.check_payload(payload), change, draw_token())
        with self._changed:
            if len(self._letters) >= LIMIT:
                self._letters.popleft()
                self.dropped += 1
            self._letters.append(letter)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="bridge-outbox", daemon=True)
                self._thread.start()
            self._changed.notify_all()

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
                if letter is None:
                    self._changed.wait_for(lambda: self._letters or self._stopped)
                if self._stopped or self._thread is not me:
                    return
                if letter is None:
                    letter = self._letters.popleft()
                self._sending = True
            try:
                self._channel.publish(*letter, again=attempt > 0)
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
