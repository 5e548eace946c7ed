"""The list of the monitor in a real Chromium, given the events of each test by a real server."""

import re
import time
from collections.abc import Iterator

# `Any` in this module: the fields of events, and what scripts return, are JSON.
from typing import Any

import pytest
from celery import Celery
from flask import Flask
from playwright.sync_api import Page, expect

from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from bridge.tasks.changes import publication
from bridge.tasks.event_types import State
from tests.browser.app import Served, served
from tests.browser.node import package
from tests.chromium import chromium
from tests.events import KINDS, full_of
from tests.servers import eventually

WITHIN = 30_000
HOSTILE = "<img src=x onerror=document.title='owned'>"

# Notes for how long the page blocks and what it notifies of, and lets a test hide the page.
PROBE = """
window.blocks = [];
new PerformanceObserver((list) => window.blocks.push(...list.getEntries().map(({ duration }) => duration)))
    .observe({ type: "longtask", buffered: true });
window.notified = [];
window.asked = 0;
window.Notification = class {
    static permission = "default";
    static async requestPermission() { window.asked++; return (this.permission = "granted"); }
    constructor(title, { body }) { window.notified.push(`${title}: ${body}`); }
};
let visibility = "visible";
Object.defineProperty(document, "visibilityState", { get: () => visibility });
window.setVisibility = (value) => {
    visibility = value;
    document.dispatchEvent(new Event("visibilitychange"));
};
"""
AN_HOUR_AHEAD = "const now = Date.now; Date.now = () => now.call(Date) + 3_600_000;"


def prepare(app: Flask, streams: Bridge) -> None:
    streams.authorize_cancel(lambda task: True)
    celery = Celery(broker="memory://", set_as_current=False)
    streams.monitor(app, "/ops/monitor", celery=celery, title="Task monitor")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page for the whole file. An error in the console, of a script or of the policy, fails a test."""
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.add_init_script(PROBE)
        page.set_default_timeout(WITHIN)
        yield page


@pytest.fixture
def complaints(page: Page) -> Iterator[list[str]]:
    found: list[str] = []

    def on_error(error: object) -> None:
        found.append(str(error))

    def on_console(message: Any) -> None:
        # The browser says this of each answer with an error status, which the tests ask for.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            found.append(message.text)

    page.on("pageerror", on_error)
    page.on("console", on_console)
    yield found
    page.remove_listener("pageerror", on_error)
    page.remove_listener("console", on_console)
    assert found == []


class Monitor:
    """The page, the server behind it, and the events that a test publishes."""

    def __init__(self, page: Page, app: Served) -> None:
        self.page = page
        self.app = app
        self.rows = page.locator(".rows .row")

    def open(self, query: str = "") -> None:
        """Open a view, connected to the stream."""
        self.page.goto(f"{self.app.address}/ops/monitor/{query}")
        self.live()

    def live(self) -> None:
        expect(self.page.locator("#connection")).to_have_text("Live", timeout=WITHIN)

    def state(self, task: str, state: str, at: float | None = None, /, **fields: Any) -> None:
        """Publish that a task is in a state."""
        moment = time.time() if at is None else at
        event = State(task, state=state, at=moment, **{"name": "work", "attempt": 1, **fields})
        transport_of(self.app.channel).publish(publication(event, 1))

    def progress(self, task: str, **fields: Any) -> None:
        self.app.say("progress", task, **fields)

    def row(self, task: str) -> Any:
        return self.page.locator(f'.rows .row[data-task="{task}"]')

    def listed(self) -> list[str]:
        """Return the ids of the rows in the document, in their order."""
        names: list[str] = self.page.locator(".rows .id").evaluate_all(
            "ids => ids.map((id) => id.textContent)"
        )
        return names

    def expect_listed(self, *ids: str) -> None:
        expect(self.page.locator(".rows .id")).to_have_text(list(ids), timeout=WITHIN)

    def axe(self) -> list[Any]:
        """Return what axe-core finds wrong."""
        self.page.evaluate((package("axe-core") / "axe.min.js").read_text())
        script = (
            "async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes[0].html])"
        )
        found: list[Any] = self.page.evaluate(script)
        return found


@pytest.fixture
def monitor(page: Page, complaints: list[str]) -> Iterator[Monitor]:
    """The list of a fresh server."""
    with served(prepare) as app:
        page.set_viewport_size({"width": 1280, "height": 800})
        yield Monitor(page, app)
        page.goto("about:blank")


def test_a_row_says_what_is_known_of_a_task(monitor: Monitor) -> None:
    """State, name, id, progress, rate, time left, message and error of a task are in its row, live."""
    monitor.open()
    expect(monitor.page.get_by_text("No tasks yet.")).to_be_visible()
    began = time.time()
    monitor.state("t1", "PENDING", began - 9)
    monitor.state("t1", "STARTED", began - 8, worker="celery@one")
    monitor.progress("t1", current=30, total=120, percent=25, rate=4.5, eta=20, message="Loading")
    row = monitor.row("t1")
    expect(row.locator(".chip")).to_have_text("running", timeout=WITHIN)
    expect(row.locator(".figures")).to_have_text("30 of 120 · 4.5/s · 20 s left · 25 %", timeout=WITHIN)
    expect(row.locator(".message")).to_have_text("Loading")
    expect(row.locator(".worker")).to_have_text("celery@one")
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(row.locator(".fill")).to_have_css("transform", "matrix(0.25, 0, 0, 1, 0, 0)")
    expect(monitor.page.locator("#announcer")).to_have_text("work running")
    assert monitor.page.title() == "1 running · Task monitor"
    monitor.state(
        "t1",
        "RETRY",
        began,
        retry_at=began + 90,
        error={"type": "ConnectionError", "message": "no <b>route</b>"},
    )
    words = re.compile(r"^Retrying in (1:\d\d min|\d\d s), attempt 2: ConnectionError: no <b>route</b>$")
    expect(row.locator(".message")).to_have_text(words, timeout=WITHIN)
    expect(row.locator(".chip")).to_have_text("retrying")
    first = row.locator(".message").inner_text()
    expect(row.locator(".message")).not_to_have_text(first, timeout=WITHIN)
    monitor.state("t1", "STARTED", began + 1, attempt=2)
    expect(row.locator(".chip")).to_have_text("running · attempt 2", timeout=WITHIN)
    monitor.state("t1", "FAILURE", began + 82.5, attempt=2, error={"type": "ValueError", "message": "bad"})
    expect(row.locator(".message")).to_have_text("ValueError: bad", timeout=WITHIN)
    expect(row.locator(".duration")).to_have_text("1:30 min")
    expect(monitor.page).to_have_title("1 failed · Task monitor")
    icon = monitor.page.locator("link[rel=icon]")
    assert str(icon.get_attribute("href")).startswith("data:image/svg+xml,")
    monitor.page.reload()
    expect(row.locator(".duration")).to_have_text("1:30 min", timeout=WITHIN)


def test_only_the_rows_in_sight_are_in_the_document(monitor: Monitor) -> None:
    """Of thousands of tasks few are in the document, each can be reached, and the page stays responsive."""
    monitor.open()
    now = time.time()
    transport = transport_of(monitor.app.channel)
    for number in range(3000):
        event = State(f"n{number:04}", state="PENDING", at=now + number / 1000, name="work", attempt=1)
        transport.publish(publication(event, 1))
    expect(monitor.page.locator(".summary")).to_have_text("3,000 tasks", timeout=WITHIN)
    assert monitor.listed()[:3] == ["n2999", "n2998", "n2997"]
    assert monitor.rows.count() < 40
    expect(monitor.page.get_by_role("grid")).to_have_attribute("aria-rowcount", "3001")
    for place in (0.5, 1.0):
        monitor.page.locator(".scroller").evaluate(
            "(it, place) => (it.scrollTop = it.scrollHeight * place)", place
        )
        expect(monitor.row("n1499" if place == 0.5 else "n0000")).to_be_visible(timeout=WITHIN)
        assert monitor.rows.count() < 40
        assert monitor.listed() == sorted(monitor.listed(), reverse=True)
    last = monitor.row("n0000").bounding_box()
    monitor.state("new", "STARTED", now + 9)
    expect(monitor.page.locator(".summary")).to_have_text("3,001 tasks", timeout=WITHIN)
    assert monitor.row("n0000").bounding_box() == last
    # A blocked page has one task of seconds. This machine may be busy, so the bound is wide.
    assert max(monitor.page.evaluate("window.blocks"), default=0) < 2000


def test_filters_search_and_order_are_in_the_address(monitor: Monitor) -> None:
    """What is filtered, searched and sorted can be linked to, and back and forward lead through it."""
    now = time.time()
    monitor.state(
        "a",
        "FAILURE",
        now - 4000,
        name="shop.buy",
        worker="w1",
        tags=["user:4"],
        error={"type": "E", "message": "No Route"},
    )
    monitor.state("b", "STARTED", now - 30, name="shop.sell", worker="w2", tags=["user:42"])
    monitor.state("c", "PENDING", now - 20, name="mail")
    monitor.open()
    monitor.expect_listed("c", "b", "a")
    page = monitor.page
    states = page.get_by_role("navigation", name="States")
    expect(states).to_have_text(re.compile(r"all\s*3.*queued\s*1.*running\s*1.*failed\s*1"))
    states.get_by_text("failed").click()
    monitor.expect_listed("a")
    assert page.url.endswith("?state=failed")
    page.get_by_label("Search").fill("zzz")
    expect(page.get_by_text("No task matches these filters.")).to_be_visible()
    page.get_by_role("link", name="Show all tasks").click()
    monitor.expect_listed("c", "b", "a")
    page.go_back()
    expect(page.get_by_label("Search")).to_have_value("zzz")
    page.go_back()
    monitor.expect_listed("c", "b", "a")
    page.go_forward()
    expect(page.get_by_text("No task matches these filters.")).to_be_visible()
    monitor.open("?q=no+ROUTE&state=failed")
    monitor.expect_listed("a")
    expect(page.get_by_label("Search")).to_have_value("no ROUTE")
    monitor.open("?tag=user:4")
    monitor.expect_listed("a")
    page.get_by_label("Tag").fill("user")
    monitor.expect_listed("b", "a")
    page.get_by_label("Tag").fill("")
    page.get_by_label("Task", exact=True).fill("shop")
    page.get_by_role("combobox", name="Queued").select_option("Last hour")
    monitor.expect_listed("b")
    assert "since=1h" in page.url
    monitor.open("?sort=name")
    monitor.expect_listed("c", "a", "b")
    page.get_by_role("columnheader", name="Task").get_by_role("button").click()
    monitor.expect_listed("b", "a", "c")
    expect(page.get_by_role("columnheader", name="Task")).to_have_attribute("aria-sort", "descending")
    page.reload()
    monitor.expect_listed("b", "a", "c")
    expect(page.get_by_role("img", name=re.compile("1 tasks? ended"))).to_have_count(1)


def test_a_group_is_one_row_until_it_is_opened(monitor: Monitor) -> None:
    """The parts of a group are counted in its row, and are shown when the address asks for them."""
    now = time.time()
    counts = {"waiting": 0, "running": 1, "succeeded": 1, "failed": 0, "revoked": 0}
    children = [
        {"task": f"p{number}", "name": "add", "state": "STARTED", "index": number} for number in (1, 2)
    ]
    known = {"task": "g", "children": children}
    monitor.page.route("**/api/tasks/g", lambda route: route.fulfill(json=known))
    monitor.state("g", "STARTED", now - 5, canvas="group", name="add", parts=counts)
    monitor.state("alone", "PENDING", now - 2)
    monitor.open()
    monitor.expect_listed("alone", "g")
    monitor.state("p3", "STARTED", now - 1, name="add", canvas_id="g", index=3)
    row = monitor.row("g")
    expect(row.locator(".name")).to_have_text("group of add")
    row.get_by_role("button", name="2 parts of group of add").click()
    monitor.expect_listed("alone", "g", "p1", "p2", "p3")
    monitor.page.reload()
    monitor.expect_listed("alone", "g", "p1", "p2")
    monitor.row("g").get_by_role("button").click()
    monitor.expect_listed("alone", "g")
    # A task that turns out to be a part loses its row.
    monitor.state("alone", "STARTED", now - 1, canvas_id="g")
    monitor.expect_listed("g")
    monitor.open("?canvas=g&sort=name")
    expect(monitor.rows).to_have_count(4, timeout=WITHIN)
    monitor.page.unroute_all()


def test_everything_can_be_done_with_the_keyboard(monitor: Monitor) -> None:
    """`/` searches, arrows move, Enter opens, Escape comes back to the same place, `?` helps."""
    now = time.time()
    for number in range(40):
        monitor.state(f"k{number:02}", "PENDING", now + number)
    monitor.open()
    page = monitor.page
    expect(monitor.row("k39")).to_be_visible()
    page.keyboard.press("/")
    expect(page.get_by_label("Search")).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(monitor.row("k39")).to_be_focused()
    for key, task in (
        ("ArrowDown", "k38"),
        ("End", "k00"),
        ("ArrowUp", "k01"),
        ("Home", "k39"),
        ("ArrowDown", "k38"),
    ):
        page.keyboard.press(key)
        expect(monitor.row(task)).to_be_focused()
    # The focus stays on its task, whatever comes above it.
    monitor.state("k99", "STARTED", now + 99)
    expect(monitor.row("k99")).to_be_visible()
    expect(monitor.row("k38")).to_be_focused()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(monitor.row("k38")).to_be_focused()
    page.keyboard.press("Enter")
    page.wait_for_url("**/?task=k38")
    expect(page.locator(".list")).to_have_count(0)
    page.keyboard.press("Escape")
    expect(monitor.row("k38")).to_be_visible()
    assert page.url.endswith("/monitor/")
    page.keyboard.press("g")
    page.keyboard.press("w")
    page.wait_for_url("**/?view=workers")
    expect(page.get_by_role("link", name="Workers")).to_have_attribute("aria-current", "page")


def test_a_failed_request_shows_its_reason(monitor: Monitor) -> None:
    """When the server refuses to cancel, the page shows what it says, until that is closed."""
    page = monitor.page
    monitor.state("t1", "STARTED")
    detail = "The task <b>has</b> already ended."
    answer = {"status": 409, "content_type": "application/problem+json", "json": {"detail": detail}}
    page.route("**/api/tasks/t1", lambda route: route.fulfill(**answer))
    page.route(
        "**/api/tasks?*", lambda route: route.fulfill(status=503, json={"detail": "The backend is away."})
    )
    try:
        monitor.open()
        expect(page.locator(".foot")).to_contain_text("The backend is away.")
        monitor.row("t1").get_by_role("button", name="Cancel work t1").click()
        complaint = page.get_by_role("alert").filter(has_text=detail)
        expect(complaint).to_contain_text(f"work t1 was not cancelled. {detail}")
        complaint.get_by_role("button", name="Close this message").click()
        expect(complaint).to_have_count(0)
    finally:
        page.unroute_all()


def test_a_notification_comes_at_the_end_if_it_is_wanted(monitor: Monitor) -> None:
    """Permission is asked for after a click only; then one notification says how all tasks ended."""
    monitor.state("t1", "STARTED")
    monitor.open()
    page, button = monitor.page, monitor.page.get_by_role("button", name="Notify me at the end")
    expect(monitor.row("t1")).to_be_visible()
    assert page.evaluate("window.asked") == 0
    button.click()
    expect(button).to_have_attribute("aria-pressed", "true")
    assert page.evaluate("[window.asked, window.notified]") == [1, []]
    monitor.state("t2", "FAILURE")
    expect(monitor.row("t2")).to_be_visible()
    # Also in a page that nobody sees. It has nothing to draw there.
    page.evaluate("setVisibility('hidden')")
    monitor.state("t1", "SUCCESS")
    eventually(lambda: page.evaluate("window.notified.length > 0"), within=30)
    assert page.evaluate("window.notified") == ["All tasks have ended: 1 task done, 1 failed."]
    assert monitor.row("t1").locator(".chip").inner_text() == "running"
    page.evaluate("setVisibility('visible')")
    expect(monitor.row("t1").locator(".chip")).to_have_text("done", timeout=WITHIN)
    expect(button).to_have_attribute("aria-pressed", "false")


STATES = ("PENDING", "STARTED", "RETRY", "STALLED", "FAILURE", "REVOKED", "SUCCESS", HOSTILE)


def test_bad_input_stays_text_and_breaks_nothing(monitor: Monitor) -> None:
    """Markup, ids like `__proto__`, unknown types, huge log lines, and an end without a beginning."""
    monitor.open()
    transport = transport_of(monitor.app.channel)
    for number, name in enumerate(STATES):
        for kind in reversed(KINDS):
            event = full_of(HOSTILE, kind, f"{HOSTILE}{number}")
            event.canvas_id = None  # the parts of a canvas have no row
            if isinstance(event, State):
                event.state = name
            transport.publish(publication(event, 1))
    for task in ("__proto__", "constructor"):
        monitor.state(task, "STARTED")
        monitor.app.say("log", task, message="x" * 1_000_000)
        monitor.app.say("no-such-type", task, data={"__proto__": 1})
    monitor.state("unknown", "SUCCESS", name=None)
    monitor.progress("never heard of", percent=1e9)
    expected = {
        *(f"{HOSTILE}{number}" for number in range(len(STATES))),
        "__proto__",
        "constructor",
        "unknown",
        "never heard of",
    }
    for _ in ("live", "after a reload"):
        expect(monitor.page.locator(".summary")).to_have_text(f"{len(expected)} tasks", timeout=WITHIN)
        assert set(monitor.listed()) == expected
        expect(monitor.row("unknown").locator(".chip")).to_have_text("done")
        assert monitor.page.locator("main img, [onerror], main script").count() == 0
        assert "owned" not in monitor.page.title()
        assert monitor.page.evaluate("({}).state === undefined")
        monitor.page.reload()
        monitor.live()


def test_times_are_those_of_the_server(page: Page, complaints: list[str]) -> None:
    """On a computer whose clock is an hour ahead, times are right all the same."""
    browser = page.context.browser
    assert browser is not None
    with served(prepare) as app, browser.new_page() as late:
        late.add_init_script(AN_HOUR_AHEAD)
        monitor = Monitor(late, app)
        monitor.state("t1", "STARTED", time.time() - 5)
        monitor.open()
        expect(monitor.row("t1").locator(".queued")).to_have_text(re.compile(r"^\d+ s ago$"), timeout=WITHIN)
        expect(monitor.row("t1").locator(".duration")).to_have_text(re.compile(r"^\d+ s$"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everyone_can_use_the_list(monitor: Monitor, scheme: Any) -> None:
    """axe-core finds nothing wrong: in the list, the filters, the help, an empty list, and on a phone."""
    page = monitor.page
    page.emulate_media(color_scheme=scheme)
    now = time.time()
    for number, name in enumerate(
        ("PENDING", "STARTED", "RETRY", "STALLED", "FAILURE", "REVOKED", "SUCCESS", "IGNORED")
    ):
        monitor.state(f"t{number}", name, now - number, worker="w", error={"type": "E", "message": "m"})
    monitor.progress("t1", current=1, total=2, percent=50, message="half")
    monitor.state("g", "STARTED", now, canvas="group", parts={"running": 1, "waiting": 1})
    try:
        monitor.open("?open=g")
        expect(monitor.rows).to_have_count(9, timeout=WITHIN)
        assert monitor.axe() == []
        page.locator(".more summary").click()
        page.get_by_role("combobox", name="Queued").select_option("Between …")
        expect(page.get_by_label("From")).to_be_visible()
        assert monitor.axe() == []
        page.get_by_role("button", name="Keyboard help").click()
        assert monitor.axe() == []
        page.keyboard.press("Escape")
        page.set_viewport_size({"width": 390, "height": 780})
        monitor.open()
        expect(monitor.rows).to_have_count(9, timeout=WITHIN)
        # The tasks come first: without scrolling.
        box = monitor.rows.first.bounding_box()
        assert box is not None
        assert box["y"] + box["height"] < 500
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert monitor.axe() == []
        monitor.open("?q=nothing")
        expect(page.get_by_text("No task matches these filters.")).to_be_visible()
        assert monitor.axe() == []
    finally:
        page.emulate_media(color_scheme="light")
