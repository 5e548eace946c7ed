"""What was captured of one run of a task, so that nothing is said twice. No I/O."""

import time

BURST, CHANGES_A_SECOND = 100, 10
"""Changes of state that a task may publish at once, and in each further second."""


class Captured:
    """What was captured of one run of a task."""

    def __init__(self) -> None:
        self.report: object = None
        """The last figures, as the span of the task has them."""
        self.state: str | None = None
        """The last state."""
        self._allowed = float(BURST)
        self._filled_at = time.monotonic()

    def may_change(self, state: str) -> bool:
        """Return whether to publish that the task is in `state` now: it is another one, and not too soon."""
        now = time.monotonic()
        self._allowed = min(BURST, self._allowed + (now - self._filled_at) * CHANGES_A_SECOND)
        self._filled_at = now
        if state == self.state or self._allowed < 1:
            return False
        self._allowed -= 1
        self.state = state
        return True
