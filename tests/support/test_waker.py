"""The waker, with a selector as those who use it have."""

import selectors
import threading
from collections.abc import Iterator

import pytest

from bridge.support.waker import Waker


@pytest.fixture
def waker() -> Iterator[Waker]:
    waker = Waker()
    yield waker
    waker.close()


def is_readable(waker: Waker, timeout: float = 0) -> bool:
    """Whether a selector reports the waker within `timeout` seconds."""
    with selectors.DefaultSelector() as selector:
        selector.register(waker, selectors.EVENT_READ)
        return bool(selector.select(timeout))


def test_a_wake_is_seen_until_it_is_drained(waker: Waker) -> None:
    """A wake before the select counts, and many wakes need one drain."""
    assert not is_readable(waker)
    for _ in range(100_000):
        waker.wake()
    assert is_readable(waker)
    waker.drain()
    assert not is_readable(waker)
    waker.wake()
    assert is_readable(waker)


def test_another_thread_wakes_a_waiting_select(waker: Waker) -> None:
    """The select returns long before its timeout."""
    timer = threading.Timer(0.05, waker.wake)
    timer.start()
    assert is_readable(waker, timeout=10)
    timer.join()


def test_no_work_is_missed(waker: Waker) -> None:
    """Whatever threads add before they wake is seen by a reader that drains first and then looks."""
    work: list[int] = []
    seen = 0

    def add() -> None:
        for number in range(5_000):
            work.append(number)
            waker.wake()

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    with selectors.DefaultSelector() as selector:
        selector.register(waker, selectors.EVENT_READ)
        while seen < 20_000:
            assert selector.select(10), "a wake was lost"
            waker.drain()
            seen = len(work)
    for thread in threads:
        thread.join()


def test_wake_after_close_does_nothing() -> None:
    """Nobody waits any more, and nothing is raised."""
    waker = Waker()
    waker.close()
    waker.wake()
