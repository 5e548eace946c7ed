"""Clients of Server-Sent Events as users have them, behind one interface."""

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import httpx_sse
import requests
import sseclient
from playwright.sync_api import Browser

from tests import node
from tests.servers import eventually

SECONDS = 60
LAST = "the last one"
LAST_FRAME = b"data: the last one\n\n"


class Seen(NamedTuple):
    """An event as a client shows it."""

    type: str
    id: str
    data: str


class Request(NamedTuple):
    """What a client asks for. It calls `opened` when the head of the answer has come."""

    url: str
    headers: dict[str, str]
    types: Sequence[str]
    opened: Callable[[], None]


Read = Callable[[Request], list[Seen]]
"""Reads a stream until it has ended, was cut, or has shown `LAST`; returns what was seen."""


def with_httpx(request: Request) -> list[Seen]:
    seen: list[Seen] = []
    with (
        suppress(httpx.RemoteProtocolError),  # cut
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        httpx_sse.connect_sse(client, "GET", request.url, headers=request.headers) as source,
    ):
        request.opened()
        for event in source.iter_sse():
            seen.append(Seen(event.event, event.id, event.data))
            if event.data == LAST:
                break
    return seen


def with_requests(request: Request) -> list[Seen]:
    seen: list[Seen] = []
    with suppress(requests.exceptions.ChunkedEncodingError), requests.Session() as session:  # cut
        session.trust_env = False
        with session.get(request.url, headers=request.headers, stream=True, timeout=SECONDS) as response:
            request.opened()
            # As its documentation does: it asks for an iterator and takes a response.
            for event in sseclient.SSEClient(response).events():  # type: ignore[arg-type]
                seen.append(Seen(event.event, event.id or "", event.data))
                if event.data == LAST:
                    break
    return seen


def curl(request: Request, *options: str) -> bytes:
    """Return what curl prints, until it ends or prints `LAST`."""
    sent = [word for name, value in request.headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["curl", "-sN", "--compressed", "--noproxy", "*", "-m", str(SECONDS), *options, *sent]
    printed = b""
    with subprocess.Popen([*command, request.url], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while LAST_FRAME not in printed and (more := process.stdout.read(65536)):
            request.opened()
            printed += more
        process.kill()
    before, last, _ = printed.partition(LAST_FRAME)
    return before + last


def with_curl(request: Request, *options: str) -> list[Seen]:
    printed = curl(request, *options)
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=printed)
    return [Seen(event.event, event.id, event.data) for event in httpx_sse.EventSource(response).iter_sse()]


def with_node(request: Request, client: str, ends: Callable[[Seen], bool] | None = None) -> list[Seen]:
    """Read with a package of npm. `eventsource` ends at 204 and after what `ends`."""
    words = [client, request.url, json.dumps(request.headers), json.dumps(request.types), LAST]
    seen: list[Seen] = []
    with subprocess.Popen([*node.script("read.js"), *words], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said = json.loads(line)
            if said == "closed":
                break
            if said == "open":
                request.opened()
                continue
            seen.append(Seen(*said))
            if ends is not None and ends(seen[-1]):
                break
        process.kill()
    return seen


def _is_end(event: Seen) -> bool:
    return event.type == "end" or event.data == LAST


READERS: dict[str, Read] = {
    "httpx-sse": with_httpx,
    "sseclient-py": with_requests,
    "curl": with_curl,
    "curl, HTTP/1.0": lambda request: with_curl(request, "--http1.0"),
    "eventsource of npm": lambda request: with_node(request, "eventsource", _is_end),
    "eventsource-parser": lambda request: with_node(request, "eventsource-parser"),
}
CLIENTS = (*READERS, "EventSource")

BLANK = re.compile("/blank$")

OPEN = """([url, types, last]) => {
    window.seen = [];
    const source = window.source = new EventSource(url);
    for (const type of types) {
        source.addEventListener(type, (event) => {
            seen.push([event.type, event.lastEventId, event.data]);
            if (event.data === last) source.close();
        });
    }
}"""


class Reading:
    """A stream that a client has begun to read, in a thread."""

    def __init__(self, future: Future[list[Seen]], opened: threading.Event) -> None:
        self._future = future
        self._opened = opened

    def await_opened(self) -> None:
        eventually(lambda: self._opened.is_set() or self._future.done(), SECONDS, "the stream does not open")

    def collect(self) -> list[Seen]:
        """Return what was seen, when the stream has ended or shown `LAST`."""
        return self._future.result(2 * SECONDS)


class PageReading:
    """A stream that a page of a browser has begun to read."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def await_opened(self) -> None:
        self.page.wait_for_function("source.readyState !== EventSource.CONNECTING", timeout=SECONDS * 1000)

    def collect(self) -> list[Seen]:
        done = "source.readyState === EventSource.CLOSED || seen.some(([type]) => type === 'end')"
        self.page.wait_for_function(done, timeout=SECONDS * 1000)
        seen = [Seen(*event) for event in self.page.evaluate("seen")]
        self.page.close()
        return seen


class Clients:
    """Opens streams with any of the clients, several at a time."""

    def __init__(self, browser: Browser) -> None:
        self._threads = ThreadPoolExecutor(16)
        self._browser = browser

    def open(
        self, client: str, address: str, query: str, types: Sequence[str] = ("message",)
    ) -> Reading | PageReading:
        """Begin to read a stream until it ends or shows `LAST`."""
        if client == "EventSource":
            return PageReading(self.page(address, query, types))
        opened = threading.Event()
        request = Request(f"{address}/stream?{query}", {}, types, opened.set)
        return Reading(self._threads.submit(READERS[client], request), opened)

    def open_all(
        self, address: str, query: str, types: Sequence[str] = ("message",)
    ) -> dict[str, Reading | PageReading]:
        """Do what `open` does with every client; wait until all streams are open."""
        readings = {client: self.open(client, address, query, types) for client in CLIENTS}
        for reading in readings.values():
            reading.await_opened()
        return readings

    def follow(self, client: str, address: str, query: str) -> Reading | PageReading:
        """Begin to read a stream until it shows `LAST`; where it is cut, go on from the last id."""
        if client == "EventSource":
            return self.open(client, address, query)
        return Reading(
            self._threads.submit(_follow, READERS[client], f"{address}/stream?{query}"), threading.Event()
        )

    def page(self, address: str, query: str, types: Sequence[str]) -> Any:
        """Return a page with an EventSource.

        The server is asked for the stream alone. Browsers may keep a second connection on which they send
        nothing yet, and a sync worker waits for its first byte.
        """
        page = self._browser.new_page()
        page.route(
            BLANK, lambda route: route.fulfill(body="<link rel=icon href=data:,>", content_type="text/html")
        )
        page.goto(f"{address}/blank")
        page.evaluate(OPEN, [f"/stream?{query}", list(types), LAST])
        return page

    def close(self) -> None:
        self._threads.shutdown()


def _follow(read: Read, url: str) -> list[Seen]:
    seen: list[Seen] = []
    deadline = time.monotonic() + 2 * SECONDS
    while (not seen or seen[-1].data != LAST) and time.monotonic() < deadline:
        headers = {"Last-Event-ID": seen[-1].id} if seen else {}
        seen += read(Request(url, headers, ("message",), lambda: None))
    return seen
