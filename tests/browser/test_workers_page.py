"""The view of the workers in the monitor: which are alive, what they run, and what a failed request says."""

import time
from collections.abc import Iterator

import pytest
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from bridge.tasks.heartbeats import Heartbeat, Report, Running
from tests.browser.app import Served, served
from tests.browser.tabs import SECONDS, Tabs
from tests.browser.test_task_page import complaints

NAME = "celery@<b>one</b>"


def prepare(flask: Flask, streams: Bridge) -> None:
    streams.monitor(flask, "/monitor")


@pytest.fixture
def app() -> Iterator[Served]:
    with served(prepare) as app:
        yield app


@pytest.fixture
def page(chromium_tabs: Tabs) -> Iterator[Page]:
    """A tab. An error of a script fails the test."""
    page: Page = chromium_tabs.open("about:blank")
    page.set_default_timeout(SECONDS * 1000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert errors == []


def beat(
    app: Served, name: str, number: int, at: float, succeeded: int, *tasks: str, last: bool = False
) -> None:
    """Publish a heartbeat of a worker that runs `tasks`."""
    running = [Running(task, f"name of {task}", at - 30) for task in tasks]
    report = Report(at, at - 7200, 600, succeeded, 1, running, len(tasks))
    transport_of(app.channel).publish(
        Heartbeat(f"process of {name}", name, number, last, report=report).publication()
    )


def row(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_role("rowheader", name=name, exact=True))


def test_workers_come_go_and_run_tasks(app: Served, page: Page) -> None:
    """What runs and the figures follow the heartbeats; a worker that ended is silent; tasks are links."""
    page.goto(f"{app.address}/monitor/?view=workers")
    expect(page.locator(".workers-page")).to_contain_text("No workers are known.")
    now = time.time()
    beat(app, NAME, 1, now, 1233, "__proto__", "t2")
    beat(app, "celery@two", 1, now - 60, 5, last=True)
    first, second = row(page, NAME), row(page, "celery@two")
    expect(first).to_contain_text("alive for 2:00 h")
    expect(first.get_by_role("link", name="name of")).to_have_text(["name of __proto__", "name of t2"])
    expect(first.get_by_role("cell").nth(2)).to_have_text("1,233")
    expect(second).to_contain_text("silent last seen 1 min ago")
    expect(second).to_contain_text("nothing")
    beat(app, NAME, 2, now, 1234, *(f"t{number}" for number in range(2, 14)))
    expect(first.get_by_role("cell").nth(2)).to_have_text("1,234")
    expect(first.get_by_role("link", name="name of")).to_have_count(8)
    first.get_by_role("button", name="Show 4 more tasks").click()
    expect(first.get_by_role("link", name="name of")).to_have_count(12)
    first.get_by_role("link", name="name of t13").click()
    expect(page.locator(".task-page")).to_contain_text("Nothing is known of this task")


def test_a_failed_request_says_why_and_the_next_one_helps(app: Served, page: Page) -> None:
    """What was known stays beside the message, and the message goes when the server answers again."""
    beat(app, NAME, 1, time.time(), 7)
    page.goto(f"{app.address}/monitor/?view=workers")
    expect(row(page, NAME)).to_be_visible()
    problem = {
        "status": 503,
        "content_type": "application/problem+json",
        "body": '{"detail": "The backend is <b>away</b>."}',
    }
    page.route("**/api/workers", lambda route: route.fulfill(**problem))
    alert = page.get_by_role("alert").filter(
        has_text="The workers could not be read: The backend is <b>away</b>."
    )
    expect(alert).to_be_visible()
    expect(row(page, NAME)).to_be_visible()
    page.unroute("**/api/workers")
    expect(alert).to_have_count(0)


def test_the_workers_are_accessible_and_fit_a_phone(app: Served, page: Page) -> None:
    """axe-core has no complaint, light and dark, wide and narrow; nothing is wider than 390 px."""
    beat(app, "celery@" + "long-name." * 12, 1, time.time(), 7, *(f"t{number}" for number in range(10)))
    beat(app, "celery@two", 1, time.time(), 0, last=True)
    page.goto(f"{app.address}/monitor/?view=workers")
    expect(row(page, "celery@two")).to_be_visible()
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        page.emulate_media(color_scheme="light")
        assert complaints(page) == [], width
        page.emulate_media(color_scheme="dark")
        assert complaints(page) == [], width
