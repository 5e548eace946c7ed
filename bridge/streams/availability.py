"""Whether a stream that opens waits for the backend: while it does not answer, only one stream waits."""

import logging
import threading
import time

from bridge.channel.transport import Transport
from bridge.streams.viewer import Viewer
from bridge.support.fork import reset_in_child
from bridge.support.urls import without_secrets

logger = logging.getLogger("bridge.streams.service")

FIRST_BYTE_WITHIN = 1.0
"""Seconds the first byte is held back for the subscription, so that an open stream misses nothing."""

WAIT_AGAIN_AFTER = 10.0
"""Seconds after an unanswered wait in which no other stream waits, unless the backend answers before."""


class BackendAvailability:
    """Whether the backend answers the streams of this process. Threads and greenlets may share it."""

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self._url = url
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        """The streams stayed in the parent."""
        self._lock = threading.Lock()  # Guards the two fields below.
        self._unanswered: Viewer | None = None  # the last one that opened before the backend answered it
        self._unanswered_at = -WAIT_AGAIN_AFTER  # when the last wait ended without an answer

    def seconds_to_wait(self) -> float:
        """Return how long a stream that opens now may wait. Ask before the stream subscribes."""
        if self._unanswered is not None:
            with self._lock:
                if self._unanswered is not None and self._unanswered.established:
                    self._unanswered = None
                    self._unanswered_at = -WAIT_AGAIN_AFTER
        lately = time.monotonic() - self._unanswered_at < WAIT_AGAIN_AFTER
        return 0.0 if lately or self._transport.hub.outage is not None else FIRST_BYTE_WITHIN

    def note_unanswered(self, viewer: Viewer, waited: float) -> None:
        """Note that the backend did not answer `viewer` in `waited` seconds. Logs the first of an outage."""
        with self._lock:
            first, self._unanswered = self._unanswered is None, viewer
            if waited:
                self._unanswered_at = time.monotonic()
        if first:
            logger.warning(
                "a stream was opened while the backend %s does not answer (%s): this stream and those that "
                "follow wait, and begin when it answers; see that the server runs and that this process can "
                "reach it, or correct its URL",
                without_secrets(self._url),
                self._transport.hub.outage or f"nothing came within {FIRST_BYTE_WITHIN:g} s",
                extra={"event": "stream_waits", "url": without_secrets(self._url)},
            )
