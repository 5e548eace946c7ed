"""The client in real browsers: topics come and go, tokens expire, and many events arrive."""

import time
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Error

from bridge.flask import Bridge
from tests.browser.app import Served, served
from tests.browser.tabs import SECONDS, Tabs, newest, seen, wait_until_known, wait_until_seen
from tests.browser.test_sharing import assert_contiguous, counting
from tests.servers import eventually

EVENTS = 3_000
KEY = "a secret of thirty-two bytes or more"

# Watches a topic for a while, again and again, and notes what came each time.
TOGGLE = """async (topics) => {
    window.periods = {};
    window.toggling = Promise.all(topics.map(async (topic, place) => {
        window.periods[topic] = [];
        for (let i = 0; i < 8; i++) {
            const texts = [];
            const handle = window.bridge.topic(topic);
            handle.subscribe((last, message) => texts.push((message ?? last).data));
            await new Promise((resolve) => setTimeout(resolve, 400 + 130 * place));
            handle.close();
            window.periods[topic].push(texts);
            await new Promise((resolve) => setTimeout(resolve, 60));
        }
    })).then(() => (window.toggled = true));
}"""


def test_topics_are_added_and_removed_without_losing_a_message(app: Served, tabs: Tabs) -> None:
    """While topics come and go, each one that is watched brings every message once and in order."""
    tab = tabs.watching(app.address, "a", options={"share": False})
    with counting(app, "a") as numbers, counting(app, "b"), counting(app, "c"):
        eventually(lambda: newest(tab, "a") > 10, SECONDS)
        tab.evaluate(TOGGLE, ["b", "c"])
        eventually(lambda: tab.evaluate("() => window.toggled === true"), SECONDS)
        reached = len(numbers)
        eventually(lambda: newest(tab, "a") >= reached, SECONDS)
    assert_contiguous(seen(tab, "a"))
    for periods in tab.evaluate("() => window.periods").values():
        assert len(periods) == 8
        for texts in filter(None, periods):
            assert_contiguous(texts)
        assert sum(map(bool, periods)) >= 4
    assert app.viewers == 1


@pytest.mark.parametrize("share", [True, False], ids=["shared", "alone"])
def test_an_expired_token_is_replaced_without_losing_a_message(chromium_tabs: Tabs, share: bool) -> None:
    """The stream ends with each token and goes on with the next one; no message is lost or repeated."""

    def prepare(app: Flask, streams: Bridge) -> None:
        app.get("/token")(lambda: streams.token("orders", expires=2, subject="42"))

    options = {"BRIDGE_PUBLIC": False, "BRIDGE_TOKEN_KEYS": [KEY]}
    with served(prepare, **options) as app:
        tabs = [chromium_tabs.open(app.address) for _ in range(2)]
        for tab in tabs:
            tab.evaluate(
                """async (share) => {
                    const { connect } = await import("/bridge/bridge.js");
                    const getToken = async () => (await fetch("/token")).text();
                    const bridge = connect({ url: "/events", getToken, share });
                    window.seen = { orders: [], statuses: [] };
                    const note = (last, message) => window.seen.orders.push((message ?? last).data);
                    bridge.topic("orders").subscribe(note);
                    bridge.onStatus((status) => window.seen.statuses.push(status));
                }""",
                share,
            )
        with counting(app, "orders") as numbers:
            eventually(lambda: app.asked["/token"] >= (5 if share else 8), SECONDS, "no new tokens")
            reached = len(numbers)
            for tab in tabs:
                eventually(lambda: newest(tab, "orders") >= reached, SECONDS)  # noqa: B023
        for tab in tabs:
            assert_contiguous(seen(tab, "orders"))
            assert "refused" not in seen(tab, "statuses")


def test_a_refused_topic_says_why_and_the_others_go_on(chromium_tabs: Tabs) -> None:
    """A topic that this person may not read ends alone, in every tab, and with the reason."""

    def prepare(app: Flask, streams: Bridge) -> None:
        streams.authorize(lambda topic: topic != "task:secret")

    with served(prepare, BRIDGE_PUBLIC=False) as app:
        for options in ({"share": True}, {"share": True}, {"share": False}):
            tab = chromium_tabs.watching(app.address, "task:t", "task:secret", "orders", options=options)
            wait_until_known(tab)
            wait_until_seen(tab, "task:secret", "refused")
            assert (
                tab.evaluate("() => window.handles['task:secret'].refused") == "you may not read this topic"
            )
        app.publish("orders", "one")
        for tab in chromium_tabs.opened:
            wait_until_seen(tab, "orders", "one")


def test_a_task_is_cancelled_and_closing_does_not_cancel(chromium_tabs: Tabs) -> None:
    """`cancel` sends a request, tells the reason of a refusal, and `close` only stops watching."""

    def prepare(app: Flask, streams: Bridge) -> None:
        @app.delete("/events/<task_id>")
        def cancel(task_id: str) -> tuple[dict[str, str], int, dict[str, str]]:
            problem = {"Content-Type": "application/problem+json"}
            return ({"detail": "it has ended"}, 409, problem) if task_id == "old" else ({}, 202, {})

    with served(prepare) as app:
        tab = chromium_tabs.watching(app.address, "task:a b", "task:old")
        wait_until_known(tab, topic="task:old")
        assert tab.evaluate("() => window.handles['task:a b'].cancel().then(() => 'asked')") == "asked"
        assert app.asked["/events/a b"] == 1
        said = tab.evaluate(
            "() => window.handles['task:old'].cancel({ terminate: true }).catch((e) => e.message)"
        )
        assert said == "it has ended"
        tab.evaluate("() => window.handles['task:a b'].close()")
        app.say("state", "old", state="SUCCESS")
        wait_until_seen(tab, "task:old", "end")
        assert app.asked["/events/a b"] == 1


def test_a_tag_shows_its_tasks_and_no_other(app: Served, tabs: Tabs) -> None:
    """The feed of a tag brings the tasks that have it, from before and from then on, and never ends."""
    app.say("state", "old", state="SUCCESS", tags=["user:42"])
    app.say("state", "other", state="STARTED", tags=["user:7"])
    tab = tabs.watching(app.address, "tag:user:42")
    wait_until_known(tab, topic="tag:user:42")
    app.say("state", "new", state="STARTED", tags=["user:42"])
    app.say("state", "new", state="SUCCESS", tags=["user:42"])
    script = "() => window.handles['tag:user:42'].getSnapshot().map(({ task, state }) => `${task} ${state}`)"
    eventually(lambda: tab.evaluate(script) == ["old SUCCESS", "new SUCCESS"], SECONDS)
    assert app.viewers == 1


def test_messages_of_an_outage_of_the_network_arrive_after_it(app: Served, chromium_tabs: Tabs) -> None:
    """When the network is back, the stream goes on at once, where it was."""
    tab = chromium_tabs.watching(app.address, "orders", options={"share": False})
    with counting(app, "orders") as numbers:
        eventually(lambda: newest(tab, "orders") > 5, SECONDS)
        for _ in range(3):
            tab.context.set_offline(True)
            reached = len(numbers)
            eventually(lambda: len(numbers) > reached + 30, SECONDS)  # noqa: B023
            tab.context.set_offline(False)
            eventually(lambda: newest(tab, "orders") > reached + 30, SECONDS)  # noqa: B023
    assert_contiguous(seen(tab, "orders"))


def test_a_page_that_comes_back_from_the_cache_goes_on(app: Served, chromium_tabs: Tabs) -> None:
    """A tab that leaves the page lets another one lead; back on the page, it misses nothing."""
    leaving = chromium_tabs.watching(app.address, "orders", "task:t")
    other = chromium_tabs.watching(app.address, "orders")
    wait_until_known(leaving)
    app.publish("orders", "0")
    wait_until_seen(other, "orders", "0")
    leaving.goto(f"{app.address}/bridge/fold.js")
    app.publish("orders", "1")
    wait_until_seen(other, "orders", "1")
    leaving.evaluate("() => void setTimeout(() => history.back(), 50)")

    def is_back() -> bool:
        with suppress(Error):  # asked while the page changes
            return bool(leaving.evaluate("() => window.seen !== undefined"))
        return False

    eventually(is_back, SECONDS, "the browser did not keep the page")
    app.publish("orders", "2")
    wait_until_seen(other, "orders", "2")
    for tab in (leaving, other):
        assert_contiguous(wait_until_seen(tab, "orders", "2"))
    eventually(lambda: app.viewers == 1, SECONDS)


def flood(app: Served, count: int, rate: float) -> None:
    """Publish `count` progress events of the task, `rate` a second, and a log line at the end."""
    begun = time.monotonic()
    for number in range(count):
        app.say("progress", "t", current=number, total=count, percent=100 * number / count)
        if number % 20 == 0:
            time.sleep(max(0.0, begun + number / rate - time.monotonic()))
    app.say("log", "t", level="info", message="last")


def watch_flood(tabs: Tabs, app: Served) -> Any:
    """Open a tab that counts events and blocks of the task, and shows it in an element."""
    tab = tabs.open(app.address)
    tab.evaluate(
        """async () => {
            await import("/bridge/element.js");
            const { connect } = await import("/bridge/bridge.js");
            window.count = window.longest = 0;
            const observer = new PerformanceObserver((list) => {
                const durations = list.getEntries().map((entry) => entry.duration);
                window.longest = Math.max(window.longest, ...durations);
            });
            observer.observe({ type: "longtask" });
            const element = document.createElement("task-progress");
            element.setAttribute("task", "t");
            element.toggleAttribute("log", true);
            element.bridge = connect({ url: "/events" });
            document.body.append(element);
            element.bridge.task("t").subscribe((_, event) => (window.count += event?.type !== "snapshot"));
        }"""
    )
    eventually(lambda: app.viewers == 1, SECONDS)
    return tab


def test_many_events_arrive_and_are_drawn(app: Served, chromium_tabs: Tabs) -> None:
    """A task that publishes a thousand events a second is shown, and ends up where it is."""
    tab = watch_flood(chromium_tabs, app)
    flood(app, EVENTS, 1000)
    script = "() => document.querySelector('task-progress').state?.events.at(-1)?.message"
    eventually(lambda: tab.evaluate(script) == "last", SECONDS)
    figures = (
        "() => document.querySelector('task-progress').shadowRoot.querySelector('[part=figures]').textContent"
    )
    eventually(lambda: "2,999 of 3,000" in tab.evaluate(figures), SECONDS)
    print(
        "longest block:",
        tab.evaluate("() => window.longest"),
        "ms; events:",
        tab.evaluate("() => window.count"),
    )


def heap_after(tab: Any, app: Served, logs: int, first: int) -> int:
    """Return the bytes of the page's heap after so many more log lines."""
    for number in range(first, first + logs):
        app.say("log", "t", level="info", message=f"line {number}")
    script = "() => document.querySelector('task-progress').state?.events.at(-1)?.message"
    last = f"line {first + logs - 1}"
    eventually(lambda: tab.evaluate(script) == last, SECONDS, f"{last} did not come")
    heap: int = tab.evaluate(
        "() => { for (let i = 0; i < 3; i++) gc(); return performance.memory.usedJSHeapSize; }"
    )
    return heap


def test_memory_does_not_grow_with_the_events(app: Served, chromium_tabs: Tabs) -> None:
    """After the newest events of a task are kept, more of them take no more memory."""
    tab = watch_flood(chromium_tabs, app)
    before = heap_after(tab, app, EVENTS, 0)
    after = heap_after(tab, app, 3 * EVENTS, EVENTS)
    assert after - before < 1024 * 1024, f"{before:,} bytes became {after:,}"
