"""The rate of a figure, and the time left."""

import math

import pytest

from bridge.tasks.rate import Rate


def test_a_steady_rate_is_exact() -> None:
    """However irregularly it is told, a steady rate is that rate, and the eta what is left at it."""
    rate = Rate()
    now = 0.0
    assert rate.at(0, 1000, now) == {}
    for pause in (0.1, 3, 0.01, 60, 0.5):
        now += pause
        told = rate.at(now * 10, 1000, now)
        assert told["rate"] == pytest.approx(10)
        assert told["eta"] == pytest.approx((1000 - now * 10) / 10, rel=0.01)


def test_a_rate_follows_a_change_smoothly() -> None:
    """After a change the rate is between old and new, nearer to the new one the longer it lasts."""
    rate = Rate()
    rate.at(0, None, 0)
    current = 0.0
    for second in range(1, 61):
        current += 100
        rate.at(current, None, second)
    rates = []
    for second in range(61, 121):
        current += 10
        rates.append(rate.at(current, None, second)["rate"])
    assert rates == sorted(rates, reverse=True)
    assert 90 < rates[0] < 100
    assert rates[14] == pytest.approx(10 + 90 / math.e, rel=0.03)
    assert 10 < rates[-1] < 13


def test_a_figure_that_goes_back_begins_a_new_rate() -> None:
    """A count that begins anew is not taken for a negative rate; an unknown or reached total has no eta."""
    rate = Rate()
    rate.at(0, 10, 0)
    assert rate.at(10, 10, 1) == {"rate": 10.0}
    assert rate.at(2, 10, 2) == {}
    assert rate.at(4, 10, 3) == {"rate": 2.0, "eta": 3.0}
    assert rate.at(6, None, 3) == {"rate": 2.0}  # no time has passed: nothing can be learnt
