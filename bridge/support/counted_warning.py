"""A warning about something that may happen often: one line at once, then at most one a minute."""

import logging
import time

QUIET_SECONDS = 60.0
"""Seconds after a line in which what happens is only counted."""


class CountedWarning:
    """Logs how often something happened. For one thread at a time."""

    def __init__(self, logger: logging.Logger, event: str, text: str) -> None:
        """`event` is the name of the line. `text` is a format string; `%(count)d` stands for how often it
        happened since the last line.
        """
        self._logger = logger
        self._event = event
        self._text = text
        self._count = 0
        self._quiet_until = 0.0

    def add(self, count: int, **values: object) -> None:
        """Note that it happened `count` times more. `values` are for the other places in the text."""
        self._count += count
        self._values = values
        self.tell()

    def tell(self) -> None:
        """Log what is not logged yet, unless a line was logged a moment ago."""
        now = time.monotonic()
        if self._count and now >= self._quiet_until:
            shown = {name: f"{v:,}" if isinstance(v, int) else v for name, v in self._values.items()}
            fields = {"event": self._event, "count": self._count, **self._values}
            self._logger.warning(self._text, {"count": self._count, **shown}, extra=fields)
            self._count = 0
            self._quiet_until = now + QUIET_SECONDS
