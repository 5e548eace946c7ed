"""Limits what one task may send: a task that floods its topic does not flood the feed of all tasks.

Each topic has an allowance of events and of bytes, which fills up again with time. Only entries are limited:
steps, logs and custom events. States and progress always pass.
"""

import logging
import time
from dataclasses import replace

from bridge.model.publication import Change, Publication
from bridge.support.counted_warning import CountedWarning
from bridge.support.recent import Recent
from bridge.tasks.changes import left_out

logger = logging.getLogger("bridge.tasks.publisher")

EVENTS_A_SECOND = 1000
BYTES_A_SECOND = 4 * 1024 * 1024
BURST_SECONDS = 10
"""A topic that was silent for as many seconds may send so much at once."""

TOPICS = 1000
"""Topics whose allowance is remembered: those that sent most recently."""


class _Allowance:
    """What one topic may still send."""

    __slots__ = ("bytes", "change", "events", "held", "left_out", "seen_at")

    def __init__(self, now: float) -> None:
        self.events = float(EVENTS_A_SECOND * BURST_SECONDS)
        self.bytes = float(BYTES_A_SECOND * BURST_SECONDS)
        self.seen_at = now
        self.left_out = 0
        """Events that are left out, and not told yet."""
        self.change: Change | None = None
        """What they change in the state."""
        self.held: Publication | None = None
        """The newest entry over the limit. It is sent before the next message, so the last one arrives."""

    def fill(self, now: float) -> None:
        seconds, self.seen_at = now - self.seen_at, now
        self.events = min(self.events + seconds * EVENTS_A_SECOND, EVENTS_A_SECOND * BURST_SECONDS)
        self.bytes = min(self.bytes + seconds * BYTES_A_SECOND, BYTES_A_SECOND * BURST_SECONDS)

    def takes(self, size: int) -> bool:
        """Whether an entry of `size` bytes may be sent. Once exceeded, it first fills up for a second."""
        if self.held is not None and (self.events < EVENTS_A_SECOND or self.bytes < BYTES_A_SECOND):
            return False
        if self.events < 1 or self.bytes < 0:
            return False
        self.events -= 1
        self.bytes -= size
        return True


class SenderLimits:
    """The allowances of the topics that a process sends to. Not thread-safe: its user has a lock."""

    def __init__(self) -> None:
        self._allowances: Recent[str, _Allowance] = Recent(TOPICS)
        self._warning = CountedWarning(
            logger,
            "events_left_out",
            f"left out %(count)d events of tasks that send more than {EVENTS_A_SECOND:,} events or "
            f"{BYTES_A_SECOND:,} bytes a second, last of %(topic)r; each task's log says how many",
        )

    def takes(self, publication: Publication) -> bool:
        """Return whether a message may be sent now. If not, give it to `hold`."""
        change, topic = publication.change, publication.topic
        if change is None or not change.entry:
            return True
        now = time.monotonic()
        allowance = self._allowances.get(topic)
        if allowance is None:
            allowance = _Allowance(now)
        self._allowances[topic] = allowance  # it is the newest again
        allowance.fill(now)
        return allowance.takes(len(publication.payload))

    def hold(self, publication: Publication) -> bool:
        """Keep an entry that may not be sent now; return whether it takes the place of an older one.

        The older one is left out, and `held` tells it.
        """
        allowance = self._allowances[publication.topic]
        older, allowance.held = allowance.held, publication
        if older is None or older.change is None:
            return False
        fields = {**(allowance.change.fields if allowance.change is not None else {}), **older.change.fields}
        allowance.change = replace(older.change, fields=fields)
        allowance.left_out += 1
        self._warning.add(1, topic=publication.topic)
        return True

    def held(self, topic: str) -> list[tuple[Publication, int]]:
        """Return what to send before the next message of `topic`, once.

        These are the message that tells of the events left out, with their number, and the newest entry.
        """
        allowance = self._allowances.get(topic)
        if allowance is None or allowance.held is None:
            return []
        found = [(allowance.held, 0)]
        if allowance.change is not None:
            count = allowance.left_out
            found.insert(0, (left_out(topic, count, [allowance.change]), count))
        allowance.left_out, allowance.change, allowance.held = 0, None, None
        return found
