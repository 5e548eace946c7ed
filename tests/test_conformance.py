"""Every client reads the same from a stream, in every framework, under every server, behind every nginx."""

import json
import os
import re
import shutil
import signal
import socket
import struct
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress

import httpx
import httpx_sse
import pytest
from flask import Flask

import bridge
from bridge.flask import Bridge as FlaskBridge
from bridge.streams import sse
from tests.chromium import chromium
from tests.listener import Listener, body_of
from tests.markdown import block
from tests.nginx import PROGRAM
from tests.servers import Valkey, eventually
from tests.sites import KINDS, LIMITS, Kind, Site, site
from tests.sse_clients import CLIENTS, LAST, LAST_FRAME, SECONDS, Clients, Request, Seen, curl

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

GUIDE = "nginx as in the guide"
_SNIPPET = block("docs/guide.md", "location / {\n")

# What a user may have written in `server {}` of nginx, before whom the server is at port 8000.
CONFIGS = {
    GUIDE: _SNIPPET,
    "nginx, all defaults": "location / { proxy_pass http://127.0.0.1:8000; }",
    "nginx, HTTP/1.0": "proxy_http_version 1.0; location / { proxy_pass http://127.0.0.1:8000; }",
    "nginx, not chunked": "chunked_transfer_encoding off;" + _SNIPPET,
    "nginx, compressing": "gzip_types text/event-stream;" + _SNIPPET,
}
# One server has each nginx before it, others of those whose HTTP is not of one hand have that of the guide.
BEHIND_NGINX = {
    "flask, gunicorn sync": (GUIDE, "nginx, HTTP/1.0"),
    "fastapi, uvicorn --http httptools --loop uvloop": tuple(CONFIGS),
    **dict.fromkeys(("flask, pywsgi", "starlette, hypercorn", "starlette, granian"), (GUIDE,)),
    **dict.fromkeys(("django, gunicorn sync", "django, uvicorn asgi", "django, daphne asgi"), (GUIDE,)),
}


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


@pytest.fixture(scope="module")
def served(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Site]:
    """The application under one server, which the tests of that server share."""
    kind: Kind = request.param
    with site(kind, valkey, {name: CONFIGS[name] for name in BEHIND_NGINX.get(str(kind), ())}) as served:
        yield served


every_server = pytest.mark.parametrize("served", KINDS, indirect=True, ids=str)


@pytest.fixture
def topic() -> str:
    return uuid.uuid4().hex


def check(reader: object, seen: list[Seen], expected: list[Seen]) -> None:
    """Fail with the first difference, for some of it is 100 KB long."""
    for one, other in zip(seen, expected, strict=False):
        assert (reader, *one) == (reader, *other)
    assert (reader, len(seen)) == (reader, len(expected))


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


# Clients.


@every_server
def test_every_client_sees_every_payload_as_it_is(served: Site, clients: Clients, topic: str) -> None:
    """What is kept and what comes live: text, ids and order, line ends as LF and nothing else changed."""
    for number, (way, address) in enumerate(served.ways.items()):
        of_way = f"{topic}-{number}"
        expected = served.publish(of_way, PAYLOADS)
        readings = clients.open_all(address, f"topic={of_way}&last_event_id={bridge.BEGINNING}")
        expected += served.publish(of_way, [*PAYLOADS, LAST])
        served.publish(of_way, [PADDING])
        for client, reading in readings.items():
            check((way, client), reading.collect(), expected)


CUSTOM = ("étape: 1", " spaced ", "data", "id:7")
TYPES = ("snapshot", "progress", "log", "state", "end", "reset", "message", *CUSTOM)


@every_server
def test_every_client_sees_a_task_from_snapshot_to_end(served: Site, clients: Clients, topic: str) -> None:
    """A snapshot, events of every type with their own ids, exactly one end; then the stream is over."""
    for number, address in enumerate(served.ways.values()):
        check_task(served, clients, address, f"{topic}-{number}")


def check_task(served: Site, clients: Clients, address: str, task: str) -> None:
    served.say(task, "state", state="STARTED", name="convert")
    first = served.say(task, "log", level="info", message="before\r\n\u2028")
    readings = clients.open_all(address, f"topic={bridge.task_topic(task)}", TYPES)
    expected = [
        served.say(task, "progress", current=1, total=2, message="half\nway"),
        served.say(task, "log", level="warning", message="\ufeffé\r\n\r\n\u2028 😀 " + "x" * 100_000),
        *(served.say(task, kind, data={"line": "a\nb", "kind": kind}) for kind in CUSTOM),
        served.say(task, "state", state="SUCCESS", result="\r\n")._replace(id=""),
    ]
    for client, reading in readings.items():
        snapshot, *following, end = reading.collect()
        assert (client, snapshot.type, snapshot.id) == (client, "snapshot", first.id)
        logged = [event["message"] for event in json.loads(snapshot.data)["events"]]
        assert logged == ["before\r\n\u2028"]
        check(client, following, expected)
        assert (end.type, end.id, json.loads(end.data)["state"]) == ("end", "end", "SUCCESS")


@every_server
def test_events_arrive_as_they_are_published(served: Site, topic: str) -> None:
    """No server and no proxy holds an event back until the next: each is seen before another is sent."""
    for address in served.ways.values():
        with (
            httpx.Client(timeout=SECONDS, trust_env=False) as client,
            httpx_sse.connect_sse(client, "GET", f"{address}/stream?topic={topic}") as source,
        ):
            seen = source.iter_sse()
            for number in range(10):
                (expected,) = served.publish(topic, [f"{number}"])
                event = next(seen)
                assert (event.id, event.data) == (expected.id, expected.data)


@every_server
def test_an_event_source_stops_after_the_end(served: Site, clients: Clients, topic: str) -> None:
    """Back with the id of the end, an EventSource gets 204, by every way, and does not come again."""
    served.say(topic, "state", state="SUCCESS")
    query = f"topic={bridge.task_topic(topic)}"
    pages = [clients.page(address, query, ("end",)) for address in served.ways.values()]
    for page in pages:
        page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=SECONDS * 1000)
        assert [kind for kind, _, _ in page.evaluate("seen")] == ["end"]
        page.close()
    for address in served.ways.values():
        answer = httpx.get(
            f"{address}/stream?{query}", headers={"Last-Event-ID": "end"}, trust_env=False, verify=False
        )
        assert (answer.status_code, answer.content) == (204, b"")


CUTS = (700, 1501, 40_003, 303)
"""In the midst of an event each, and once before the first."""


@every_server
def test_a_stream_that_is_cut_goes_on_without_gap_or_repeat(
    served: Site, clients: Clients, topic: str
) -> None:
    """From a client's own last id, after a cut in the midst of an event, every event comes exactly once."""
    expected = served.publish(topic, [*PAYLOADS, LAST])
    served.publish(topic, [PADDING])
    query = f"topic={topic}&last_event_id={bridge.BEGINNING}"
    with ExitStack() as stack:
        cutters = {client: Cutter(served.address, CUTS) for client in CLIENTS}
        for cutter in cutters.values():
            stack.callback(cutter.close)
        readings = [clients.follow(client, cutter.address, query) for client, cutter in cutters.items()]
        for client, reading in zip(CLIENTS, readings, strict=True):
            check(client, reading.collect(), expected)
            assert cutters[client].left == []


class Cutter:
    """Passes connections on to a server, and cuts them: each after so many bytes of its answer."""

    def __init__(self, address: str, after: Sequence[int]) -> None:
        self._server = ("127.0.0.1", port_of(address))
        self.left = list(after)
        self._passing: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def close(self) -> None:
        """Cut what is open still, and end the thread."""
        # Closing a socket alone does not wake a thread that waits in `accept`.
        for open_socket in (self._listening, *self._passing):
            with suppress(OSError):
                open_socket.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def _run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        """Pass on one request, whole as it comes, and the answer to it, as far as it may go."""
        with suppress(OSError), client, socket.create_connection(self._server) as server:
            self._passing.append(server)
            request = client.recv(65536)
            left = self.left.pop(0) if self.left and b"/stream" in request else 1 << 30
            server.sendall(request)
            while left and (data := server.recv(min(left, 65536))):
                client.sendall(data)
                left -= len(data)


# Bytes, ids and status codes.


@every_server
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
def test_not_a_byte_is_added_or_lost(served: Site, version: str, topic: str) -> None:
    """What curl prints is the retry field and the frames, byte for byte, also of what is no text."""
    payloads = [payload.encode() if isinstance(payload, str) else payload for payload in PAYLOADS]
    payloads += [b"\xff\xfe\x80", b"\xed\xa0\x80", bytes(range(256)), LAST.encode()]
    frames = [sse.frame(payload, id=served.channel.topic(topic).publish(payload)) for payload in payloads]
    address = f"{served.address}/stream?topic={topic}&last_event_id={bridge.BEGINNING}"
    retry, rest = curl(Request(address, {}, (), lambda: None), version).split(b"\n", 1)
    assert re.fullmatch(rb"retry: \d+", retry)
    assert rest == b"".join(frames)


@every_server
def test_cursors_mean_the_same_everywhere(served: Site, valkey: Valkey, topic: str) -> None:
    """From the start, the beginning, an id and a lost id, in header and query: the bytes of a reference."""
    tasks = [f"{topic}-{number}" for number in range(2)]
    ids = []
    for task in tasks:
        served.say(task, "state", state="STARTED", name="convert")
        ids += [served.say(task, "log", message=f"message {number}").id for number in range(3)]
        served.say(task, "state", state="SUCCESS", result=1)
    one, other = (f"topic={bridge.task_topic(task)}" for task in tasks)
    both = f"{one}&{other}"
    lost = f"ffffffff-7-{ids[0].rpartition('-')[2]}"
    cases = [(one, "", 0), (one, bridge.BEGINNING, 0), (one, ids[1], 0), (one, lost, 1), (one, "none", 1)]
    for query, cursor, resets in [*cases, (both, "", 0), (both, bridge.BEGINNING, 0)]:
        expected = reference(served, valkey, query, cursor)
        by_header = body(served.request(query, last_event_id=cursor))
        by_query = body(served.request(f"{query}&last_event_id={cursor}"))
        if query == both:  # their order is not promised, and cursors depend on it
            expected, by_header, by_query = map(data_of, (expected, by_header, by_query))
        assert by_header == by_query == expected
        assert expected.count(b'"type":"reset"') == resets
        assert expected.count(b'"type":"end"') == query.count("topic")


def data_of(text: bytes) -> bytes:
    return b"".join(sorted(re.findall(rb"^data: .*\n", text, re.MULTILINE)))


def body(answer: httpx.Response) -> bytes:
    assert answer.status_code == 200
    return comparable(answer.content)


def comparable(text: bytes) -> bytes:
    """Return a stream without retry field, heartbeats, and the times of what is made when asked for."""
    text = re.sub(rb"^(retry: \d+|:)\n", b"", text, flags=re.MULTILINE)
    return re.sub(
        rb'^(data: .*"type":"(?:snapshot|end|reset)".*?"at":)[\d.]+', rb"\1", text, flags=re.MULTILINE
    )


def reference(served: Site, valkey: Valkey, query: str, cursor: str) -> bytes:
    """Return what the Flask extension answers in this process, without a server."""
    app = Flask(__name__)
    url, namespace = valkey.url("redis"), served.namespace
    app.config.update(BRIDGE_URL=url, BRIDGE_NAMESPACE=namespace, BRIDGE_PUBLIC=True)
    extension = FlaskBridge(app)
    topics = re.findall("topic=([^&]+)", query)
    app.add_url_rule("/stream", view_func=lambda: extension.stream(*topics))
    data = app.test_client().get("/stream", headers={"Last-Event-ID": cursor}).data
    app.extensions["bridge"].channel.close()
    return comparable(data)


@every_server
def test_status_codes_and_headers_are_the_same_everywhere(served: Site, topic: str) -> None:
    """A refusal, a bad name, too many topics, the head of a stream, and methods that are not allowed."""
    many = "&".join(f"topic={number}" for number in range(LIMITS["max_topics"] + 1))
    for query, status in [("topic=secret", 403), (f"topic={topic}&topic=secret", 403), ("topic=a%01b", 404)]:
        answer = served.request(query)
        assert (query, answer.status_code) == (query, status)
        assert served.request(query, "HEAD").status_code == status
        assert "retry-after" not in answer.headers
    answer = served.request(many)
    assert (answer.status_code, 5 <= int(answer.headers["Retry-After"]) <= 15) == (429, True)
    opened = served.count("viewers_opened")
    head = served.request(f"topic={topic}", "HEAD")
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert head.headers["cache-control"] == "no-cache, no-transform"
    assert head.headers["x-accel-buffering"] == "no"
    assert served.count("viewers_opened") == opened
    # Django's protection against forged requests comes first. Flask itself answers OPTIONS.
    expected = {"flask": [405, 200], "django": [403, 405]}.get(served.kind.framework, [405, 405])
    other = [served.request(f"topic={topic}", method).status_code for method in ("POST", "OPTIONS")]
    assert other == expected


@every_server
def test_the_ways_are_as_different_as_they_should_be(served: Site, topic: str) -> None:
    """Chunked, not chunked and compressed bodies are what the other tests read; no head has a length."""
    told = {}
    for way, address in served.ways.items():
        with httpx.stream("GET", f"{address}/stream?topic={topic}", trust_env=False) as response:
            assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
            assert "content-length" not in response.headers
            told[way] = [response.headers.get(n) for n in ("transfer-encoding", "content-encoding")]
    different = {"nginx, not chunked": [None, None], "nginx, compressing": ["chunked", "gzip"]}
    assert told == {way: different.get(way, ["chunked", None]) for way in served.ways}


# Viewers that are too many, and viewers that leave.


@every_server
def test_a_viewer_over_the_limit_is_refused_until_another_leaves(served: Site, topic: str) -> None:
    """The answer is 503 with a Retry-After; when viewers have left there is room again."""
    served.await_no_viewers()
    listeners = []
    for _ in range(LIMITS["max_viewers"] * served.kind.processes + 1):
        listeners.append(Listener(served.address, topic))
        listeners[-1].until(b"\r\n\r\n")
    refused = [it.received for it in listeners if it.received.startswith(b"HTTP/1.1 503 ")]
    assert refused
    assert all(re.search(rb"(?i)^retry-after: \d+\r$", head, re.MULTILINE) for head in refused)
    assert served.count("viewers") <= LIMITS["max_viewers"] * served.kind.processes
    for listener in listeners:
        listener.socket.close()
    served.await_no_viewers()
    again = Listener(served.address, topic)
    assert again.until(b"retry: ").startswith(b"HTTP/1.1 200 ")
    again.socket.close()


def half_a_request(site: Site, topic: str, task: str) -> socket.socket:
    connection = socket.create_connection(
        ("127.0.0.1", int(site.address.rpartition(":")[2])), timeout=SECONDS
    )
    connection.sendall(b"GET /stream?topic=orders HTTP/1.1\r\nHost:")
    return connection


def no_head_yet(site: Site, topic: str, task: str) -> socket.socket:
    return Listener(site.address, topic).socket


def the_head(site: Site, topic: str, task: str) -> socket.socket:
    listener = Listener(site.address, topic)
    listener.until(b"retry: ")
    return listener.socket


def half_a_snapshot(site: Site, topic: str, task: str) -> socket.socket:
    """The snapshot is larger than what sockets hold."""
    listener = Listener(site.address, task, receive_buffer=4096)
    listener.until(b"event: snapshot")
    return listener.socket


def a_live_event(site: Site, topic: str, task: str) -> socket.socket:
    listener = Listener(site.address, topic)
    listener.until(b"retry: ")
    site.publish(topic, ["live"])
    listener.until(b"data: live\n")
    return listener.socket


PHASES = (half_a_request, no_head_yet, the_head, half_a_snapshot, a_live_event)
"""What a client has sent or received when it leaves."""


@every_server
def test_a_viewer_may_leave_in_every_phase(served: Site, topic: str) -> None:
    """It is forgotten, whether it closes or resets, and the viewer beside it misses nothing."""
    for _ in range(20):
        served.say(topic, "log", message="x" * 100_000)
    beside = Listener(served.address, topic)
    beside.until(b"retry: ")
    for phase in PHASES:
        for leave in (socket.socket.close, reset):
            for _ in range(3):
                leave(phase(served, topic, bridge.task_topic(topic)))
    (last,) = served.publish(topic, [LAST])
    received = body_of(beside.until(LAST_FRAME))
    assert received.count(b"data: live\n") == 6
    assert received.endswith(b"id: %b\n%b" % (last.id.encode(), LAST_FRAME))
    beside.socket.close()
    served.await_no_viewers()
    # Each process that has shown a task reads the heartbeats of workers.
    eventually(lambda: served.count("subscriptions") <= served.kind.processes, SECONDS)


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# The last one: it ends the server.


@every_server
def test_a_server_that_stops_ends_its_streams(served: Site, topic: str) -> None:
    """Each gets a retry of its own and an end; the server waits for none; its log tells of no fault."""
    handed_over = served.count("viewers_handed_over")
    listeners = [Listener(served.address, topic) for _ in range(20)]
    for listener in listeners:
        listener.until(b"retry: ")
    if served.kind.takes_over:  # an interrupt must not meet a stream that is being taken over
        eventually(lambda: served.count("viewers_handed_over") == handed_over + 20, SECONDS)
    log = served.log.read_text()
    assert log.count("connections cannot be taken over") == (0 if served.kind.takes_over else 1)
    assert served.faults() == [], log
    before = time.monotonic()
    os.kill(served.leader, signal.Signals[served.kind.signal])
    received = [listener.rest() for listener in listeners]
    assert time.monotonic() - before < 3
    eventually(lambda: has_ended(served.leader), SECONDS, "the server waits for something")
    if served.kind.ends:
        assert all(text.endswith(b"0\r\n\r\n") for text in received)
        retries = [re.findall(rb"^retry: (\d+)$", body_of(text), re.MULTILINE) for text in received]
        assert {len(found) for found in retries} == {2}
        assert len({found[1] for found in retries}) > len(listeners) // 2
        assert served.faults() == []


def has_ended(process: int) -> bool:
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
