"""`<task-progress>` in a page with a strict policy: what it shows, announces and asks."""

from collections.abc import Iterator

# `Any` in this module: the properties of an element are JSON.
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from bridge.flask import Bridge
from bridge.tasks.event_types import Error
from tests.browser.app import Served, served
from tests.browser.node import package
from tests.browser.tabs import SECONDS, Tabs
from tests.servers import eventually

MS = 20_000
HOSTILE = "<img src=x onerror=document.title='owned'>"

SHOW = """async (html) => {
    window.violations = [];
    addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
    await import("/bridge/element.js");
    document.body.innerHTML = html;
}"""


FOLLOW_SCHEME = """() => {
    document.documentElement.style.colorScheme = "light dark";
    document.body.style.background = "Canvas";
}"""


def prepare(app: Flask, streams: Bridge) -> None:
    @app.delete("/events/<task_id>")
    def cancel(task_id: str) -> tuple[dict[str, str], int]:
        return ({"detail": f"not {task_id}, {HOSTILE}"}, 409) if task_id == "kept" else ({}, 202)


@pytest.fixture
def app() -> Iterator[Served]:
    with served(prepare) as app:
        yield app


@pytest.fixture
def page(app: Served, chromium_tabs: Tabs) -> Iterator[Page]:
    """An empty page. An error of a script, or against the policy, fails the test."""
    page: Page = chromium_tabs.open(app.address)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert (page.evaluate("() => window.violations"), errors, page.title()) == ([], [], "Client")


def show(page: Page, html: str) -> Locator:
    page.evaluate(SHOW, html)
    return page.locator("task-progress").first


def part(element: Locator, name: str) -> Locator:
    return element.locator(f"[part~={name}]")


def started(app: Served, task: str = "t", **fields: Any) -> None:
    app.say("state", task, state="STARTED", name="work", **fields)


def test_a_task_is_shown_from_its_start_to_its_end(app: Served, page: Page) -> None:
    """Name, state, bar, message and figures follow the task; the element says when it has ended."""
    element = show(page, '<task-progress task="t"></task-progress>')
    expect(part(element, "state")).to_have_text("queued", timeout=MS)
    started(app)
    expect(part(element, "name")).to_have_text("work", timeout=MS)
    expect(part(element, "state")).to_have_text("running")
    bar = element.get_by_role("progressbar", name="work")
    expect(bar).not_to_have_attribute("aria-valuenow", "0")
    figures = {"current": 1500, "total": 6000, "percent": 25.0, "rate": 12.5, "eta": 90.0}
    app.say("progress", "t", message="loading", **figures)
    expect(part(element, "message")).to_have_text("loading", timeout=MS)
    expect(part(element, "figures")).to_have_text("1,500 of 6,000 · 12.5/s · 1:30 min left · 25 %")
    expect(bar).to_have_attribute("aria-valuenow", "25")
    expect(part(element, "fill")).to_have_css("transform", "matrix(0.25, 0, 0, 1, 0, 0)")
    page.evaluate("() => addEventListener('task-end', ({ detail }) => (window.ended = detail.state))")
    app.say("state", "t", state="SUCCESS", result=1)
    expect(part(element, "state")).to_have_text("done", timeout=MS)
    expect(bar).to_have_attribute("aria-valuenow", "100")
    eventually(lambda: page.evaluate("() => window.ended") == "SUCCESS", SECONDS)


def test_hostile_texts_stay_texts(app: Served, page: Page) -> None:
    """Names, messages, errors, log lines and refusals are shown as they are."""
    element = show(page, '<task-progress task="kept" log cancel></task-progress>')
    app.say("state", "kept", state="STARTED", name=HOSTILE)
    app.say("progress", "kept", message=HOSTILE)
    app.say("log", "kept", level="error' onclick='x", message=HOSTILE)
    expect(part(element, "message")).to_have_text(HOSTILE, timeout=MS)
    expect(part(element, "name")).to_have_text(HOSTILE)
    element.locator("summary").click()
    expect(part(element, "lines").locator("li")).to_have_text([HOSTILE])
    element.get_by_role("button", name="Cancel").click()
    expect(part(element, "error")).to_have_text(f"not kept, {HOSTILE}", timeout=MS)
    app.say("state", "kept", state="FAILURE", error=Error(type=HOSTILE, message=HOSTILE))
    expect(part(element, "error")).to_have_text(f"{HOSTILE}: {HOSTILE}", timeout=MS)
    expect(page.locator("img")).to_have_count(0)


def test_the_log_is_made_on_demand_and_bounded(app: Served, page: Page) -> None:
    """A closed log has no lines; an open one has the newest, and what comes is added."""
    element = show(page, '<task-progress task="t" log></task-progress>')
    started(app)
    for number in range(700):
        app.say("log", "t", level="info", message=f"line {number}")
    expect(element.locator("summary")).to_have_text("Log (700)", timeout=MS)
    lines = part(element, "lines").locator("li")
    expect(lines).to_have_count(0)
    element.locator("summary").click()
    expect(lines).to_have_count(500, timeout=MS)
    app.say("log", "t", level="info", message="one more")
    expect(lines.last).to_have_text("one more", timeout=MS)
    expect(lines).to_have_count(500)


def test_cancel_is_offered_only_where_it_is_asked_for(app: Served, page: Page) -> None:
    """Without the attribute there is no button; with it, a press asks, and the next one is by force."""
    element = show(
        page, '<task-progress task="t"></task-progress><task-progress task="t" cancel></task-progress>'
    )
    started(app)
    button = page.locator("task-progress").last.get_by_role("button")
    expect(button).to_have_text("Cancel", timeout=MS)
    expect(element.get_by_role("button")).to_have_count(0)
    button.click()
    eventually(lambda: app.asked["/events/t"] == 1, SECONDS)
    app.say("cancel_requested", "t")
    expect(button).to_have_text("Stop by force", timeout=MS)
    expect(part(element, "message")).to_have_text("Cancellation requested")
    app.say("state", "t", state="REVOKED", reason="cancelled")
    expect(button).to_have_count(0, timeout=MS)
    assert app.asked["/events"] == 1


def test_a_change_is_announced_once_and_progress_rarely(app: Served, page: Page) -> None:
    """A screen reader hears each new state, and not every percent."""
    element = show(page, '<task-progress task="t"></task-progress>')
    live = element.locator("[aria-live=polite]")
    started(app)
    expect(live).to_have_text("work: running", timeout=MS)
    for number in range(50):
        app.say("progress", "t", current=number, total=50, percent=2.0 * number)
    expect(part(element, "figures")).to_contain_text("49 of 50", timeout=MS)
    expect(live).to_have_text("work: running")
    app.say("state", "t", state="SUCCESS")
    expect(live).to_have_text("work: done", timeout=MS)


def test_direction_motion_colours_and_parts(app: Served, page: Page) -> None:
    """The bar grows from the right in a page of that direction, stands still if wanted, and takes colours."""
    page.emulate_media(reduced_motion="reduce", color_scheme="dark")
    page.evaluate(FOLLOW_SCHEME)
    html = '<div dir="rtl"><task-progress task="t" lang="de"></task-progress></div>'
    element = show(page, html)
    started(app)
    expect(part(element, "bar")).to_have_attribute("data-running", "", timeout=MS)
    fill = part(element, "fill")
    expect(fill).to_have_css("animation-name", "none")
    app.say("progress", "t", current=1500, total=6000, percent=25.0)
    expect(part(element, "figures")).to_contain_text("1.500 of 6.000", timeout=MS)
    bar, filled = part(element, "bar").bounding_box(), fill.bounding_box()
    assert bar is not None
    assert filled is not None
    assert abs((filled["x"] + filled["width"]) - (bar["x"] + bar["width"])) < 1
    dark = fill.evaluate("fill => getComputedStyle(fill).backgroundColor")
    page.emulate_media(color_scheme="light")
    assert fill.evaluate("fill => getComputedStyle(fill).backgroundColor") != dark
    element.evaluate("it => it.style.setProperty('--task-progress-accent', 'rgb(1, 2, 3)')")
    expect(fill).to_have_css("background-color", "rgb(1, 2, 3)")


def test_an_element_that_is_removed_stops_watching(app: Served, page: Page) -> None:
    """Elements come and go, and show another task when told; the last one to go ends the stream."""
    element = show(page, '<task-progress task="t" name="Mine"></task-progress>')
    expect(part(element, "state")).to_have_text("queued", timeout=MS)
    expect(part(element, "name")).to_have_text("Mine")
    app.say("state", "other", state="STARTED")
    element.evaluate("it => it.setAttribute('task', 'other')")
    expect(part(element, "state")).to_have_text("running", timeout=MS)
    element.evaluate("it => it.remove()")
    eventually(lambda: app.viewers == 0, SECONDS, "the stream is still open")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_element_is_accessible(app: Served, page: Page, scheme: Any) -> None:
    """axe-core finds nothing to complain of, with every part shown."""
    page.emulate_media(color_scheme=scheme)
    show(page, '<main><h1>Tasks</h1><task-progress task="t" log cancel></task-progress></main>')
    page.evaluate(FOLLOW_SCHEME)
    started(app)
    app.say("progress", "t", current=1, total=4, percent=25.0, message="loading")
    app.say("log", "t", level="info", message="a line")
    expect(page.locator("summary")).to_have_text("Log (1)", timeout=MS)
    page.locator("summary").click()
    page.evaluate((package("axe-core") / "axe.min.js").read_text())
    found = page.evaluate(
        "async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes[0].html])"
    )
    assert found == []
