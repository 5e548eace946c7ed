"""The forms of the demo and the monitor in a real Chromium, on the complete application."""

import re
from collections.abc import Iterator
from pathlib import Path

# `Any` in this module: Playwright's locators are passed on as they are.
from typing import Any

import pytest
from celery import Celery, group
from playwright.sync_api import Browser, FilePayload, Page, expect

from bridge.celery import install
from tests.chromium import chromium
from tests.stack import Stack

SAMPLE = Path(__file__).resolve().parents[2] / "api" / "static" / "sample" / "airports.csv"
HOSTILE = "<img src=x onerror=document.title='owned'>"
WITHIN = 20_000


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page. An error in the console, of a script or of the policy, fails the test."""
    complaints: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


@pytest.fixture
def forms(stack: Stack, page: Page) -> Page:
    """The page that starts tasks."""
    page.goto(stack.url)
    return page


@pytest.fixture
def monitor(stack: Stack, page: Page) -> Page:
    """The monitor, connected."""
    page.goto(f"{stack.url}/monitor/")
    expect(page.locator("#connection")).to_have_text("Live", timeout=WITHIN)
    return page


def expect_done(page: Page) -> Any:
    """Wait until the task that was started last is done."""
    task = page.locator("task-progress").first
    expect(task.locator("[part=state]")).to_have_text("done", timeout=WITHIN)
    expect(task.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    return task


def row_of(page: Page, task: str) -> Any:
    return page.locator(f'.rows .row[data-task="{task}"]')


def send_file(page: Page, name: str, content: str) -> None:
    file = FilePayload(name=name, mimeType="text/csv", buffer=content.encode())
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()


def test_file_is_imported_on_the_page(stack: Stack, forms: Page) -> None:
    """A file chosen on the page is uploaded; its bar reaches the end, and the monitor shows the task."""
    forms.locator("input[type=file]").set_input_files(SAMPLE)
    expect(forms.locator(".chosen")).to_contain_text("airports.csv")
    forms.get_by_role("button", name="Import", exact=True).click()
    task = expect_done(forms).get_attribute("task")
    forms.get_by_role("link", name=task).click()
    forms.wait_for_url(f"{stack.url}/monitor/?task={task}")
    expect(forms.get_by_role("main")).to_contain_text("import_csv", timeout=WITHIN)
    expect(forms.get_by_role("main")).to_contain_text("3376", timeout=WITHIN)


def test_bundled_sample(forms: Page) -> None:
    """One press imports the sample that comes with the page."""
    forms.get_by_role("button", name="Try the sample file").click()
    expect_done(forms)


def test_hostile_content_stays_text(forms: Page) -> None:
    """Markup in a file's name, its cells and the log is shown as it is written."""
    send_file(forms, f"{HOSTILE}.csv", f"n\n1\n{HOSTILE}x\n" + "2\n" * 98 + f"{HOSTILE}\n")
    expect_done(forms)
    send_file(forms, "prices.csv", "n\n" + "2\n" * 100 + f"{HOSTILE[:38]}\n")
    expect(forms.locator("task-progress")).to_have_count(2)
    task = expect_done(forms)
    task.locator("summary").click()
    expect(task.get_by_text("<img src=x").first).to_be_visible()
    expect(forms.locator("main img")).to_have_count(0)
    assert forms.title() == "Start a task"


def test_refused_file_is_explained(stack: Stack, forms: Page) -> None:
    """A file that is no CSV is refused beside the form, and no task appears."""
    known = forms.request.get(f"{stack.url}/tasks").json()["tasks"]
    send_file(forms, "page.html", "<html>")
    expect(forms.locator("#csv-complaint")).to_contain_text("looks like HTML")
    assert len(forms.request.get(f"{stack.url}/tasks").json()["tasks"]) == len(known)
    expect(forms.locator("task-progress")).to_have_count(0)


def test_refused_folder_is_explained(forms: Page) -> None:
    """A folder outside the root is refused beside its field, by keyboard alone."""
    forms.get_by_text("Hash a folder").focus()
    forms.keyboard.press("Enter")
    forms.get_by_label("Folder", exact=True).fill("../..")
    forms.keyboard.press("Enter")
    expect(forms.locator("#folder-complaint")).to_contain_text("must not contain '..'")


def test_narration_grows_on_the_page(stack: Stack, forms: Page) -> None:
    """The text of a task grows token by token, and is complete at the end."""
    words = " ".join(f"word{number}" for number in range(40))
    forms.get_by_text("Stream a text").click()
    forms.get_by_label("Text", exact=True).fill(words)
    forms.get_by_label("Pause between tokens").fill("0.1")
    forms.get_by_role("button", name="Stream").click()
    story = forms.locator(".story").first
    expect(story).to_contain_text("word0 word1", timeout=WITHIN)
    with stack.pool_paused():
        expect(story).not_to_contain_text("word39")
    expect_done(forms)
    expect(story).to_have_text(words)


def test_queued_task_is_cancelled(stack: Stack, monitor: Page) -> None:
    """A task that waits for a worker can be cancelled in the monitor."""
    with stack.client() as client:
        for _ in range(4):
            response = client.post("/tasks/narrate", json={"text": "one two three four five", "delay": 0.4})
    row = row_of(monitor, response.json()["id"])
    expect(row.locator(".chip")).to_have_text(re.compile("queued|received"), timeout=WITHIN)
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".chip")).to_have_text("cancelled", timeout=WITHIN)


def test_a_group_is_one_row_with_its_parts(stack: Stack, browser: Browser, monitor: Page) -> None:
    """Tasks started together share one bar; the row shows its parts, also on a page that comes late."""
    with Celery(broker=stack.valkey.url("redis"), set_as_current=False) as app:
        install(app, stack.valkey.url("redis"))
        good = [app.signature("narrate", kwargs={"text": "one two three", "delay": 0.1}) for _ in range(6)]
        bad = app.signature("digest_tree", kwargs={"folder": HOSTILE})
        # Celery types it as an AsyncResult.
        started: Any = group([*good, bad], app=app).apply_async()
    late = browser.new_page()
    late.goto(f"{stack.url}/monitor/")
    for watching in (monitor, late):
        row = row_of(watching, started.id)
        expect(row.locator(".name")).to_have_text("group of narrate, digest_tree", timeout=WITHIN)
        expect(row.locator(".chip")).to_have_text("failed", timeout=WITHIN)
        expect(row.locator(".message")).to_have_text("6 of 7 succeeded, 1 failed", timeout=WITHIN)
        for part in started.results:
            expect(row_of(watching, part.id)).to_have_count(0)
        row.get_by_role("button", name="7 parts").click()
        for part in started.results:
            expect(row_of(watching, part.id)).to_have_count(1, timeout=WITHIN)
    late.close()


def test_a_running_task_is_stopped_by_force(stack: Stack, browser: Browser, monitor: Page) -> None:
    """Every page shows that a running task was asked to end; a second press stops one that never looks."""
    with stack.client() as client:
        task = client.post("/tasks/narrate", json={"text": "word " * 400, "delay": 0.2}).json()["id"]
    other = browser.new_page()
    other.goto(f"{stack.url}/monitor/")
    rows = [row_of(on, task) for on in (monitor, other)]
    expect(rows[0].locator(".chip")).to_have_text("running", timeout=WITHIN)
    rows[0].get_by_role("button", name="Cancel").click()
    for row in rows:
        expect(row.locator(".message")).to_contain_text("Cancellation requested", timeout=WITHIN)
        expect(row.locator(".chip")).to_have_text("running")
    rows[1].get_by_role("button", name="by force").click()
    for row in rows:
        expect(row.locator(".chip")).to_have_text("cancelled", timeout=WITHIN)
        expect(row.locator(".message")).to_have_text("The task was stopped by force.")
    other.close()


def test_a_vanished_worker_is_shown(stack: Stack, monitor: Page) -> None:
    """A task whose worker was killed shows as stalled, and can still be cancelled."""
    with stack.client() as client:
        task = client.post("/tasks/narrate", json={"text": "word " * 400, "delay": 0.2}).json()["id"]
    row = row_of(monitor, task)
    expect(row.locator(".chip")).to_have_text("running", timeout=WITHIN)
    stack.kill("worker")
    expect(row.locator(".chip")).to_have_text("stalled", timeout=2 * WITHIN)
    expect(row.locator(".message")).to_contain_text("no longer sends heartbeats")
    expect(row.get_by_role("button", name="Cancel")).to_be_enabled()
    stack.start("worker")


def test_page_comes_back_after_the_api(stack: Stack, monitor: Page) -> None:
    """While the API is away the page says so and no time goes on; then it is live again by itself."""
    with stack.client() as client:
        task = client.post("/tasks/narrate", json={"text": "word " * 400, "delay": 0.2}).json()["id"]
    took = row_of(monitor, task).locator(".duration")
    expect(took).to_have_text(re.compile(r"^\d+ s$"), timeout=WITHIN)
    stack.kill("api")
    expect(monitor.locator("#connection")).to_have_text("Connection lost", timeout=WITHIN)
    lost = monitor.get_by_role("alert").filter(has_text="The connection to the server is lost")
    expect(lost).to_be_visible()
    stopped = took.inner_text()
    monitor.wait_for_timeout(2500)
    assert took.inner_text() == stopped
    stack.start("api")
    expect(monitor.locator("#connection")).to_have_text("Live", timeout=60_000)
    expect(lost).to_have_count(0)
    expect(took).not_to_have_text(stopped, timeout=WITHIN)
    row_of(monitor, task).get_by_role("button", name="Cancel").click()
    row_of(monitor, task).get_by_role("button", name="by force").click(timeout=WITHIN)
    expect(row_of(monitor, task).locator(".chip")).to_have_text("cancelled", timeout=WITHIN)


def test_fold_is_pure(forms: Page) -> None:
    """The state of a task follows from its events alone, and a given state is never changed."""
    folded = forms.evaluate(
        """async () => {
            const { fold } = await import("/bridge/bridge.js");
            const frozen = (value) => {
                if (value && typeof value === "object") Object.values(Object.freeze(value)).forEach(frozen);
                return value;
            };
            const events = [
                { type: "state", task: "a", at: 1, state: "PENDING", name: "x" },
                { type: "state", task: "a", at: 2, state: "STARTED", attempt: 1 },
                { type: "progress", task: "a", at: 3, current: 1, total: 2, percent: 50 },
                { type: "step", task: "a", at: 3, name: "earlier attempt", status: "started" },
                ...Array.from({ length: 1002 }, (_, i) => ({ type: "token", task: "a", at: 4, data: i })),
                { type: "state", task: "a", at: 5, state: "RETRY", error: { type: "E", message: "m" } },
                { type: "state", task: "a", at: 6, state: "STARTED", attempt: 2 },
                { type: "step", task: "a", at: 6, name: "load", status: "started" },
                { type: "step", task: "a", at: 6, name: "part", status: "failed", path: ["load", "part"] },
                { type: "step", task: "a", at: 6, name: "load", status: "succeeded" },
                { type: "state", task: "a", at: 7, state: "SUCCESS", attempt: 2, result: 3 },
                { type: "end", task: "a", at: 7, state: "SUCCESS" },
            ];
            const task = events.reduce((task, event) => frozen(fold(task, event)), null);
            const snapshot = { type: "snapshot", task: "a", state: "STARTED", events: [], omitted: 0 };
            const fresh = fold(task, snapshot);
            const parts = Array.from({ length: 90 }, (_, i) => ({
                task: `part ${i}`, ...(i % 3 ? { state: "STARTED" } : { state: "SUCCESS", ended: true }),
            }));
            const progress = { type: "progress", task: "w", percent: 89, parts: { waiting: 1 } };
            const canvas = parts.reduce((task, part) => frozen(fold(task, { ...progress, part })), null);
            return [task, fresh, fold(task, { type: "reset", task: "a" }), canvas];
        }"""
    )
    task, fresh, reset, canvas = folded
    assert (canvas["parts"], canvas["progress"]["percent"]) == ({"waiting": 1}, 89)
    assert [child["task"] for child in canvas["children"]][-1] == "part 89"
    assert len(canvas["children"]) == 50
    assert sum(child["state"] == "SUCCESS" for child in canvas["children"]) <= 1
    assert (task["queued_at"], task["started_at"], task["ended_at"], task["ended"]) == (1, 6, 7, True)
    assert (task["name"], task["attempt"], task["result"]) == ("x", 2, 3)
    assert "error" not in task
    assert task["progress"] is None
    assert task["steps"] == [
        {"name": "part", "status": "failed", "path": ["load", "part"], "ended_at": 6},
        {"name": "load", "status": "succeeded", "started_at": 6, "ended_at": 6},
    ]
    assert (len(task["events"]), task["omitted"], task["events"][0]["data"]) == (1000, 6, 5)
    assert (fresh["state"], "result" in fresh) == ("STARTED", False)
    assert reset is None


def test_a_watched_task_ends_or_is_refused(stack: Stack, forms: Page) -> None:
    """Watching a task ends at its end with the complete state; a refused topic says why."""
    with stack.client() as client:
        task_id = client.post("/tasks/narrate", json={"text": "one two", "delay": 0}).json()["id"]
    watched = """async (id) => {
        const { connect } = await import("/bridge/bridge.js");
        const bridge = connect();
        return new Promise((resolve) => {
            bridge.task(id).subscribe((task, event) => {
                if (["end", "refused"].includes(event?.type)) resolve([event.type, event.detail, task]);
            });
        });
    }"""
    kind, _, task = forms.evaluate(watched, task_id)
    assert (kind, task["state"], task["result"]["tokens"]) == ("end", "SUCCESS", 2)
    kind, detail, task = forms.evaluate(watched, "x" * 300)
    assert (kind, task) == ("refused", None)
    assert "255 characters" in detail
