"""How long to wait before the next attempt."""

import random

FIRST_DELAY = 0.05


LONGEST_DELAY = 2.0


def backoff(attempt: int) -> float:
    """Return the seconds to wait before reconnecting for the `attempt`-th time in a row.

    Full jitter, so that processes that lost a backend together do not reconnect together (Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), but never less than a minimum.
    """
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2 ** min(attempt, 16))
    return random.uniform(FIRST_DELAY, max(FIRST_DELAY, longest))
