"""Bytes, ids, status codes and headers: the same everywhere."""

import re

import httpx
import pytest
from flask import Flask

import bridge
from bridge.flask import Bridge as FlaskBridge
from bridge.streams import sse
from tests.conformance.payloads import PAYLOADS
from tests.servers import Valkey
from tests.sites import LIMITS, Site
from tests.sse_clients import LAST, Request, curl


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
