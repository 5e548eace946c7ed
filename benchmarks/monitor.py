"""What the monitor costs a browser: for how long it blocks, what CPU it takes, and how soon it shows a task.

It runs on its own, `.venv/bin/python -m benchmarks.monitor`, in a headless Chromium that renders in software.
`docs/benchmarks.md` has no figures of it, because no other monitor can be measured in the same way.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# `Any` in this module: the fields of events, and what the protocol of Chromium returns.
from typing import Any

from flask import Flask
from playwright.sync_api import Browser, CDPSession, Page

from benchmarks.common import QUICK
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from bridge.tasks.changes import publication
from bridge.tasks.event_types import Event, Progress, State
from tests.browser.app import Served, served
from tests.chromium import chromium
from tests.servers import eventually

KEPT = 10_000
LIVE = 200
EVENTS_A_SECOND = 10
SECONDS = 5 if QUICK else 15
WITHIN = 120

# Notes the longest tasks of the page, and when the first row appears, in milliseconds since the navigation.
PROBE = """
window.blocks = [];
window.firstRow = null;
new PerformanceObserver((list) => window.blocks.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask", buffered: true });
new MutationObserver((_, observer) => {
    if (!document.querySelector(".rows .row")) return;
    window.firstRow = performance.now();
    observer.disconnect();
}).observe(document, { childList: true, subtree: true });
"""


def mount(app: Flask, streams: Bridge) -> None:
    streams.monitor(app, "/monitor")


def publish(app: Served, event: Event) -> None:
    transport_of(app.channel).publish(publication(event, 1))


def queue(app: Served, count: int, prefix: str, state: str = "PENDING") -> None:
    """Publish that tasks are in a state, the newest last."""
    now = time.time()
    for number in range(count):
        at = now + number / 1000 - count / 1000
        publish(app, State(f"{prefix}{number:05}", state=state, at=at, name="shop.tasks.work", attempt=1))


@contextmanager
def opened(browser: Browser, app: Served) -> Iterator[Page]:
    """Open the monitor in a page of its own, with an empty cache."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.add_init_script(PROBE)
    page.goto(f"{app.address}/monitor/")
    yield page
    page.close()


def wait_for(page: Page, text: str) -> None:
    page.locator(".summary", has_text=text).wait_for(timeout=WITHIN * 1000)


def longest(page: Page) -> float:
    found: float = page.evaluate("Math.max(0, ...window.blocks)")
    return found


def measure_first_row(browser: Browser) -> None:
    """Print how soon the first row appears when many tasks are kept."""
    with served(mount) as app:
        queue(app, KEPT, "kept-", "SUCCESS")
        with opened(browser, app) as page:
            first: float = eventually(lambda: page.evaluate("window.firstRow"), within=WITHIN)
            time.sleep(3)
            listed = page.locator(".summary").inner_text()
            block = longest(page)
    print(
        f"first row with {KEPT:,} tasks kept: {first:,.0f} ms ({listed} listed, longest block {block:.0f} ms)"
    )


def measure_burst(browser: Browser) -> None:
    """Print for how long the page blocks when many tasks come at once."""
    with served(mount) as app, opened(browser, app) as page:
        page.locator("#connection", has_text="Live").wait_for(timeout=WITHIN * 1000)
        page.evaluate("window.blocks = []")
        queue(app, KEPT, "burst-")
        wait_for(page, f"{KEPT:,} tasks")
        rows = page.locator(".rows .row").count()
        print(f"burst of {KEPT:,} tasks: longest block {longest(page):.0f} ms, {rows} rows in the document")


def cpu(session: CDPSession) -> Mapping[tuple[str, int], float]:
    """Return the CPU seconds of each process of the browser."""
    processes: list[Any] = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return {(each["type"], each["id"]): each["cpuTime"] for each in processes}


def measure_live(browser: Browser) -> None:
    """Print which share of a core many rows take that change several times a second."""
    session = browser.new_browser_cdp_session()
    with served(mount) as app, opened(browser, app) as page:
        queue(app, LIVE, "live-", "STARTED")
        wait_for(page, f"{LIVE} tasks")
        tell(app, 2)
        before, begun = cpu(session), time.perf_counter()
        tell(app, SECONDS)
        took = time.perf_counter() - begun
        used = {key: seconds - before.get(key, 0) for key, seconds in cpu(session).items()}
        page_share = max(seconds for (kind, _), seconds in used.items() if kind == "renderer") / took
        print(
            f"{LIVE} rows at {EVENTS_A_SECOND} events a second: the page {page_share:.1%} of a core, "
            f"the whole browser {sum(used.values()) / took:.1%}; longest block {longest(page):.0f} ms"
        )


def tell(app: Served, seconds: float) -> None:
    """Publish progress of all tasks at an even rate."""
    begun = time.perf_counter()
    total = int(seconds * EVENTS_A_SECOND * LIVE)
    for number in range(total):
        percent = number / LIVE % 100
        task = f"live-{number % LIVE:05}"
        fields: dict[str, Any] = {"current": percent, "total": 100, "rate": 9.5, "eta": 3}
        publish(app, Progress(task, percent=percent, message=f"Row {number}", **fields))
        ahead = begun + (number + 1) / (EVENTS_A_SECOND * LIVE) - time.perf_counter()
        if ahead > 0.005:
            time.sleep(ahead)


def main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    with chromium() as browser:
        measure_first_row(browser)
        measure_burst(browser)
        measure_live(browser)


if __name__ == "__main__":
    main()
