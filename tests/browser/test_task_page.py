"""The page of a task, and of a canvas, in the monitor: what it shows, asks for, and does with bad input."""

import json
import re
import time
import uuid
from collections.abc import Iterator

# `Any` in this module: the fields of events, and the properties of Flask.
from typing import Any
from urllib.parse import urlencode

import pytest
from celery import Celery
from flask import Flask
from playwright.sync_api import Locator, Page, expect

from bridge.celery import install
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from bridge.tasks import canvas
from bridge.tasks.changes import publication
from bridge.tasks.event_types import State
from tests.browser.app import Served, served
from tests.browser.node import package
from tests.browser.tabs import SECONDS, Tabs
from tests.events import KINDS, full_of

HOUR = 3600
HOSTILE = "<img src=x onerror=document.title='owned'>"
ERROR = {
    "type": "ConnectionError",
    "message": "no route",
    "traceback": "Traceback: line 1\nConnectionError: no route",
}

WATCH = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


@pytest.fixture(scope="module")
def app() -> Iterator[Served]:
    """An application with the monitor, and with a Celery app to cancel its tasks."""
    url = f"memory://{uuid.uuid4().hex}"
    with Celery(f"page-{uuid.uuid4().hex}", broker="memory://", set_as_current=False) as celery:
        install(celery, url)

        def prepare(flask: Flask, streams: Bridge) -> None:
            streams.authorize_cancel(lambda task_id: True)
            streams.monitor(flask, "/monitor", celery=celery, run_again=True)

        with served(prepare, BRIDGE_URL=url) as app:
            yield app


@pytest.fixture
def page(app: Served, chromium_tabs: Tabs) -> Iterator[Page]:
    """A tab. An error of a script, or against the policy, fails the test."""
    page: Page = chromium_tabs.open("about:blank")
    page.add_init_script(WATCH)
    page.set_default_timeout(SECONDS * 1000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    assert (page.evaluate("() => window.violations ?? []"), errors) == ([], [])


def show(app: Served, page: Page, task: str) -> Locator:
    """Open the page of a task. Returns what it shows."""
    page.goto(f"{app.address}/monitor/?{urlencode({'task': task})}")
    return page.locator(".task-page")


def new_id() -> str:
    return f"t-{uuid.uuid4().hex[:12]}"


def ago(seconds: int) -> float:
    """Return a time with whole seconds, so that differences are exact."""
    return float(int(time.time()) - seconds)


def fact(shown: Locator, name: str) -> Locator:
    return shown.locator(
        ".facts div", has=shown.page.locator("dt", has_text=re.compile(f"^{name}$"))
    ).locator("dd")


def started(app: Served, task: str, at: float, **fields: Any) -> None:
    """Publish that a task was queued at `at`, received and started 2 and 3 seconds later."""
    about = {"name": "work", **fields}
    app.say("state", task, state="PENDING", at=at, **about)
    app.say("state", task, state="RECEIVED", at=at + 2, worker="celery@one", **about)
    app.say("state", task, state="STARTED", at=at + 3, worker="celery@one", **about)


def labels(shown: Locator) -> Locator:
    return shown.locator(".timeline .label")


def test_a_task_is_followed_from_its_queue_to_its_end(app: Served, page: Page) -> None:
    """State, progress, waits, attempt, steps, end and result appear as they happen; times have a title."""
    task, at = new_id(), ago(60)
    shown = show(app, page, task)
    expect(shown).to_contain_text("Nothing is known of this task")
    started(app, task, at)
    expect(shown.get_by_role("heading", level=2)).to_have_text("work")
    expect(shown.get_by_role("status")).to_have_text("running")
    expect(labels(shown)).to_have_text(["Queued", "Received", "Attempt 1"])
    expect(fact(shown, "Worker")).to_have_text("celery@one")
    expect(fact(shown, "Waited")).to_have_text("3 s")
    app.say("progress", task, current=1500, total=6000, percent=25.0, rate=12.5, eta=90.0, message="loading")
    expect(shown.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "25")
    expect(shown.locator(".progress .line")).to_contain_text("1,500 of 6,000 · 12.5/s · 1:30 min left · 25 %")
    app.say("step", task, name="load", status="started", at=at + 10)
    app.say("step", task, name="load", status="succeeded", at=at + 20)
    app.say("state", task, state="SUCCESS", result={"rows": 7}, at=at + 30)
    expect(shown.get_by_role("status")).to_have_text("done")
    expect(labels(shown)).to_have_text(["Queued", "Received", "Attempt 1", "load", "Succeeded"])
    expect(shown.locator(".bars .length")).to_have_text(["2 s", "1 s", "27 s", "10 s", ""])
    expect(shown.get_by_role("region", name="Result", exact=True).locator("pre")).to_have_text(
        re.compile('"rows": 7')
    )
    expect(fact(shown, "Duration")).to_have_text("27 s")
    iso = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))
    expect(fact(shown, "Queued").locator("time")).to_have_attribute("title", re.compile(f"^{iso[:-3]}"))
    starts = [bar["x"] for bar in map(Locator.bounding_box, shown.locator(".bar-of-time").all()) if bar]
    assert starts == sorted(starts)


def test_attempts_have_their_errors_and_a_retry_counts_down(app: Served, page: Page) -> None:
    """Each attempt has its error; a wait says why and how long; a failure has its traceback."""
    task, at = new_id(), ago(60)
    started(app, task, at)
    shown = show(app, page, task)
    app.say(
        "state", task, state="RETRY", error=ERROR, started_at=at + 3, retry_at=time.time() + 900, at=at + 5
    )
    expect(shown.get_by_role("status")).to_have_text("retrying")
    expect(shown.locator(".notice")).to_contain_text(re.compile(r"The next attempt starts in 1\d:\d\d min"))
    expect(shown.locator(".notice")).to_contain_text("ConnectionError: no route")
    app.say("state", task, state="STARTED", attempt=2, at=at + 40, name="work")
    expect(labels(shown)).to_have_text(["Queued", "Received", "Attempt 1", "Waits to retry", "Attempt 2"])
    for reloaded in (False, True):
        if reloaded:
            page.reload()
        expect(shown.locator("li[data-kind=attempt]").first).to_contain_text("ConnectionError: no route")
        expect(shown.locator("li[data-kind=wait] .length")).to_have_text("35 s")
    app.say("state", task, state="FAILURE", attempt=2, error=ERROR, at=at + 50)
    expect(shown.get_by_role("region", name="Error", exact=True)).to_contain_text("ConnectionError: no route")
    expect(shown.get_by_role("region", name="Details of the error")).to_have_text(ERROR["traceback"])
    expect(labels(shown).last).to_have_text("Failed")


def test_a_task_that_ended_before_the_page_knew_of_it_shows_its_end(app: Served, page: Page) -> None:
    """A page that comes late has the result, the arguments and the whole timeline."""
    task, at = new_id(), ago(5000)
    started(app, task, at, args=["<b>", 2], kwargs={"dry": True})
    app.say("state", task, state="SUCCESS", result="fine", at=at + 8)
    shown = show(app, page, task)
    expect(shown.get_by_role("status")).to_have_text("done")
    expect(shown.get_by_role("region", name="Result", exact=True).locator("pre")).to_have_text("fine")
    expect(shown.get_by_role("region", name="Positional arguments")).to_have_text(
        json.dumps(["<b>", 2], indent=2)
    )
    expect(shown.get_by_role("region", name="Keyword arguments")).to_contain_text('"dry": true')
    expect(labels(shown).last).to_have_text("Succeeded")
    expect(shown.get_by_role("button", name="Cancel")).to_have_count(0)


def lines(shown: Locator) -> Locator:
    return shown.locator(".lines li")


def test_the_log_follows_its_end_unless_the_reader_scrolled_up(app: Served, page: Page) -> None:
    """Few lines are in the document, those before them are a press away, and reading is not disturbed."""
    task = new_id()
    started(app, task, time.time())
    for number in range(900):
        app.say("log", task, message=f"line {number}")
    page.set_viewport_size({"width": 1280, "height": 2000})
    shown = show(app, page, task)
    expect(lines(shown).last).to_contain_text("line 899")
    expect(lines(shown)).to_have_count(200)
    app.say("log", task, message="one more")
    expect(lines(shown).last).to_be_in_viewport()
    expect(lines(shown).last).to_contain_text("one more")
    shown.get_by_role("button", name="Show 200 earlier lines").click()
    expect(lines(shown)).to_have_count(400)
    box = shown.get_by_role("region", name="Lines of the log")
    box.evaluate("(box) => { box.scrollTop = 100; }")
    jump = shown.get_by_role("button", name="To the end")
    expect(jump).to_be_visible()
    app.say("log", task, message="the last")
    expect(shown.get_by_role("button", name="1 new line")).to_be_visible()
    assert box.evaluate("(box) => box.scrollTop") == 100
    shown.get_by_role("button", name="1 new line").click()
    expect(lines(shown).last).to_be_in_viewport()
    expect(box).to_be_focused()


def test_the_log_is_searched_filtered_and_downloaded(app: Served, page: Page) -> None:
    """Search and level choose lines, live ones too; the download has all, as one line each."""
    task = new_id()
    started(app, task, time.time())
    for level in ("debug", "info", "warning", "error"):
        app.say("log", task, level=level, message=f"Said at {level}")
    app.say("__proto__", task, data={"odd": [1, HOSTILE]})
    shown = show(app, page, task)
    expect(lines(shown)).to_have_count(5)
    expect(lines(shown).last).to_contain_text("__proto__")
    expect(lines(shown).last).to_contain_text(json.dumps({"odd": [1, HOSTILE]}, separators=(",", ":")))
    page.keyboard.press("/")
    search = shown.get_by_role("searchbox")
    expect(search).to_be_focused()
    search.fill("AT WARN")
    expect(lines(shown)).to_have_count(1)
    app.say("log", task, level="info", message="not sought")
    app.say("log", task, level="info", message="look at warnings")
    expect(lines(shown).last).to_contain_text("look at warnings")
    expect(lines(shown)).to_have_count(2)
    expect(shown.locator(".log-tools")).to_contain_text("2 of 7 lines")
    search.fill("")
    shown.get_by_label("Lowest level").select_option("warning")
    expect(lines(shown)).to_have_count(2)
    with page.expect_download() as download:
        shown.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"task-{task}.log"
    text = download.value.path().read_text("utf-8").splitlines()
    assert [line.split(" ", 1)[1] for line in text[:2]] == ["DEBUG Said at debug", "INFO Said at info"]
    assert len(text) == 7


def test_a_line_of_a_megabyte_is_cut_until_it_is_asked_for(app: Served, page: Page) -> None:
    """Only the beginning of a huge line is in the document, and its end is found by the search."""
    task = new_id()
    started(app, task, time.time())
    app.say("log", task, message="x" * 1_000_000 + " the end")
    shown = show(app, page, task)
    text = lines(shown).locator(".text")
    more = shown.get_by_role("button", name="Show all (976.6 KiB)")
    expect(more).to_be_visible()
    assert len(text.text_content() or "") < 1100
    shown.get_by_role("searchbox").fill("THE END")
    expect(lines(shown)).to_have_count(1)
    more.click()
    expect(more).to_have_count(0)
    assert len(text.text_content() or "") == 1_000_008


def test_related_tasks_are_a_tree_for_the_keyboard(app: Served, page: Page) -> None:
    """Parents, the task and its children have rows; arrows move and fold, Enter opens, back goes back."""
    top, task, child, at = new_id(), new_id(), new_id(), ago(60)
    started(app, top, at, name="top")
    started(app, task, at + 5, name="middle", parent=top, root=top)
    started(app, child, at + 10, name="below", parent=task, root=top)
    app.say("state", child, state="FAILURE", error=ERROR, at=at + 20)
    shown = show(app, page, task)
    rows = shown.get_by_role("treegrid").locator("tbody").get_by_role("row")
    expect(rows).to_have_text([re.compile("topr"), re.compile("middler"), re.compile("belowfailed7 s")])
    assert [row.get_attribute("aria-level") for row in rows.all()] == ["1", "2", "3"]
    expect(rows.nth(1)).to_have_attribute("aria-current", "true")
    rows.nth(1).focus()
    page.keyboard.press("ArrowLeft")
    expect(rows).to_have_count(2)
    expect(rows.nth(1)).to_have_attribute("aria-expanded", "false")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    expect(rows.nth(2)).to_be_focused()
    page.keyboard.press("Enter")
    expect(shown.get_by_role("heading", level=2)).to_have_text("below")
    expect(fact(shown, "Parent")).to_have_text(task)
    page.go_back()
    expect(shown.get_by_role("heading", level=2)).to_have_text("middle")


def test_a_canvas_has_its_parts_and_counts(app: Served, page: Page) -> None:
    """Known before and live: counts, a row with times for each part, and how many are left out."""
    group, parts, at = new_id(), [new_id() for _ in range(4)], ago(60)
    publish = transport_of(app.channel).publish
    publish(canvas.declare(group, 6, canvas="group", name="group of work"))

    def part(number: int, state: str) -> None:
        publish(canvas.make(group, 6, parts[number], state, name="work", index=number))

    for number, task in enumerate(parts[:3]):
        started(app, task, at + number, canvas_id=group, index=number)
        part(number, "STARTED")
    shown = show(app, page, group)
    rows = shown.get_by_role("treegrid").locator("tbody").get_by_role("row")
    expect(rows).to_have_count(4)
    expect(shown.locator(".counts")).to_contain_text("running3")
    app.say("state", parts[1], state="FAILURE", error=ERROR, at=at + 14, canvas_id=group)
    part(1, "FAILURE")
    started(app, parts[3], at + 9, canvas_id=group, index=3)
    part(3, "STARTED")
    expect(rows).to_have_count(5)
    expect(rows.nth(2)).to_contain_text("2. workfailed10 s")
    expect(shown.locator(".counts")).to_have_text(re.compile("done0failed1cancelled0running3waiting2"))
    expect(shown.locator(".family")).to_contain_text("4 of 6 parts are listed")
    shown.get_by_role("button", name="Cancel all").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel all").click()
    expect(shown.locator(".notice")).to_contain_text("Cancellation was requested")
    rows.nth(2).get_by_role("link").click()
    expect(fact(shown, "Canvas")).to_have_text(group)


def test_cancelling_asks_first_and_then_by_force(app: Served, page: Page) -> None:
    """Escape changes nothing; the first press asks the task, the second is by force; a refusal says why."""
    task = new_id()
    started(app, task, time.time())
    shown = show(app, page, task)
    press = shown.get_by_role("button", name="Cancel")
    press.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Cancel this task?")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert app.asked[f"/monitor/api/tasks/{task}"] == 1
    press.click()
    dialog.get_by_role("button", name="Cancel the task").click()
    expect(shown.locator(".notice")).to_contain_text("Cancellation was requested")
    shown.get_by_role("button", name="Stop by force").click()
    dialog.get_by_role("button", name="Stop by force").click()
    expect(shown.locator(".notice")).to_contain_text("A stop by force was requested")
    page.route("**/api/tasks/*", lambda route: route.abort())
    shown.get_by_role("button", name="Stop by force").click()
    dialog.get_by_role("button", name="Stop by force").click()
    expect(shown.get_by_role("alert")).to_have_text("The server cannot be reached.")
    app.say("state", task, state="REVOKED", reason="terminated")
    expect(shown.locator(".notice")).to_contain_text("The task was stopped by force.")
    expect(shown.get_by_role("button", name="Stop by force")).to_have_count(0)


def test_a_task_is_run_again_with_its_arguments(app: Served, page: Page) -> None:
    """After a question the page shows the new task; without the arguments it says what to do."""
    task, bare = new_id(), new_id()
    started(app, bare, time.time())
    started(app, task, time.time(), args=[1], kwargs={"dry": True})
    for each in (bare, task):
        app.say("state", each, state="SUCCESS", result=1)
    shown = show(app, page, bare)
    shown.get_by_role("button", name="Run again").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(shown.get_by_role("alert")).to_contain_text("arguments of this task are not stored")
    shown = show(app, page, task)
    shown.get_by_role("button", name="Run again").click()
    page.get_by_role("dialog").get_by_role("button", name="Run again").click()
    expect(shown.get_by_role("status")).to_have_text("queued")
    expect(shown.get_by_role("heading", level=2)).to_have_text("work")
    assert f"task={task}" not in page.url


def test_ids_and_texts_of_any_kind_stay_texts(app: Served, page: Page) -> None:
    """Ids that mean something to JavaScript, and markup in any field of any event, are shown as they are."""
    for task in ("__proto__", "constructor", HOSTILE, "a/b?c#d&é"):
        for kind in reversed(KINDS):
            event = full_of(HOSTILE, kind, task)
            event.canvas_id = None
            if isinstance(event, State):
                event.state = "FAILURE" if task == HOSTILE else "STARTED"
            transport_of(app.channel).publish(publication(event, 1))
        shown = show(app, page, task)
        expect(shown.get_by_role("heading", level=2)).to_contain_text(HOSTILE)
        expect(fact(shown, "Id")).to_have_text(task)
        expect(lines(shown).first).to_contain_text("<img src=x")
        assert page.locator("main img, main script, [onerror]").count() == 0
        assert "owned" not in page.title()


@pytest.mark.parametrize("ahead", [HOUR, -HOUR])
def test_clocks_that_differ_by_an_hour(app: Served, page: Page, ahead: int) -> None:
    """Whichever clock is wrong, no duration is negative, and a live event tells how long the task runs."""
    task, now = new_id(), time.time()
    app.say("state", task, state="PENDING", at=now - 5, name="work")
    app.say("state", task, state="STARTED", at=now + ahead - 3, worker=f"celery@{ahead > 0}", name="work")
    shown = show(app, page, task)
    expect(labels(shown)).to_have_text(["Queued", "Attempt 1"])
    app.say("log", task, message="live", at=time.time() + ahead)
    expect(lines(shown)).to_have_count(1)
    app.say("progress", task, current=1, at=time.time() + ahead)
    expect(shown.locator(".progress")).to_contain_text("1")
    expect(fact(shown, "Elapsed")).to_have_text(re.compile(r"^\d+ s$|^0:\d\d min$|^1:\d\d min$"))
    assert not re.search(r"(?<![\w:-])-\d", shown.text_content() or "")


def complaints(page: Page) -> Any:
    """Return what axe-core finds."""
    page.evaluate((package("axe-core") / "axe.min.js").read_text())
    return page.evaluate(
        "async () => (await axe.run(document)).violations.map(({ id, nodes }) => [id, nodes[0].html])"
    )


def test_each_page_is_accessible_and_fits_a_phone(app: Served, page: Page) -> None:
    """axe-core has no complaint, light and dark, and nothing is wider than 390 px."""
    failed, group, part, at = new_id(), new_id(), new_id(), ago(60)
    started(app, failed, at, tags=["a", "b"], args=[1], kwargs={})
    for level in ("debug", "warning", "error"):
        app.say("log", failed, level=level, message="x" * 3000)
    app.say("state", failed, state="RETRY", error=ERROR, retry_at=at + 20, at=at + 5)
    app.say("state", failed, state="STARTED", attempt=2, at=at + 20, name="work")
    app.say("step", failed, name="load", status="started", attempt=2)
    app.say("progress", failed, current=1, total=3, percent=33.0, attempt=2)
    app.say("state", failed, state="FAILURE", error=ERROR, attempt=2)
    transport_of(app.channel).publish(canvas.declare(group, 2, canvas="group", name="g" * 80))
    started(app, part, at, canvas_id=group, index=0)
    transport_of(app.channel).publish(canvas.make(group, 2, part, "STARTED", name="work" * 30, index=0))
    expected = {failed: "failed", group: "running", part: "running", "nothing": None}
    for task, state in expected.items():
        page.set_viewport_size({"width": 1280, "height": 900})
        shown = show(app, page, task)
        if state is None:
            expect(shown).to_contain_text("Nothing is known")
        else:
            expect(shown.get_by_role("status")).to_have_text(state)
            expect(shown.locator("[role=treegrid]:visible, .outcome pre:visible").first).to_be_visible()
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            assert complaints(page) == [], (task, scheme)
        page.set_viewport_size({"width": 390, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
        assert complaints(page) == [], task
