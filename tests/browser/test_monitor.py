"""The monitor page in a real Chromium, on the complete application."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, group
from playwright.sync_api import Browser, FilePayload, Page, expect

import bridge
from bridge.celery import install
from bridge.channel.transport import transport_of
from bridge.tasks.changes import publication
from bridge.tasks.event_types import State
from tests.chromium import chromium
from tests.events import KINDS, full_of
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
def page(stack: Stack, browser: Browser) -> Iterator[Page]:
    """The monitor, connected. An error in the console, of a script or of the policy, fails the test."""
    complaints: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(stack.url)
    expect(page.locator("#connection")).to_have_text("Live", timeout=WITHIN)
    yield page
    page.close()
    assert [text for text in complaints if not text.startswith("Failed to load resource")] == []


def newest(page: Page) -> Any:
    return page.locator(".task").first


def expect_done(page: Page, name: str) -> Any:
    row = newest(page)
    expect(row.locator("h3")).to_have_text(name, timeout=WITHIN)
    expect(row.locator(".chip")).to_have_text("done", timeout=WITHIN)
    expect(row.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "100")
    return row


def send_file(page: Page, name: str, content: str) -> None:
    file = FilePayload(name=name, mimeType="text/csv", buffer=content.encode())
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_role("button", name="Import", exact=True).click()


def test_file_is_imported_on_the_page(page: Page) -> None:
    """A file chosen on the page is uploaded; its bar reaches the end and its counts are shown."""
    page.locator("input[type=file]").set_input_files(SAMPLE)
    expect(page.locator(".chosen")).to_contain_text("airports.csv")
    page.get_by_role("button", name="Import", exact=True).click()
    row = expect_done(page, "import_csv")
    expect(row.locator(".figures")).to_contain_text("3,376rows loaded")
    fill = row.locator(".fill")
    expect(fill).to_have_css("transform", "matrix(1, 0, 0, 1, 0, 0)")


def test_bundled_sample(page: Page) -> None:
    """One press imports the sample that comes with the page."""
    page.get_by_role("button", name="Try the sample file").click()
    expect(expect_done(page, "import_csv").locator(".figures")).to_contain_text("3,376")


def test_hostile_content_stays_text(page: Page) -> None:
    """Markup in a file's name, its cells, the log and the bad rows is shown as it is written."""
    send_file(page, f"{HOSTILE}.csv", f"n\n1\n{HOSTILE}x\n" + "2\n" * 98 + f"{HOSTILE}\n")
    row = expect_done(page, "import_csv")
    expect(row.locator(".figures")).to_contain_text("101rows loaded")
    send_file(page, "prices.csv", "n\n" + "2\n" * 100 + f"{HOSTILE[:38]}\n")
    expect(newest(page).locator(".figures")).to_contain_text("1bad rows", timeout=WITHIN)
    newest(page).locator(".log summary").click()
    expect(newest(page).locator("td").last).to_contain_text("<img src=x")
    expect(newest(page).locator(".log li[data-level=warning]")).to_contain_text("<img src=x")
    expect(page.locator("main img")).to_have_count(0)
    assert page.title() == "Task monitor"


def test_refused_file_is_explained(stack: Stack, page: Page) -> None:
    """A file that is no CSV is refused beside the form, and no task appears."""
    known = page.request.get(f"{stack.url}/tasks").json()["tasks"]
    send_file(page, "page.html", "<html>")
    expect(page.locator("#csv-complaint")).to_contain_text("looks like HTML")
    assert len(page.request.get(f"{stack.url}/tasks").json()["tasks"]) == len(known)
    expect(page.locator(".task")).to_have_count(len(known))


def test_refused_folder_is_explained(page: Page) -> None:
    """A folder outside the root is refused beside its field, by keyboard alone."""
    page.get_by_text("Hash a folder").focus()
    page.keyboard.press("Enter")
    page.get_by_label("Folder", exact=True).fill("../..")
    page.keyboard.press("Enter")
    expect(page.locator("#folder-complaint")).to_contain_text("must not contain '..'")


def narrate(page: Page) -> str:
    """Start a task that publishes 60 words in six seconds; return them."""
    text = " ".join(f"word{number}" for number in range(60))
    page.get_by_text("Stream a text").click()
    page.get_by_label("Text", exact=True).fill(text)
    page.get_by_label("Pause between tokens").fill("0.1")
    page.get_by_role("button", name="Stream").click()
    return text


def expect_story(page: Page, beginning: str) -> None:
    """Wait until the newest row shows this part of a text that still grows."""
    expect(newest(page).locator("> .story")).to_contain_text(beginning, timeout=WITHIN)


def test_narration_grows_and_others_can_watch(stack: Stack, browser: Browser, page: Page) -> None:
    """The text grows token by token; a page opened in the middle has its beginning too."""
    words = narrate(page)
    expect_story(page, "word0 word1")
    with stack.pool_paused():
        late = browser.new_page()
        late.goto(stack.url)
        expect_story(late, "word0 word1")
    for watching in (page, late):
        row = expect_done(watching, "narrate")
        expect(row.locator(".outcome .story")).to_have_text(words)
    late.close()


def test_reloading_in_the_middle_misses_nothing(stack: Stack, page: Page) -> None:
    """Reloaded while a task runs, the page has all there was before, goes on, and shows the result."""
    words = narrate(page)
    expect_story(page, "word0 word1 word2")
    with stack.pool_paused():
        page.reload()
        expect_story(page, "word0 word1 word2")
    expect(expect_done(page, "narrate").locator(".outcome .story")).to_have_text(words)
    page.reload()
    expect(expect_done(page, "narrate").locator(".outcome .story")).to_have_text(words)


def test_queued_task_is_cancelled(stack: Stack, page: Page) -> None:
    """A task that waits for a worker can be cancelled, and says that it was asked to."""
    with stack.client() as client:
        for _ in range(4):
            response = client.post("/tasks/narrate", json={"text": "one two three four five", "delay": 0.4})
    row = page.locator(".task", has=page.locator(f"a[href='{response.headers['Location']}']"))
    expect(row.locator(".chip")).to_have_text(re.compile("queued|received"), timeout=WITHIN)
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".chip")).to_have_text("cancelled", timeout=WITHIN)


def test_a_group_is_one_row_with_its_parts(stack: Stack, browser: Browser, page: Page) -> None:
    """Tasks started together share one bar; the row lists its parts, also on a page that comes late."""
    with Celery(broker=stack.valkey.url("redis"), set_as_current=False) as app:
        install(app, stack.valkey.url("redis"))
        good = [app.signature("narrate", kwargs={"text": "one two three", "delay": 0.1}) for _ in range(6)]
        bad = app.signature("digest_tree", kwargs={"folder": HOSTILE})
        started = group([*good, bad], app=app).apply_async()
        parts = [str(part) for part in started.children or []]
    assert len(parts) == 7
    late = browser.new_page()
    late.goto(stack.url)
    for watching in (page, late):
        row = watching.locator(".task", has=watching.locator(f".foot a[href='/tasks/{started.id}']"))
        expect(row.locator("h3")).to_have_text("group of narrate, digest_tree", timeout=WITHIN)
        row.locator(".parts summary").click()
        expect(row.locator(".chip")).to_have_text("failed", timeout=WITHIN)
        expect(row.locator(".line")).to_have_text("6 of 7 succeeded, 1 failed")
        expect(row.locator(".parts li")).to_have_count(7)
        expect(row.locator(".parts li").first).to_contain_text("7. digest_treefailed")
        for part in parts:
            expect(watching.locator(f".task > .foot a[href='/tasks/{part}']")).to_have_count(0)
    late.close()


def test_a_running_task_is_stopped_by_force(stack: Stack, browser: Browser, page: Page) -> None:
    """Every page shows that a running task was asked to end; a second press stops one that never looks."""
    with stack.client() as client:
        response = client.post("/tasks/narrate", json={"text": "word " * 400, "delay": 0.2})
    other = browser.new_page()
    other.goto(stack.url)
    rows = [
        on.locator(".task", has=on.locator(f"a[href='{response.headers['Location']}']"))
        for on in (page, other)
    ]
    expect(rows[0].locator(".chip")).to_have_text("running", timeout=WITHIN)
    rows[0].get_by_role("button", name="Cancel").click()
    for row in rows:
        expect(row.locator(".note")).to_contain_text("Cancellation requested", timeout=WITHIN)
        expect(row.locator(".chip")).to_have_text("running")
    rows[1].locator(".head button").click()
    for row in rows:
        expect(row.locator(".chip")).to_have_text("cancelled", timeout=WITHIN)
        expect(row.locator(".outcome")).to_contain_text("stopped by force")
    other.close()


def test_a_vanished_worker_is_shown(stack: Stack, page: Page) -> None:
    """A task whose worker was killed shows as stalled, and can still be cancelled."""
    with stack.client() as client:
        response = client.post("/tasks/narrate", json={"text": "word " * 400, "delay": 0.2})
    row = page.locator(".task", has=page.locator(f"a[href='{response.headers['Location']}']"))
    expect(row.locator(".chip")).to_have_text("running", timeout=WITHIN)
    stack.kill("worker")
    expect(row.locator(".chip")).to_have_text("stalled", timeout=2 * WITHIN)
    expect(row.locator(".note")).to_contain_text("no longer sends heartbeats")
    expect(row.get_by_role("button")).to_be_enabled()
    stack.start("worker")


def test_page_comes_back_after_the_api(stack: Stack, page: Page) -> None:
    """When the API is killed the page says so, and it is live again by itself when the API is."""
    stack.kill("api")
    expect(page.locator("#connection")).to_have_text("Reconnecting", timeout=WITHIN)
    stack.start("api")
    expect(page.locator("#connection")).to_have_text("Live", timeout=60_000)
    page.get_by_role("button", name="Try the sample file").click()
    expect_done(page, "import_csv")


def test_fold_is_pure(page: Page) -> None:
    """The state of a task follows from its events alone, and a given state is never changed."""
    folded = page.evaluate(
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
        {"name": "part", "status": "failed", "path": ["load", "part"]},
        {"name": "load", "status": "succeeded"},
    ]
    assert (len(task["events"]), task["omitted"], task["events"][0]["data"]) == (1000, 6, 5)
    assert (fresh["state"], "result" in fresh) == ("STARTED", False)
    assert reset is None


def test_a_watched_task_ends_or_is_refused(stack: Stack, page: Page) -> None:
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
    kind, _, task = page.evaluate(watched, task_id)
    assert (kind, task["state"], task["result"]["tokens"]) == ("end", "SUCCESS", 2)
    kind, detail, task = page.evaluate(watched, "x" * 300)
    assert (kind, task) == ("refused", None)
    assert "255 characters" in detail


# The last test of this file: its tasks would stand before those of other tests.

STATES = ("PENDING", "RECEIVED", "STARTED", "RETRY", "STALLED", "FAILURE", "REVOKED", "SUCCESS", HOSTILE)


def test_markup_in_any_field_stays_text(stack: Stack, page: Page) -> None:
    """Whatever a task or a program says in whatever field of an event, live and after a reload."""
    with bridge.connect(stack.valkey.url("redis")) as channel:
        for number, state in enumerate(STATES):
            task = f"{HOSTILE}{number}"
            for kind in reversed(KINDS):
                event = full_of(HOSTILE, kind, task)
                event.canvas_id = None  # the parts of a canvas have no row
                if isinstance(event, State):
                    event.state = state
                transport_of(channel).publish(publication(event, 1))
    for _ in ("live", "after a reload"):
        expect(page.locator(".task .id", has_text=f"{HOSTILE}{number}")).to_have_count(1, timeout=WITHIN)
        for summary in page.locator(".log summary:visible").all():
            summary.click()
        expect(page.locator(".log li", has_text="<img src=x").first).to_be_visible()
        assert page.locator("main img, [onerror], main script").count() == 0
        assert page.title() == "Task monitor"
        page.reload()
        expect(page.locator("#connection")).to_have_text("Live", timeout=WITHIN)
