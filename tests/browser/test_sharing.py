"""Tabs that share one stream: whatever happens to the leading tab, nothing is lost or repeated."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.app import Served
from tests.browser.tabs import SECONDS, Tab, Tabs, leader, newest, seen, wait_until_known, wait_until_seen
from tests.servers import eventually

TABS = 10
KILLED = 6
"""How often a leading tab is killed. The soak test does it 20 times."""


@contextmanager
def counting(app: Served, topic: str) -> Iterator[list[int]]:
    """Publish the numbers from 0 on, 100 a second, and once more at the end."""
    stop = threading.Event()
    numbers: list[int] = []

    def publish() -> None:
        while not stop.wait(0.01):
            app.publish(topic, str(len(numbers)))
            numbers.append(len(numbers))

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield numbers
    finally:
        stop.set()
        thread.join()


def assert_contiguous(texts: list[str]) -> None:
    """Each number comes once, in order, from the first one on that the tab has heard of."""
    numbers = [int(text.removeprefix("known ")) for text in texts]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_ten_tabs_make_one_request(app: Served, tabs: Tabs) -> None:
    """Ten tabs see the same events through one request, and another one knows the state without one."""
    opened = [tabs.watching(app.address, "task:t", "orders") for _ in range(TABS)]
    wait_until_known(*opened)
    app.say("state", "t", state="STARTED", name="work")
    app.say("progress", "t", current=1, total=4, percent=25.0)
    app.publish("orders", "one")
    for tab in opened:
        wait_until_seen(tab, "task:t", "progress")
        wait_until_seen(tab, "orders", "one")
    late = tabs.watching(app.address, "task:t")
    wait_until_known(late)
    script = "() => window.handles['task:t'].getSnapshot().progress.current"
    assert [tab.evaluate(script) for tab in (*opened, late)] == [1] * (TABS + 1)
    assert (app.viewers, app.asked["/events"]) == (1, 1)
    app.say("state", "t", state="SUCCESS")
    for tab in (*opened, late):
        assert wait_until_seen(tab, "task:t", "end").count("end") == 1


def kill_leaders(app: Served, tabs: Tabs, times: int) -> None:
    """Close or crash the leading tab again and again while messages come, and look at what all tabs saw."""
    for _ in range(3):
        tabs.watching(app.address, "orders", "task:t")
    everything: list[list[str]] = []
    with counting(app, "orders") as numbers:
        for number in range(times):
            eventually(lambda: leader(tabs.opened) is not None, SECONDS, "nobody leads")
            leading = leader(tabs.opened)
            witness: Tab = next(tab for tab in tabs.opened if tab is not leading)
            reached = len(numbers)
            eventually(lambda: newest(witness, "orders") >= reached, SECONDS, "no news came")  # noqa: B023
            everything.append(seen(leading, "orders"))
            if number % 2 and hasattr(leading, "expect_event"):
                tabs.crash(leading)
            else:
                tabs.close(leading)
            app.say("log", "t", level="info", message=str(number))
            tabs.watching(app.address, "orders", "task:t")
        reached = len(numbers)
        for tab in tabs.opened:
            eventually(lambda: newest(tab, "orders") >= reached, SECONDS, "no news came")  # noqa: B023
    everything += [seen(tab, "orders") for tab in tabs.opened]
    for texts in everything:
        assert_contiguous(texts)
    app.say("log", "t", level="info", message="last")
    for tab in tabs.opened:
        wait_until_seen(tab, "task:t", "log")
        script = "() => window.handles['task:t'].getSnapshot().events.map((event) => event.message)"
        eventually(lambda: tab.evaluate(script)[-1] == "last", SECONDS)  # noqa: B023
        assert tab.evaluate(script) == [*map(str, range(times)), "last"]
    assert app.viewers == 1


def test_nothing_is_lost_or_repeated_when_leading_tabs_are_killed(app: Served, tabs: Tabs) -> None:
    """A leading tab closes or crashes while messages come: the others see each of them once, in order."""
    kill_leaders(app, tabs, KILLED)


@pytest.mark.timeout(240)
def test_a_frozen_leading_tab_is_replaced(app: Served, chromium_tabs: Tabs) -> None:
    """A tab that does nothing any more does not keep the others waiting, and repeats nothing afterwards."""
    tabs = chromium_tabs
    for _ in range(3):
        tabs.watching(app.address, "orders", options={"heartbeat": 1})
    eventually(lambda: leader(tabs.opened) is not None, SECONDS, "nobody leads")
    frozen = leader(tabs.opened)
    others = [tab for tab in tabs.opened if tab is not frozen]
    with counting(app, "orders") as numbers:
        eventually(lambda: len(seen(frozen, "orders")) > 5, SECONDS)
        frozen.evaluate(
            "() => void setTimeout(() => { const t = Date.now(); while (Date.now() - t < 25000); })"
        )
        eventually(lambda: leader(others) is not None, SECONDS, "nobody took over")
        reached = len(numbers)
        for tab in others:
            eventually(lambda: newest(tab, "orders") >= reached, SECONDS)  # noqa: B023
        eventually(lambda: newest(frozen, "orders") >= reached, SECONDS, "it did not come back")
        assert leader([frozen]) is None
    for tab in tabs.opened:
        assert_contiguous(seen(tab, "orders"))
    assert app.viewers == 1


@pytest.mark.parametrize(
    "difference", [{"shareKey": "ann"}, {"url": "/events?x=1"}, {"share": False}], ids=["key", "url", "none"]
)
def test_tabs_that_may_not_share_do_not(
    app: Served, chromium_tabs: Tabs, difference: dict[str, object]
) -> None:
    """Another person, another URL, or no wish to share: each has its own stream."""
    one = chromium_tabs.watching(app.address, "task:t")
    other = chromium_tabs.watching(app.address, "task:t", options=difference)
    wait_until_known(one, other)
    app.say("log", "t", level="info", message="x")
    for tab in (one, other):
        wait_until_seen(tab, "task:t", "log")
    eventually(lambda: app.viewers == 2, SECONDS)
    assert app.asked["/events"] == 2


def test_without_the_locks_of_the_browser_each_tab_has_its_stream(app: Served, chromium_tabs: Tabs) -> None:
    """A page that was not loaded securely has no locks; it works all the same."""
    opened = [chromium_tabs.open(app.address) for _ in range(2)]
    for tab in opened:
        tab.evaluate("() => void Object.defineProperty(navigator, 'locks', { value: undefined })")
        chromium_tabs.watch(tab, "task:t")
    wait_until_known(*opened)
    assert app.asked["/events"] == 2
