"""Every client reads the same from a stream, whichever server it comes from and whatever is in between."""

import json
import re
import shutil
import socket
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NamedTuple

import httpx
import httpx_sse
import pytest
import requests
import sseclient
from playwright.sync_api import Browser

import bridge
from bridge.channel.transport import transport_of
from bridge.streams import sse
from tests import events
from tests.chromium import chromium
from tests.markdown import block
from tests.nginx import PROGRAM, Nginx
from tests.servers import Valkey, eventually
from tests.serving import SERVERS, serving

SECONDS = 20
LAST = "the last one"
LAST_FRAME = b"data: the last one\n\n"
# requests hands on a body that is not chunked 128 bytes at a time.
PADDING = b"x" * 300

PAYLOADS: list[bytes | str] = [
    *(b"one", b"", b"\n", b"\r", b"\r\n", b"\n\n\n", b"\n\r"),
    *(b"a\nb", b"a\rb", b"a\r\nb", b"a\r\r\nb\n\rc", b"ends\n", b"ends\r\n\r\n"),
    *(b" one space", b"  two", b"\ta tab", b"trailing ", b" "),
    *(b": no comment", b"data: no field", b"id: 7", b"id", b"event: no type\nretry: 1\n\ndata: x"),
    *("\ufeffBOM", "é 漢字 😀 \u0301", "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei", "nul \0"),
    b"x" * 100_000,
    b"line\n" * 20_000,
]

_SNIPPET = block("docs/guide.md", "location / {\n")

# What a user may have written in `server {}` of nginx, before whom the server is at port 8000.
CONFIGS = {
    "nginx as in the guide": _SNIPPET,
    "nginx, HTTP/1.0": "proxy_http_version 1.0; location / { proxy_pass http://127.0.0.1:8000; }",
    "nginx, not chunked": "chunked_transfer_encoding off;" + _SNIPPET,
    "nginx, compressing": "gzip_types text/event-stream;" + _SNIPPET,
}
PATHS = ("direct", *CONFIGS)
BEHIND_NGINX = ("gunicorn sync", "pywsgi")


class Seen(NamedTuple):
    """An event as a client shows it."""

    type: str
    id: str
    data: str


Collect = Callable[[], list[Seen]]
"""Waits until the stream has ended, was cut, or has shown `LAST`; returns what was seen."""


def with_httpx(url: str, headers: dict[str, str]) -> list[Seen]:
    seen: list[Seen] = []
    with (
        suppress(httpx.RemoteProtocolError),  # cut
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        httpx_sse.connect_sse(client, "GET", url, headers=headers) as source,
    ):
        for event in source.iter_sse():
            seen.append(Seen(event.event, event.id, event.data))
            if event.data == LAST:
                break
    return seen


def with_requests(url: str, headers: dict[str, str]) -> list[Seen]:
    seen: list[Seen] = []
    with suppress(requests.exceptions.ChunkedEncodingError), requests.Session() as session:  # cut
        session.trust_env = False
        with session.get(url, headers=headers, stream=True, timeout=SECONDS) as response:
            # As its documentation does: it asks for an iterator and takes a response.
            for event in sseclient.SSEClient(response).events():  # type: ignore[arg-type]
                seen.append(Seen(event.event, event.id or "", event.data))
                if event.data == LAST:
                    break
    return seen


def curl(url: str, headers: dict[str, str], *options: str) -> bytes:
    """Return what curl prints, until it ends or prints `LAST`."""
    sent = [word for name, value in headers.items() for word in ("-H", f"{name}: {value}")]
    command = ["curl", "-sN", "--compressed", "--noproxy", "*", "-m", str(SECONDS), *options, *sent, url]
    printed = b""
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout is not None
        while LAST_FRAME not in printed and (more := process.stdout.read(65536)):
            printed += more
        process.kill()
    before, last, _ = printed.partition(LAST_FRAME)
    return before + last


def with_curl(url: str, headers: dict[str, str], *options: str) -> list[Seen]:
    printed = curl(url, headers, *options)
    response = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=printed)
    return [Seen(event.event, event.id, event.data) for event in httpx_sse.EventSource(response).iter_sse()]


READERS: dict[str, Callable[[str, dict[str, str]], list[Seen]]] = {
    "httpx-sse": with_httpx,
    "sseclient-py": with_requests,
    "curl": with_curl,
    "curl, HTTP/1.0": lambda url, headers: with_curl(url, headers, "--http1.0"),
}
CLIENTS = (*READERS, "EventSource")

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


class Clients:
    """Opens streams with any of the clients, several at a time."""

    def __init__(self, browser: Browser) -> None:
        self._threads = ThreadPoolExecutor()
        self._browser = browser

    def open(self, client: str, address: str, query: str, types: Sequence[str] = ("message",)) -> Collect:
        """Begin to read a stream until it ends or shows `LAST`."""
        if client == "EventSource":
            return self._in_the_browser(address, query, types)
        return self._threads.submit(READERS[client], f"{address}/stream?{query}", {}).result

    def follow(self, client: str, address: str, query: str) -> Collect:
        """Begin to read a stream until it shows `LAST`; where it is cut, go on from the last id."""
        if client == "EventSource":
            return self._in_the_browser(address, query, ("message",))
        return self._threads.submit(self._follow, READERS[client], f"{address}/stream?{query}").result

    @staticmethod
    def _follow(read: Callable[[str, dict[str, str]], list[Seen]], url: str) -> list[Seen]:
        seen: list[Seen] = []
        while not seen or seen[-1].data != LAST:
            seen += read(url, {"Last-Event-ID": seen[-1].id} if seen else {})
        return seen

    def page(self, address: str, query: str, types: Sequence[str]) -> Any:
        """Return a page with an EventSource."""
        page = self._browser.new_page()
        page.goto(f"{address}/stats")
        page.evaluate(OPEN, [f"/stream?{query}", list(types), LAST])
        return page

    def _in_the_browser(self, address: str, query: str, types: Sequence[str]) -> Collect:
        page = self.page(address, query, types)
        done = "source.readyState === EventSource.CLOSED || seen.some(([type]) => type === 'end')"

        def collect() -> list[Seen]:
            page.wait_for_function(done, timeout=SECONDS * 1000)
            seen = [Seen(*event) for event in page.evaluate("seen")]
            page.close()
            return seen

        return collect

    def close(self) -> None:
        self._threads.shutdown()


class Server:
    """One server, the ways that lead to it, and the channel whose topics it streams."""

    def __init__(self, ways: dict[str, str], channel: Any) -> None:
        self.ways = ways
        self.channel = channel

    def stats(self) -> dict[str, int]:
        told: dict[str, int] = httpx.get(f"{self.ways['direct']}/stats", trust_env=False).json()
        return told

    @contextmanager
    def opens(self) -> Iterator[None]:
        """Wait until a stream that is asked for within is open."""
        before = self.stats()["viewers_handed_over"]
        yield
        eventually(lambda: self.stats()["viewers_handed_over"] > before, SECONDS)

    def publish(self, topic: str, payloads: Sequence[bytes | str]) -> list[Seen]:
        """Publish to a topic; return what its viewers must see."""
        return [self._publish(topic, p.encode() if isinstance(p, str) else p) for p in payloads]

    def _publish(self, topic: str, payload: bytes) -> Seen:
        message_id = self.channel.topic(topic).publish(payload)
        return Seen("message", message_id, re.sub("\r\n|\r", "\n", payload.decode()))

    def say(self, task: str, kind: str, **fields: Any) -> Seen:
        """Publish an event of a task; return what its viewers must see."""
        event = events.make(kind, task, **fields)
        message_id = transport_of(self.channel).publish(event)
        assert message_id is not None
        return Seen(kind, message_id, event.payload.decode())


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    if PROGRAM is None or shutil.which("curl") is None:
        pytest.skip("no nginx or no curl here; on Debian: apt-get install nginx-light curl")


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with chromium() as browser:
        clients = Clients(browser)
        yield clients
        clients.close()


@contextmanager
def reachable(valkey: Valkey, kind: str) -> Iterator[Server]:
    """Run a server, with an nginx of every configuration before it."""
    namespace = uuid.uuid4().hex
    given = {"URL": valkey.url("redis"), "PUBLIC": "true", "NAMESPACE": namespace}
    with (
        bridge.connect(valkey.url("redis"), namespace=namespace) as channel,
        serving(kind, **{f"BRIDGE_{name}": value for name, value in given.items()}) as address,
    ):
        configs = [config.replace("http://127.0.0.1:8000", address) for config in CONFIGS.values()]
        with Nginx(*configs) as nginx:
            yield Server(dict(zip(PATHS, (address, *nginx.addresses), strict=True)), channel)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Server]:
    with reachable(valkey, request.param) as server:
        yield server


@pytest.fixture(scope="module")
def one_server(valkey: Valkey) -> Iterator[Server]:
    with reachable(valkey, "gunicorn sync") as server:
        yield server


def check(seen: list[Seen], expected: list[Seen]) -> None:
    """Fail with the first difference, for some of it is 100 KB long."""
    for one, other in zip(seen, expected, strict=False):
        assert one == other
    assert len(seen) == len(expected)


client = pytest.mark.parametrize("client", CLIENTS)
path = pytest.mark.parametrize("path", PATHS)
# Each server alone, and two of them, whose HTTP is not of one hand, behind each nginx.
way = pytest.mark.parametrize(
    ("server", "path"),
    [(server, path) for server in SERVERS for path in PATHS if path == "direct" or server in BEHIND_NGINX],
    indirect=["server"],
)


@client
@way
def test_every_client_sees_every_payload_as_it_is(
    server: Server, clients: Clients, path: str, client: str
) -> None:
    """What is kept and what comes live: text, ids and order, line ends as LF and nothing else changed."""
    topic = uuid.uuid4().hex
    expected = server.publish(topic, PAYLOADS)
    with server.opens():
        collect = clients.open(client, server.ways[path], f"topic={topic}&last_event_id={bridge.BEGINNING}")
    expected += server.publish(topic, [*PAYLOADS, LAST])
    server.publish(topic, [PADDING])
    check(collect(), expected)


def test_the_ways_are_as_different_as_they_should_be(server: Server) -> None:
    """Chunked, not chunked and compressed bodies are what the other tests read."""
    told = {}
    for path, address in server.ways.items():
        with httpx.stream("GET", f"{address}/stream?topic=ways", trust_env=False) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            told[path] = [response.headers.get(n) for n in ("transfer-encoding", "content-encoding")]
    assert told == {
        **{path: ["chunked", None] for path in PATHS},
        "nginx, not chunked": [None, None],
        "nginx, compressing": ["chunked", "gzip"],
    }


CUSTOM = ("étape: 1", " spaced ", "data", "id:7")
TYPES = ("snapshot", "progress", "log", "state", "end", "reset", "message", *CUSTOM)


@client
@way
def test_every_client_sees_a_task_from_snapshot_to_end(
    server: Server, clients: Clients, path: str, client: str
) -> None:
    """A snapshot, events of every type with their own ids, exactly one end; then the stream is over."""
    task = uuid.uuid4().hex
    server.say(task, "state", state="STARTED", name="convert")
    first = server.say(task, "log", level="info", message="before\r\n\u2028")
    with server.opens():
        collect = clients.open(client, server.ways[path], f"topic={bridge.task_topic(task)}", TYPES)
    expected = [
        server.say(task, "progress", current=1, total=2, message="half\nway"),
        server.say(task, "log", level="warning", message="\ufeffé\r\n\r\n\u2028 😀 " + "x" * 100_000),
        *(server.say(task, kind, data={"line": "a\nb", "kind": kind}) for kind in CUSTOM),
        server.say(task, "state", state="SUCCESS", result="\r\n")._replace(id=""),
    ]
    snapshot, *following, end = collect()
    assert (snapshot.type, snapshot.id) == ("snapshot", first.id)
    assert [event["message"] for event in json.loads(snapshot.data)["events"]] == ["before\r\n\u2028"]
    check(following, expected)
    assert (end.type, end.id, json.loads(end.data)["state"]) == ("end", "end", "SUCCESS")


@path
def test_events_arrive_as_they_are_published(server: Server, path: str) -> None:
    """No server and no proxy holds an event back until the next: each is seen before another is sent."""
    topic = uuid.uuid4().hex
    with (
        httpx.Client(timeout=SECONDS, trust_env=False) as client,
        server.opens(),
        httpx_sse.connect_sse(client, "GET", f"{server.ways[path]}/stream?topic={topic}") as source,
    ):
        seen = source.iter_sse()
        for number in range(10):
            (expected,) = server.publish(topic, [f"{number}"])
            event = next(seen)
            assert (event.id, event.data) == (expected.id, expected.data)


def test_an_event_source_stops_after_the_end(server: Server, clients: Clients) -> None:
    """Back with the id of the end, an EventSource gets 204, by every way, and does not come again."""
    task = uuid.uuid4().hex
    server.say(task, "state", state="SUCCESS")
    query = f"topic={bridge.task_topic(task)}"
    pages = [clients.page(address, query, ("end",)) for address in server.ways.values()]
    for page in pages:
        page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=SECONDS * 1000)
        assert [kind for kind, _, _ in page.evaluate("seen")] == ["end"]
        page.close()
    for address in server.ways.values():
        answer = httpx.get(f"{address}/stream?{query}", headers={"Last-Event-ID": "end"}, trust_env=False)
        assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_not_a_byte_is_added_or_lost(server: Server, version: str) -> None:
    """What curl prints is the retry field and the frames, byte for byte, also of what is no text."""
    topic = uuid.uuid4().hex
    payloads = [payload.encode() if isinstance(payload, str) else payload for payload in PAYLOADS]
    payloads += [b"\xff\xfe\x80", b"\xed\xa0\x80", bytes(range(256)), LAST.encode()]
    frames = [sse.frame(payload, id=server.channel.topic(topic).publish(payload)) for payload in payloads]
    address = f"{server.ways['direct']}/stream?topic={topic}&last_event_id={bridge.BEGINNING}"
    retry, rest = curl(address, {}, version).split(b"\n", 1)
    assert re.fullmatch(rb"retry: \d+", retry)
    assert rest == b"".join(frames)


class Cutter:
    """Passes connections on to a server, and cuts them: each after so many bytes of its answer."""

    def __init__(self, address: str, after: Sequence[int]) -> None:
        self._server = ("127.0.0.1", int(address.rpartition(":")[2]))
        self.left = list(after)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        """Pass on one request, whole as it comes, and the answer to it, as far as it may go."""
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            request = client.recv(65536)
            left = self.left.pop(0) if self.left and b"/stream" in request else 1 << 30
            server.sendall(request)
            while left and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)


CUTS = (700, 1501, 40_003, 303)
"""In the midst of an event each, and once before the first."""


@client
@pytest.mark.parametrize("path", ["direct", "nginx as in the guide"])
def test_a_stream_that_is_cut_goes_on_without_gap_or_repeat(
    one_server: Server, clients: Clients, path: str, client: str
) -> None:
    """From a client's own last id, after a cut in the midst of an event, every event comes exactly once."""
    topic = uuid.uuid4().hex
    expected = one_server.publish(topic, [*PAYLOADS, LAST])
    one_server.publish(topic, [PADDING])
    with ExitStack() as stack:
        cutter = Cutter(one_server.ways[path], CUTS)
        stack.callback(cutter.close)
        collect = clients.follow(client, cutter.address, f"topic={topic}&last_event_id={bridge.BEGINNING}")
        check(collect(), expected)
        assert cutter.left == []
