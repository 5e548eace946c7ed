"""Limits of viewers, in all and by key."""

from types import SimpleNamespace

import pytest

from bridge.streams import limits
from bridge.streams.limits import (
    FEW_DESCRIPTORS,
    TOO_MANY_OF_ADDRESS,
    TOO_MANY_VIEWERS,
    Client,
    KeyLimit,
    LimitReached,
    ViewerLimits,
    per_address,
)

ONE, OTHER = Client("192.0.2.1"), Client("192.0.2.2")


def test_a_process_has_so_many_viewers() -> None:
    """Over the limit viewers are refused and counted; a place is free again when a viewer leaves."""
    counted = ViewerLimits(2)
    assert [counted.acquire(ONE), counted.acquire(OTHER)] == [None, None]
    assert counted.acquire(ONE) is TOO_MANY_VIEWERS
    assert counted.refused == 1
    counted.release(OTHER)
    assert counted.acquire(ONE) is None


def test_an_address_has_so_many_viewers() -> None:
    """Viewers of one address do not count for another one; without an address there is no limit."""
    counted = ViewerLimits(None, [per_address(1)])
    assert counted.acquire(ONE) is None
    assert counted.acquire(ONE) is TOO_MANY_OF_ADDRESS
    assert counted.acquire(OTHER) is None
    assert [counted.acquire(Client()) for _ in range(3)] == [None] * 3
    counted.release(ONE)
    assert counted.acquire(ONE) is None


def test_a_limit_by_another_key_needs_only_a_key_function() -> None:
    """Here viewers are counted by network; a viewer that one limit refuses counts for no other."""
    network = LimitReached("network", 429, "this network has as many streams open as it may", "raise it")

    def first_octets(client: Client) -> str:
        return client.address.rpartition(".")[0]

    counted = ViewerLimits(None, [per_address(1), KeyLimit(2, first_octets, network)])
    assert [counted.acquire(ONE), counted.acquire(OTHER)] == [None, None]
    third = Client("192.0.2.3")
    assert counted.acquire(third) is network
    assert counted.acquire(Client("198.51.100.1")) is None
    counted.release(OTHER)
    assert counted.acquire(third) is None


def test_a_viewer_is_refused_when_descriptors_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other limits are named first."""
    monkeypatch.setattr(limits, "descriptors_left", lambda: 0)
    assert ViewerLimits().acquire(ONE) is FEW_DESCRIPTORS
    assert ViewerLimits(0).acquire(ONE) is TOO_MANY_VIEWERS


def test_descriptors_are_counted_again_before_they_can_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counting takes time, so it is done after a part of those that were left, or after a moment."""
    now, left = [100.0], [320]
    asked: list[int] = []
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def count() -> int:
        asked.append(left[0])
        return left[0]

    monkeypatch.setattr(limits, "descriptors_left", count)
    counted = ViewerLimits()
    for _ in range(42):
        assert counted.acquire(ONE) is None
    assert len(asked) == 2
    now[0] += limits.CHECK_AFTER
    left[0] = 10
    assert [counted.acquire(ONE) for _ in range(2)] == [None] * 2
    assert len(asked) == 4
    left[0] = 0
    assert counted.acquire(ONE) is FEW_DESCRIPTORS


def test_a_child_process_has_no_viewers() -> None:
    """The viewers stay in the parent."""
    counted = ViewerLimits(1, [per_address(1)])
    counted.acquire(ONE)
    counted.reset_after_fork()
    assert counted.acquire(ONE) is None
