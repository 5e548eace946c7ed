"""The rate of a figure, and the time that is left. No I/O."""

import math

SMOOTHED_OVER = 15.0
"""Seconds after which an observation weighs 1/e in the rate."""


class Rate:
    """The smoothed rate of one figure: a mean in which an observation t seconds ago weighs e^(-t/15).

    It is an exponential moving average in continuous time, as Unix load averages are, corrected for its
    beginning as in Adam (Kingma and Ba, 2014). So the figures may come at irregular times, and a steady rate
    is exact from the second figure on. It begins again when the figure decreases.
    """

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._items = self._weight = 0.0

    def at(self, current: float, total: float | None, now: float) -> dict[str, float]:
        """Note that `current` of `total` is reached at `now`, in seconds. Return the new figures.

        These are `rate`, per second, and `eta`, the seconds left of a known total, both with three digits.
        """
        if self._last is None or current < self._last[1]:
            self._last, self._items, self._weight = (now, current), 0.0, 0.0
        elapsed, done = now - self._last[0], current - self._last[1]
        if done and elapsed > 0:
            fade = math.exp(-elapsed / SMOOTHED_OVER)
            self._items = self._items * fade + done / elapsed * (1 - fade)
            self._weight = self._weight * fade + 1 - fade
            self._last = (now, current)
        if not self._weight:
            return {}
        rate = self._items / self._weight
        found = {"rate": _short(rate)}
        if total is not None and total > current:
            found["eta"] = _short((total - current) / rate)
        return found


def _short(value: float) -> float:
    return float(f"{value:.3g}")
