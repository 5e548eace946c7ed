"""Tabs of a browser, whichever it is, in which the client runs."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

# `Any` in this module: what a script takes and returns is JSON.
from typing import Any, Protocol

from playwright.sync_api import Browser, Error, Page

from tests.chromium import chromium
from tests.firefox import firefox
from tests.servers import eventually

SECONDS = 60

# Watches topics of `options` and notes what comes: `window.seen[topic]` has the event types or the texts.
WATCH = """async ({ topics, options }) => {
    const { connect } = await import("/bridge/bridge.js");
    window.bridge ??= connect({ url: "/events", ...options });
    window.seen ??= {};
    window.handles ??= {};
    for (const topic of topics) {
        const seen = (window.seen[topic] ??= []);
        const handle = (window.handles[topic] = window.bridge.topic(topic));
        handle.subscribe((value, event) => {
            if (event === null) seen.push(value.data === undefined ? "known" : `known ${value.data}`);
            else seen.push(event.data ?? event.type);
        });
    }
}"""


class Tab(Protocol):
    """A tab: `evaluate` calls the function `script` and returns what it, or its promise, gives."""

    def goto(self, url: str) -> object: ...
    def evaluate(self, script: str, argument: Any = None) -> Any: ...
    def close(self) -> None: ...


class Tabs:
    """Opens tabs that share what one person's tabs share."""

    def __init__(self, browser: Any) -> None:
        self._browser = browser
        self._context = browser.new_context() if isinstance(browser, Browser) else None
        self.opened: list[Tab] = []

    def open(self, url: str) -> Any:
        tab: Tab = self._browser.new_tab() if self._context is None else self._context.new_page()
        self.opened.append(tab)
        tab.goto(url)
        return tab

    def watching(self, url: str, *topics: str, options: dict[str, Any] | None = None) -> Any:
        """Open a tab that watches `topics` through a client with `options`."""
        return self.watch(self.open(url), *topics, options=options)

    def watch(self, tab: Tab, *topics: str, options: dict[str, Any] | None = None) -> Tab:
        """Watch `topics` in a tab. Returns the tab."""
        tab.evaluate(WATCH, {"topics": topics, "options": {"share": True, **(options or {})}})
        return tab

    def close(self, tab: Tab) -> None:
        self.opened.remove(tab)
        tab.close()

    def crash(self, tab: Page) -> None:
        """Have the process of a tab end without a word; Chromium only."""
        with tab.expect_event("crash", timeout=SECONDS * 1000), suppress(Error):
            tab.goto("chrome://crash")
        self.close(tab)

    def close_all(self) -> None:
        for tab in list(self.opened):
            self.close(tab)
        if self._context is not None:
            self._context.close()


@contextmanager
def browser_named(name: str) -> Iterator[Any]:
    if name == "firefox":
        with firefox() as other:
            yield other
    else:
        memory = ("--enable-precise-memory-info", "--js-flags=--expose-gc")
        with chromium(*memory, without=["--disable-back-forward-cache"]) as browser:
            yield browser


def seen(tab: Tab, topic: str) -> list[str]:
    """Return what a tab has seen of a topic."""
    found: list[str] = tab.evaluate("(topic) => window.seen[topic]", topic)
    return found


def newest(tab: Tab, topic: str) -> int:
    """Return the newest number that a tab has seen of a topic, -1 for none."""
    return int([*seen(tab, topic)[-1:], "-1"][0].removeprefix("known "))


def wait_until_known(*tabs: Tab, topic: str = "task:t") -> None:
    """Wait until each of `tabs` knows the state of a task."""
    for tab in tabs:
        eventually(lambda tab=tab: seen(tab, topic), SECONDS, f"nothing of {topic} came")  # type: ignore[misc]  # a default


def wait_until_seen(tab: Tab, topic: str, what: str) -> list[str]:
    """Wait until the last that a tab has seen is `what`, and return everything."""
    found: list[str] = []

    def arrived() -> bool:
        found[:] = seen(tab, topic)
        return found[-1:] == [what]

    eventually(arrived, SECONDS, f"{what!r} of {topic} did not come")
    return found


def leader(tabs: list[Any]) -> Any:
    """Return the tab that holds the stream, as the browser's locks say; `None` if none does."""
    script = """async (probe) => navigator.locks.request(probe, async () => {
        const { held } = await navigator.locks.query();
        const mine = held.find((lock) => lock.name === probe).clientId;
        return held.some((lock) => /^bridge\\/\\d+:(?!.*:tab:)/.test(lock.name) && lock.clientId === mine);
    })"""
    return next((tab for tab in tabs if tab.evaluate(script, "probe")), None)
