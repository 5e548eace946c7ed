"""The dict that remembers a bounded number of recent keys."""

import sys
import threading
from collections.abc import Iterator

import pytest

from bridge.support.recent import Recent


def test_the_oldest_key_is_removed() -> None:
    """Above the limit, the key that was set longest ago goes; setting a key again makes it the newest."""
    recent: Recent[str, int] = Recent(3)
    for key in "abcad":
        recent[key] = ord(key)
    assert list(recent) == ["c", "a", "d"]
    assert recent.get("b") is None
    assert recent["a"] == ord("a")


def test_reading_a_key_does_not_make_it_newer() -> None:
    """Only a set counts."""
    recent: Recent[str, int] = Recent(2)
    recent["a"] = recent["b"] = 1
    assert recent["a"] == recent.get("a") == 1
    recent["c"] = 1
    assert list(recent) == ["b", "c"]


def test_every_way_to_set_a_key_keeps_the_limit() -> None:
    """`update`, `|=` and `setdefault` remove old keys too."""
    recent: Recent[str, int] = Recent(2)
    recent.update(a=1, b=2, c=3)
    assert dict(recent) == {"b": 2, "c": 3}
    recent |= {"d": 4}
    assert recent.setdefault("e", 5) == 5
    assert recent.setdefault("e", 6) == 5
    assert dict(recent) == {"d": 4, "e": 5}


@pytest.fixture
def often_switched() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("often_switched")
def test_threads_share_one_without_a_lock() -> None:
    """Nothing raises while threads set and remove keys at once, and afterwards the limit holds."""
    recent: Recent[str, int] = Recent(5)
    errors: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(5_000):
                recent[f"{number % 7}"] = number
                recent[f"{name} {number}"] = number
                recent.pop(f"{(number + name) % 7}", None)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    recent["last"] = 1
    assert len(recent) <= 5
