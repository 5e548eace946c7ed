"""The browser client under load, in Chromium: the leading tab is killed, events flood in, memory stays flat.

`make soak`, or alone `python -m pytest -s tests/soak/browser.py`. The times are those of a machine that does
nothing else.
"""

from collections.abc import Iterator

# `Any` in this module: a browser.
from typing import Any

import pytest

from tests.browser.app import Served, served
from tests.browser.tabs import SECONDS, Tabs, browser_named
from tests.browser.test_client import flood, heap_after, watch_flood
from tests.browser.test_sharing import kill_leaders
from tests.servers import eventually

KILLS = 20
RATE = 1000
FLOOD = 60 * RATE
EVENTS = 100_000
LONGEST_BLOCK_MS = 50
MOST_GROWTH = 1024 * 1024


@pytest.fixture(params=["chromium", "firefox"])
def browser(request: pytest.FixtureRequest) -> Iterator[Any]:
    with browser_named(request.param) as browser:
        yield browser


@pytest.fixture
def app() -> Iterator[Served]:
    with served() as app:
        yield app


@pytest.mark.timeout(600)
def test_the_leading_tab_is_killed_twenty_times(app: Served, browser: Any) -> None:
    """Each tab sees each message once and in order."""
    kill_leaders(app, Tabs(browser), KILLS)


@pytest.mark.timeout(600)
def test_a_thousand_events_a_second_for_a_minute() -> None:
    """No task of the page takes longer than 50 ms."""
    with served() as app, browser_named("chromium") as browser:
        tab = watch_flood(Tabs(browser), app)
        ends = "document.querySelector('task-progress').state?.events.filter((e) => e.message === 'last')"
        last = f"() => {ends}?.length"
        flood(app, 2 * RATE, RATE)
        eventually(lambda: tab.evaluate(last) == 1, SECONDS)
        # What the page does when it is loaded does not count.
        tab.evaluate("() => void (window.longest = window.count = 0)")
        flood(app, FLOOD, RATE)
        eventually(lambda: tab.evaluate(last) == 2, SECONDS)
        longest, count = tab.evaluate("() => [window.longest, window.count]")
        print(f"longest block {longest:.0f} ms, {count} events of {FLOOD}")
        assert longest < LONGEST_BLOCK_MS


@pytest.mark.timeout(900)
def test_memory_is_flat_over_a_hundred_thousand_events() -> None:
    """What 100,000 log lines leave is what the first 10,000 have left."""
    with served() as app, browser_named("chromium") as browser:
        tab = watch_flood(Tabs(browser), app)
        before = heap_after(tab, app, EVENTS // 10, 0)
        after = heap_after(tab, app, EVENTS - EVENTS // 10, EVENTS // 10)
        print(f"{before:,} bytes became {after:,}")
        assert after - before < MOST_GROWTH
