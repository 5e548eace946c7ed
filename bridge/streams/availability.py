"""Whether a stream that opens waits for the backend: if it does not answer, one of them waits, not each."""

import logging
import re
import threading
import time

from bridge.channel.transport import Transport
from bridge.streams.viewer import Viewer
from bridge.support.fork import reset_in_child

logger = logging.getLogger("bridge.streams.service")

FIRST_BYTE_WITHIN = 1.0
"""Seconds the first byte is held back for the subscription, so that an open stream misses nothing."""

WAIT_AGAIN_AFTER = 10.0
"""Seconds after a wait in vain in which no other stream waits, unless the backend answers before."""

_HOSTS = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[\w.-]+)(:\d+)?(,(\[[0-9a-fA-F:.%]+\]|[\w.-]+)(:\d+)?)*")


def shown(url: str) -> str:
    """Return scheme and hosts of a URL, or the path of a file: nothing that may hold a password."""
    scheme, _, rest = url.partition("://")
    hosts = re.split(r"[/?#]", rest, maxsplit=1)[0]
    after = rest[len(hosts) :]
    if scheme.startswith("sqlite") and "@" not in rest:
        return f"{scheme}://{rest.partition('?')[0]}"
    hosts = hosts.rpartition("@")[2]
    # A password that is not escaped may reach beyond what looks like the hosts.
    return f"{scheme}://{hosts}" if "@" not in after and _HOSTS.fullmatch(hosts) else f"{scheme}://..."


class BackendAvailability:
    """Whether the backend answers the streams of this process. May be shared by threads and greenlets."""

    def __init__(self, transport: Transport, url: str) -> None:
        self._transport = transport
        self._url = url
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self._lock = threading.Lock()  # Guards what follows.
        self._unanswered: Viewer | None = None  # the last one that opened before the backend answered it
        self._in_vain_at = -WAIT_AGAIN_AFTER

    def patience(self) -> float:
        """Return the seconds that a stream which opens now may wait. To be asked before it subscribes."""
        with self._lock:
            if self._unanswered is not None and self._unanswered.established:
                self._unanswered = None
                self._in_vain_at = -WAIT_AGAIN_AFTER
        in_vain = time.monotonic() - self._in_vain_at < WAIT_AGAIN_AFTER
        return 0.0 if in_vain or self._transport.hub.outage is not None else FIRST_BYTE_WITHIN

    def established(self, viewer: Viewer, patience: float) -> bool:
        """Wait until a viewer misses nothing; return whether it is so. Says once that the backend is away."""
        if viewer.wait_established(patience):
            return True
        with self._lock:
            first, self._unanswered = self._unanswered is None, viewer
            if patience:
                self._in_vain_at = time.monotonic()
        if first:
            logger.warning(
                "a stream was opened while the backend %s does not answer (%s): this stream and those that "
                "follow wait, and begin when it answers; see that the server runs and that this process can "
                "reach it, or correct its URL",
                shown(self._url),
                self._transport.hub.outage or f"nothing came within {FIRST_BYTE_WITHIN:g} s",
            )
        return False
