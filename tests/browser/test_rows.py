"""The rows of the monitor page, in a real Chromium that is given the events of a test."""

import json
import re
import time
import uuid
from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import pytest
from celery import Celery
from playwright.sync_api import Browser, Page, expect
from werkzeug.serving import make_server

from api.app import create_app
from tests.chromium import chromium

WITHIN = 20_000
SHOWN = 200
LONGEST_BLOCK_MS = 5_000

# The longest time for which the page ran none of its timers.
WATCH = """
window.longestBlock = 0;
let last = performance.now();
setInterval(() => {
    const now = performance.now();
    window.longestBlock = Math.max(window.longestBlock, now - last);
    last = now;
});
"""

Event = dict[str, Any]
Open = Callable[[list[Event]], Page]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The application without a worker: its page and nothing that happens."""
    settings = {"BRIDGE_URL": f"memory://{uuid.uuid4().hex}", "BRIDGE_PUBLIC": True}
    with Celery(broker="memory://", set_as_current=False) as celery:
        server = make_server("127.0.0.1", 0, create_app(settings, celery), threaded=True)
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_page(address: str, browser: Browser) -> Iterator[Open]:
    """Open the page, on which these events arrive all at once. An error of a script fails the test."""
    errors: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.add_init_script(WATCH)

    def opened(events: list[Event]) -> Page:
        texts = (f"event: {event['type']}\ndata: {json.dumps({'v': 1, **event})}\n\n" for event in events)
        body = "retry: 600000\n\n" + "".join(texts)
        page.route(
            re.compile(r"/events\?topic=tasks$"),
            lambda route: route.fulfill(status=200, content_type="text/event-stream", body=body),
        )
        page.goto(address)
        return page

    yield opened
    page.close()
    assert errors == []


def state(task: str, at: float, name: str = "PENDING", **fields: Any) -> Event:
    return {"type": "state", "task": task, "at": at, "attempt": 1, "name": "work", "state": name, **fields}


def snapshot(**fields: Any) -> Event:
    now = time.time()
    blank: Event = {"progress": None, "steps": [], "events": [], "omitted": 0}
    return {
        "type": "snapshot",
        "task": "t1",
        "at": now,
        "name": "work",
        "state": "PENDING",
        **blank,
        **fields,
    }


def listed(page: Page) -> list[str]:
    names: list[str] = page.locator("#tasks .id").evaluate_all("ids => ids.map(id => id.textContent)")
    return names


@pytest.mark.parametrize("arrival", ["oldest first", "newest first", "same moment"])
def test_a_burst_of_tasks_leaves_the_page_responsive(open_page: Open, arrival: str) -> None:
    """Of 10,000 tasks at once the page lists the newest 200 in order, and it is never blocked for long."""
    names = [f"task-{number:05}" for number in range(10_000)]
    now = time.time()
    step = 0 if arrival == "same moment" else 0.001
    burst = [state(name, now + step * number) for number, name in enumerate(names)]
    if arrival == "newest first":
        burst.reverse()
    done = [state(name, now + 20, "SUCCESS") for name in (names[0], names[-1])]
    page = open_page([*burst, *done])
    expect(page.locator("#summary")).to_have_text("199 active · 200 tasks", timeout=60_000)
    expect(page.locator(".task")).to_have_count(SHOWN, timeout=WITHIN)
    expect(page.locator(".task").first.locator(".chip")).to_have_text("done", timeout=WITHIN)
    assert listed(page) == names[: -SHOWN - 1 : -1]
    assert page.evaluate("window.longestBlock") < LONGEST_BLOCK_MS


def test_a_task_keeps_its_place_among_those_that_come(open_page: Open) -> None:
    """Rows stand by when their task was queued, whatever order they come in, and stay there as it goes on."""
    events = [state("b", 200), state("d", 400), state("a", 100), state("c", 300)]
    page = open_page([*events, state("a", 500, "STARTED"), state("b", 600, "FAILURE")])
    expect(page.locator(".task")).to_have_count(4, timeout=WITHIN)
    assert listed(page) == ["d", "c", "b", "a"]
    expect(page.locator("#summary")).to_have_text("3 active · 1 failed · 4 tasks")


def test_parts_that_are_known_as_such_too_late_lose_their_row(open_page: Open) -> None:
    """A task that turns out to be a part of a group has no row of its own."""
    page = open_page([state("a", 100), state("b", 200), state("a", 300, "STARTED", canvas_id="group")])
    expect(page.locator("#summary")).to_have_text("1 active · 1 task", timeout=WITHIN)
    expect(page.locator(".task")).to_have_count(1)
    assert listed(page) == ["b"]


def test_a_reset_clears_what_no_snapshot_brings_back(open_page: Open) -> None:
    """After a reset the page shows the tasks of the snapshots that follow, and no other."""
    again = snapshot(task="b", state="SUCCESS", queued_at=200)
    page = open_page([state("a", 100), state("b", 200), {"type": "reset", "at": 300}, again])
    expect(page.locator("#summary")).to_have_text("1 task", timeout=WITHIN)
    assert listed(page) == ["b"]
    expect(page.locator(".chip")).to_have_text("done")


@pytest.mark.parametrize("seen", ["live", "received again", "late"])
def test_a_countdown_says_why_and_when_a_task_is_tried_again(open_page: Open, seen: str) -> None:
    """Until the next attempt begins, the row says how long that takes, which attempt it is, and why."""
    now = time.time()
    why = {"error": {"type": "ConnectionError", "message": "no <b>route</b>"}, "retry_at": now + 90}
    told = [state("t1", now - 9), state("t1", now - 8, "STARTED"), state("t1", now, "RETRY", **why)]
    if seen == "received again":
        told.append(state("t1", now, "RECEIVED", attempt=2, retry_at=now + 90))
    if seen == "late":
        told = [snapshot(state="RECEIVED", attempt=2, queued_at=now - 9, started_at=now - 8, **why)]
    page = open_page(told)
    note = page.locator(".task .note")
    words = re.compile(r"^Retrying in (1:\d\d min|\d\d s), attempt 2: ConnectionError: no <b>route</b>$")
    expect(note).to_have_text(words, timeout=WITHIN)
    expect(page.locator(".chip")).to_have_text("retrying")
    first = note.inner_text()
    expect(note).not_to_have_text(first, timeout=WITHIN)
    expect(note).to_have_text(words)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"reason": "not yet"}, "Retrying, attempt 3: not yet"),
        ({"error": {"type": "E", "message": "m"}, "retry_at": 150}, "Retrying, attempt 3: E: m"),
        ({"error": {"type": "E", "message": "m" * 10_000}}, f"Retrying, attempt 3: E: {'m' * 297}…"),
        ({}, "Retrying, attempt 3"),
    ],
)
def test_a_retry_without_a_countdown_says_what_is_known(open_page: Open, fields: Event, words: str) -> None:
    """A retry that is due, or of which no time is known, is shown with what is known of it."""
    page = open_page([state("t1", 100), state("t1", 200, "RETRY", **{"attempt": 2, **fields})])
    expect(page.locator(".task .note")).to_have_text(words, timeout=WITHIN)


def test_the_countdown_ends_with_the_wait(open_page: Open) -> None:
    """Once the next attempt runs nothing is said of the wait any more."""
    now = time.time()
    retry = state("t1", now, "RETRY", retry_at=now + 60, error={"type": "E", "message": "m"})
    events = [state("t1", now - 2), retry, state("t1", now + 1, "STARTED", attempt=2)]
    page = open_page(events)
    expect(page.locator(".chip")).to_have_text("running · attempt 2", timeout=WITHIN)
    expect(page.locator(".task .note")).to_be_hidden()


@pytest.mark.parametrize("seen", ["live", "late"])
def test_the_time_is_that_of_all_attempts(open_page: Open, seen: str) -> None:
    """What is shown as a task's time goes from the start of its first attempt to its end."""
    now = time.time()
    begun = [state("t1", now - 200), state("t1", now - 90, "STARTED"), state("t1", now - 80, "RETRY")]
    again = [state("t1", now - 5, "STARTED", attempt=2), state("t1", now, "SUCCESS", attempt=2)]
    times = {"queued_at": now - 200, "first_started_at": now - 90, "started_at": now - 5, "ended_at": now}
    late = [snapshot(state="SUCCESS", attempt=2, **times)]
    page = open_page(late if seen == "late" else [*begun, *again])
    expect(page.locator(".time")).to_have_text("1:30 min", timeout=WITHIN)


@pytest.mark.parametrize(
    ("name", "parts", "words"),
    [
        ("FAILURE", {"succeeded": 11, "failed": 1}, "11 of 12 succeeded, 1 failed"),
        ("FAILURE", {"succeeded": 8, "failed": 3, "revoked": 1}, "8 of 12 succeeded, 3 failed, 1 cancelled"),
        ("REVOKED", {"succeeded": 0, "revoked": 12}, "0 of 12 succeeded, 12 cancelled"),
    ],
)
def test_a_group_that_did_not_succeed_says_how_many_did(
    open_page: Open, name: str, parts: dict[str, int], words: str
) -> None:
    """A group with parts that went wrong counts those that succeeded, and shows no percentage of the work."""
    counts = dict.fromkeys(("waiting", "running", "succeeded", "revoked", "failed"), 0) | parts
    progress = {"current": 12, "total": 12, "percent": 99.17}
    group = {"canvas": "group", "parts": counts, "children": [], "progress": progress}
    page = open_page([snapshot(state=name, queued_at=1.0, ended_at=2.0, **group)])
    row = page.locator(".task")
    expect(row.locator(".line")).to_have_text(words, timeout=WITHIN)
    expect(row).not_to_contain_text("%")
    assert words in str(row.get_by_role("progressbar").get_attribute("aria-valuetext"))
