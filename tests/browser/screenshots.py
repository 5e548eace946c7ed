"""`make screenshots`: makes the pictures of the monitor in `docs/images`, in a real browser."""

import time
from pathlib import Path

from celery import Celery, group
from playwright.sync_api import Browser, Page, expect

import bridge
from bridge.celery import install
from bridge.channel.transport import Transport, transport_of
from bridge.tasks.changes import publication
from bridge.tasks.event_types import Error, Event, Log, Progress, State, Step
from tests.chromium import chromium
from tests.servers import eventually
from tests.stack import Stack

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "images"
SAMPLE = Path(__file__).resolve().parents[2] / "api" / "static" / "sample" / "airports.csv"
NAMES = ("shop.import_orders", "shop.send_invoice", "media.resize", "reports.monthly", "search.index_page")
WITHIN = 30_000
TRACE = """Traceback (most recent call last):
  File "/srv/shop/tasks.py", line 48, in send_invoice
    smtp.send_message(message)
ConnectionRefusedError: [Errno 111] Connection refused"""


class Tasks:
    """Tasks of an invented shop, of which only the events exist."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def publish(self, event: Event) -> None:
        self._transport.publish(publication(event, 1))

    def history(self) -> None:
        """Publish tasks of the last half hour that have ended."""
        now = time.time()
        for number in range(240):
            queued = now - 1800 + number * 7.3
            task, name = f"{number * 7919:08x}-shop", NAMES[number % len(NAMES)]
            worker = f"celery@worker-{number % 3 + 1}"
            self.publish(State(task, state="PENDING", at=queued, name=name))
            self.publish(State(task, state="STARTED", at=queued + 0.4, name=name, worker=worker, attempt=1))
            ended = queued + 1.5 + (number * number) % 11
            if number % 23 == 5:
                error: Error = {
                    "type": "TimeoutError",
                    "message": "the printer did not answer within 30 seconds",
                }
                self.publish(State(task, state="FAILURE", at=ended, name=name, attempt=1, error=error))
            else:
                self.publish(
                    State(task, state="SUCCESS", at=ended, name=name, attempt=1, result={"rows": number})
                )

    def failure(self) -> str:
        """Publish a task that failed at its second attempt; return its id."""
        task, name, now = "5f0c2a91-invoice-4711", "shop.send_invoice", time.time()
        error: Error = {
            "type": "ConnectionRefusedError",
            "message": "[Errno 111] Connection refused",
            "traceback": TRACE,
        }
        worker = "celery@worker-2"
        self.publish(State(task, state="PENDING", at=now - 42, name=name))
        self.publish(State(task, state="RECEIVED", at=now - 41.6, name=name, worker=worker))
        self.publish(State(task, state="STARTED", at=now - 41, name=name, worker=worker, attempt=1))
        self.publish(Step(task, at=now - 40.8, name="render", status="started"))
        self.publish(Step(task, at=now - 38, name="render", status="succeeded"))
        self.publish(Log(task, at=now - 37, level="warning", message="the mail server is slow"))
        self.publish(
            State(
                task,
                state="RETRY",
                at=now - 35,
                attempt=1,
                retry_at=now - 20,
                started_at=now - 41,
                error=error,
            )
        )
        self.publish(State(task, state="STARTED", at=now - 20, name=name, worker=worker, attempt=2))
        self.publish(Step(task, at=now - 19, name="send", status="started"))
        self.publish(Log(task, at=now - 15, level="error", message="no answer from mail.example.com:25"))
        self.publish(Step(task, at=now - 12, name="send", status="failed"))
        self.publish(State(task, state="FAILURE", at=now - 12, name=name, attempt=2, error=error))
        return task

    def running(self) -> str:
        """Publish tasks that run; return the id of one with steps and a log."""
        now = time.time()
        for number, percent in enumerate((12, 48, 81)):
            task, name = f"{number}c31-runs", NAMES[number]
            self.publish(State(task, state="PENDING", at=now - 20 - number, name=name))
            started = State(
                task, state="STARTED", at=now - 19, name=name, worker="celery@worker-1", attempt=1
            )
            self.publish(started)
            done, left = percent * 40, (100 - percent) / 2
            words = "Reading rows"
            progress = Progress(
                task, current=done, total=4000, percent=percent, rate=84.5, eta=left, message=words
            )
            self.publish(progress)
        self.publish(Step(task, at=now - 15, name="download", status="started"))
        self.publish(Step(task, at=now - 9, name="download", status="succeeded"))
        self.publish(Step(task, at=now - 9, name="resize", status="started"))
        for number in range(12):
            self.publish(
                Log(task, at=now - 9 + number / 2, level="info", message=f"photo {number} of 15 resized")
            )
        return task


def start_group(stack: Stack) -> str:
    """Run a group of real tasks, one of which fails; return its id."""
    with Celery(broker=stack.valkey.url("redis"), set_as_current=False) as app:
        install(app, stack.valkey.url("redis"))
        good = [app.signature("narrate", kwargs={"text": "one two three", "delay": 0.2}) for _ in range(5)]
        bad = app.signature("digest_tree", kwargs={"folder": "no-such-folder"})
        started = group([*good, bad], app=app).apply_async()
    return str(started.id)


def take(page: Page, name: str) -> None:
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=FOLDER / f"{name}.png")
    print(f"docs/images/{name}.png")


class Camera:
    """Opens views of the monitor and makes a picture of each."""

    def __init__(self, browser: Browser, address: str) -> None:
        self._browser = browser
        self._address = address

    def picture(
        self, name: str, query: str, wait_for: str, *, dark: bool = False, phone: bool = False
    ) -> Page:
        """Make a picture once the text `wait_for` is there; return the page."""
        size = (390, 780) if phone else (1280, 800)
        page = self._browser.new_page(
            viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
        )
        page.goto(f"{self._address}/monitor/{query}")
        expect(page.locator("#connection")).to_have_text("Live", timeout=WITHIN)
        expect(page.get_by_role("main")).to_contain_text(wait_for, timeout=WITHIN)
        # The pictures of throughput are drawn once a second.
        page.wait_for_timeout(1500)
        take(page, name)
        return page


def main() -> None:
    application = Stack()
    application.node = "celery@worker-1"
    with application as stack, chromium() as browser, bridge.connect(stack.valkey.url("redis")) as channel:
        tasks = Tasks(transport_of(channel))
        tasks.history()
        canvas = start_group(stack)
        with stack.client() as client:
            file = {"file": (SAMPLE.name, SAMPLE.read_bytes(), "text/csv")}
            client.post("/tasks/import_csv", files=file).raise_for_status()
            ended = f"/tasks/{canvas}"
            eventually(lambda: client.get(ended).json().get("state") == "FAILURE", within=60)
        failed, running = tasks.failure(), tasks.running()
        camera = Camera(browser, stack.url)
        for name, query, words in (
            ("filtered", "?state=failed&name=shop", "shop.send_invoice"),
            ("empty", "?q=nothing+like+this", "No task matches"),
            ("failure", f"?task={failed}", "ConnectionRefusedError"),
            ("task", f"?task={running}", "Reading rows"),
            ("canvas", f"?task={canvas}", "narrate"),
            ("workers", "?view=workers", "alive"),
        ):
            camera.picture(name, query, words).close()
        camera.picture("phone", "", "Reading rows", phone=True).close()
        camera.picture("dark", "", "Reading rows", dark=True).close()
        page = camera.picture("list", "", "Reading rows")
        stack.kill("api")
        expect(page.locator("#connection")).to_have_text("Connection lost", timeout=WITHIN)
        take(page, "lost")


if __name__ == "__main__":
    main()
