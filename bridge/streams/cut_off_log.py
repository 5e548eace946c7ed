"""The log of viewers that are closed because they read too slowly: few lines, however many they are."""

import logging
import time

from bridge.streams.viewer import Viewer
from bridge.support.counted_warning import QUIET_SECONDS, CountedWarning

logger = logging.getLogger("bridge.streams.loop")

LOGGED = 10
"""Viewers that have a line of their own in the log, each minute. Others are counted."""


class CutOffLog:
    """Logs why viewers are closed. For one thread only."""

    def __init__(self) -> None:
        self._since = -QUIET_SECONDS
        self._logged = 0
        self._others = CountedWarning(
            logger, "viewers_closed", "closed %(count)d more streams whose viewers read too slowly"
        )

    def add(self, viewer: Viewer, reason: str) -> None:
        """Log why a viewer is closed, or count it if many were."""
        now = time.monotonic()
        if now - self._since >= QUIET_SECONDS:
            self._since, self._logged = now, 0
        self._logged += 1
        if self._logged > LOGGED:
            self._others.add(1)
            return
        topics = sorted(viewer.topics)
        names = ", ".join(map(repr, topics[:3])) + (f" and {len(topics) - 3} more" if topics[3:] else "")
        address = viewer.client.address or "unknown"
        logger.warning(
            "closed a stream of %s to %s: %s",
            names,
            address,
            reason,
            extra={"event": "viewer_closed", "topics": topics[:3], "address": address, "reason": reason},
        )

    def tick(self) -> None:
        """Log what was only counted so far. Call it from time to time."""
        self._others.tell()
