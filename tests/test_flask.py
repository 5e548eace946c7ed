"""The Flask extension: who may read, what a stream answers, and under which servers it works."""

import contextlib
import os
import re
import resource
import socket
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse
import pytest
from flask import Flask, Response, abort, request
from werkzeug.exceptions import Forbidden, HTTPException, ServiceUnavailable, TooManyRequests

import bridge
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from tests import events
from tests.servers import Valkey, eventually
from tests.serving import SERVERS, serving

SECONDS = 10


def make_app(**config: Any) -> tuple[Flask, Bridge]:
    """Return an app with one streaming route, on a memory channel of its own."""
    app = Flask(__name__)
    app.config.update({"BRIDGE_URL": f"memory://{uuid.uuid4().hex}", **config})
    extension = Bridge(app)

    @app.get("/stream")
    def stream() -> Response:
        return extension.stream(*request.args.getlist("topic"))

    return app, extension


def say(channel: Any, kind: str, task: str = "t1", **fields: Any) -> None:
    transport_of(channel).publish(events.make(kind, task, **fields))


@pytest.fixture
def public() -> Iterator[tuple[Flask, Bridge]]:
    app, extension = make_app(BRIDGE_PUBLIC=True, BRIDGE_HEARTBEAT=0.05)
    yield app, extension
    app.extensions["bridge"].channel.close()


class Reading:
    """A stream of the test client, decoded as it comes."""

    def __init__(self, app: Flask, topics: list[str], **headers: str) -> None:
        self.response = app.test_client().get("/stream", query_string={"topic": topics}, headers=headers)
        self._chunks = self.response.iter_encoded()

    def chunk(self) -> str:
        chunk: bytes = next(self._chunks)
        return chunk.decode()

    def rest(self) -> list[str]:
        """Return what comes until the stream is closed."""
        return [chunk.decode() for chunk in self._chunks]

    def until(self, word: str) -> str:
        """Return what comes up to and with the chunk that holds `word`."""
        text = ""
        while word not in text:
            text += self.chunk()
        return text


@pytest.mark.parametrize("url", ["memory", "redis", "redis+pubsub", "sqlite"], indirect=True)
@pytest.mark.parametrize("topics", [["orders"], ["orders", "bills"]])
def test_the_type_of_a_message_is_the_event(url: str, topics: list[str]) -> None:
    """A stream names it, and names it again to a viewer that resumes; without a type it has no such line."""
    app, extension = make_app(BRIDGE_URL=url, BRIDGE_PUBLIC=True, BRIDGE_NAMESPACE=uuid.uuid4().hex)
    with app.app_context(), contextlib.closing(extension.channel) as channel:
        reading = Reading(app, topics)
        reading.chunk()
        first = channel.topic("orders").publish(b"one", type="ordered")
        channel.topic("orders").publish(b"two", type="größe")
        channel.topic("orders").publish(b"three")
        lines = reading.until("three").splitlines()
        told = [line for line in lines if line.startswith(("event: ", "data: "))]
        assert told[-5:] == ["event: ordered", "data: one", "event: größe", "data: two", "data: three"]
        reading.response.close()
        if first is not None:
            last_seen = next(
                line for line in lines[lines.index("event: ordered") :] if line.startswith("id: ")
            )
            again = Reading(app, topics, **{"Last-Event-ID": last_seen.removeprefix("id: ")})
            replayed = again.until("three")
            again.response.close()
            assert "event: größe\n" in replayed
            assert "data: one" not in replayed


def test_without_a_decision_streaming_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """With neither authorize nor BRIDGE_PUBLIC nothing is shown, and the log says how to allow it."""
    app, extension = make_app()
    assert app.test_client().get("/stream?topic=orders").status_code == 403
    with app.test_request_context():
        for read in (extension.tasks, lambda: extension.task("t1")):
            with pytest.raises(Forbidden):
                read()
    assert "@bridge.authorize" in caplog.text
    assert "BRIDGE_PUBLIC" in caplog.text


@pytest.mark.parametrize("value", [False, "False", "1", 1, None])
def test_only_true_makes_streams_public(value: object) -> None:
    """BRIDGE_PUBLIC must be True itself: a string that looks like it decides nothing."""
    app, _ = make_app(BRIDGE_PUBLIC=value)
    assert app.test_client().get("/stream?topic=orders").status_code == 403


def test_authorize_decides_for_each_topic_before_the_first_byte() -> None:
    """The function is asked about every topic, within the request; one refusal refuses the stream."""
    app, extension = make_app()
    asked = []

    @extension.authorize
    def may_read(topic: str) -> bool:
        asked.append((topic, request.path))
        return topic != "secret"

    client = app.test_client()
    with client.get("/stream?topic=orders&topic=others") as allowed:
        assert allowed.status_code == 200
    assert asked == [("orders", "/stream"), ("others", "/stream")]
    assert client.get("/stream?topic=orders&topic=secret").status_code == 403


def test_authorize_overrides_public_and_may_abort() -> None:
    """Where both are set the function decides, and what it raises is the answer."""
    app, extension = make_app(BRIDGE_PUBLIC=True)
    extension.authorize(lambda topic: abort(401))
    assert app.test_client().get("/stream?topic=orders").status_code == 401


def test_a_refusal_subscribes_to_nothing(public: tuple[Flask, Bridge]) -> None:
    """Neither a 403 nor a response that is never read leaves a subscription behind."""
    app, extension = public
    response = app.test_client().get("/stream?topic=orders")
    response.close()
    extension.authorize(lambda topic: False)
    app.test_client().get("/stream?topic=orders")
    with app.app_context():
        assert extension.stats()["subscriptions"] == 0


@pytest.mark.parametrize("topic", ["a\nb", "x" * 256])
def test_a_bad_topic_is_refused_before_the_stream_opens(public: tuple[Flask, Bridge], topic: str) -> None:
    """A topic name outside the limits, or none at all, is an error of the route and not a broken stream."""
    app, extension = public
    with app.test_request_context():
        with pytest.raises(ValueError, match="topic"):
            extension.stream(topic)
        with pytest.raises(ValueError, match="topic"):
            extension.stream()


@pytest.mark.parametrize("task_id", ["%00", "a%0Ab", "%7F", "a%C2%85b", "x" * 251, "x" * 5000, "ü" * 251])
@pytest.mark.parametrize("path", ["/jobs/{}/events", "/jobs/{}"])
def test_an_id_that_can_be_none_is_not_found(path: str, task_id: str) -> None:
    """A route that passes on what the URL says answers 404, to GET and HEAD, whoever may read."""
    app, extension = make_app()
    extension.authorize(lambda topic: True)

    @app.get("/jobs/<task_id>/events")
    def events_of_one(task_id: str) -> Response:
        return extension.stream(bridge.task_topic(task_id))

    @app.get("/jobs/<task_id>")
    def one(task_id: str) -> dict[str, Any]:
        return extension.task(task_id) or {}

    client = app.test_client()
    assert client.get(path.format(task_id)).status_code == 404
    assert client.head(path.format(task_id)).status_code == 404
    assert client.get(path.format("x" * 250)).status_code == 200


def test_a_topic_that_is_no_text_is_a_fault_of_the_route(public: tuple[Flask, Bridge]) -> None:
    """What no URL can say is not answered as if it had been asked for."""
    app, extension = public
    with app.test_request_context(), pytest.raises(ValueError, match="not int") as refused:
        extension.stream(7)  # type: ignore[arg-type]  # what a caller without types may do
    assert not isinstance(refused.value, HTTPException)


def test_the_head_of_a_stream(public: tuple[Flask, Bridge]) -> None:
    """Type, caching and buffering headers are those an EventSource and a proxy need; HEAD opens no stream."""
    app, extension = public
    reading = Reading(app, ["orders"])
    headers = reading.response.headers
    assert reading.response.status_code == 200
    assert headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert headers["Cache-Control"] == "no-cache, no-transform"
    assert headers["X-Accel-Buffering"] == "no"
    assert "Content-Length" not in headers
    assert reading.chunk().startswith("retry: ")
    reading.response.close()
    head = app.test_client().head("/stream?topic=orders")
    assert (head.status_code, head.headers["Content-Type"]) == (200, headers["Content-Type"])
    with app.app_context():
        eventually(lambda: (extension.stats()["viewers"], extension.stats()["viewers_opened"]) == (0, 1))


def test_a_plain_topic_streams_its_payloads_unchanged(public: tuple[Flask, Bridge]) -> None:
    """Each payload is the data of one event without a type, with its id where the backend has ids."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    reading = Reading(app, ["orders"])
    reading.chunk()
    message_id = channel.topic("orders").publish("eins\nzwei\u2028drei".encode())
    assert f"id: {message_id}\ndata: eins\ndata: zwei\u2028drei\n\n" in reading.until("drei")
    reading.response.close()


def test_silence_is_broken_by_comments(public: tuple[Flask, Bridge]) -> None:
    """With nothing to say, a comment goes out at every heartbeat."""
    reading = Reading(public[0], ["orders"])
    reading.chunk()
    assert [reading.chunk() for _ in range(3)] == [":\n"] * 3
    reading.response.close()


def test_a_task_streams_snapshot_events_and_one_end(public: tuple[Flask, Bridge]) -> None:
    """A viewer who comes in the middle gets the state so far, what follows and one end; then it is over."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    say(channel, "state", state="STARTED", name="work")
    say(channel, "log", level="info", message="before")
    reading = Reading(app, [bridge.task_topic("t1")])
    first = reading.until("event: snapshot")
    assert '"before"' in first
    assert '"STARTED"' in first
    say(channel, "progress", current=1, total=2)
    say(channel, "preview", data={"url": "x"})
    say(channel, "state", state="SUCCESS", result=7)
    rest = reading.until("event: end")
    assert [line for line in rest.splitlines() if line.startswith("event")] == [
        "event: progress",
        "event: preview",
        "event: state",
        "event: end",
    ]
    with pytest.raises(StopIteration):
        reading.chunk()


def test_a_task_that_has_ended_streams_its_snapshot_and_its_end(public: tuple[Flask, Bridge]) -> None:
    """A viewer who comes too late gets all there is at once; asked again, the answer is 204."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    say(channel, "state", state="FAILURE", error={"type": "E", "message": "m"})
    topic = bridge.task_topic("t1")
    reading = Reading(app, [topic])
    text = reading.until("event: end")
    assert text.count("event: snapshot") == text.count("event: end") == 1
    last_id = text.rsplit("id: ")[-1].splitlines()[0]
    assert Reading(app, [topic], **{"Last-Event-ID": last_id}).response.status_code == 204
    again = app.test_client().get("/stream", query_string={"topic": topic, "last_event_id": last_id})
    assert again.status_code == 204


def test_several_tasks_end_each_for_itself(public: tuple[Flask, Bridge]) -> None:
    """The stream of two tasks goes on after the first end and closes after the second."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    reading = Reading(app, [bridge.task_topic(name) for name in ("t1", "t2")])
    reading.chunk()
    say(channel, "state", "t2", state="SUCCESS")
    assert '"t2"' in reading.until("event: end")
    say(channel, "log", "t1", level="info", message="still here")
    reading.until("still here")
    say(channel, "state", "t1", state="SUCCESS")
    assert '"t1"' in reading.until("event: end")
    with pytest.raises(StopIteration):
        reading.chunk()


def test_one_cursor_resumes_several_topics(public: tuple[Flask, Bridge]) -> None:
    """With the last id of a stream of two tasks and a topic, each goes on at its own place."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    topics = [bridge.task_topic("t1"), bridge.task_topic("t2"), "orders"]
    reading = Reading(app, topics)
    reading.until('"task":"t2"')
    say(channel, "log", "t1", level="info", message="one")
    say(channel, "log", "t2", level="info", message="two")
    channel.topic("orders").publish(b"three")
    text = reading.until("three")
    last_id = text.split("id: ")[-1].splitlines()[0]
    reading.response.close()
    say(channel, "log", "t1", level="info", message="four")
    say(channel, "state", "t2", state="SUCCESS")
    channel.topic("orders").publish(b"five")
    again = Reading(app, topics, **{"Last-Event-ID": last_id})
    text = ""
    while not all(word in text for word in ("four", "five", "event: end")):
        text += again.chunk()
    for word in ("snapshot", "reset", "one", "two", "three"):
        assert word not in text
    cursor = text.split("id: ")[-1].splitlines()[0]
    assert "end" in cursor.split(",")
    again.response.close()


@pytest.mark.parametrize(
    "cursor",
    ["yesterday", "a-1-1,a-1-1", "\0", "a-1-1\nid: 7", "a-1-1", "x" * 5000, ",", "end,end", "ffffffff-1-1"],
)
def test_a_cursor_that_is_none_of_ours_gives_a_reset(public: tuple[Flask, Bridge], cursor: str) -> None:
    """Malformed, of another stream, forged: the viewer gets a reset and a fresh snapshot, never an error."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    say(channel, "log", level="info", message="hello")
    query = {"topic": bridge.task_topic("t1"), "last_event_id": cursor}
    response = app.test_client().get("/stream", query_string=query)
    assert response.status_code == 200
    chunks = response.iter_encoded()
    text = b""
    while b"event: snapshot" not in text:
        text += next(chunks)
    assert text.index(b"event: reset") < text.index(b"event: snapshot")
    assert b"hello" in text
    response.close()


def test_a_viewer_that_missed_the_end_alone_gets_it(public: tuple[Flask, Bridge]) -> None:
    """The id of the last state is empty, so whoever loses the connection right after it begins anew."""
    app, _ = public
    channel = app.extensions["bridge"].channel
    reading = Reading(app, [bridge.task_topic("t1")])
    reading.until("snapshot")
    say(channel, "state", state="SUCCESS")
    text = reading.until("event: end")
    state, end = text.split("\n\n")[:2]
    assert "id: \n" in state + "\n"
    assert "id: end" in end


def test_the_feed_shows_every_task_and_never_ends(public: tuple[Flask, Bridge]) -> None:
    """The feed opens with a snapshot of each task, the oldest first, and goes on with the events of all."""
    app, extension = public
    channel = app.extensions["bridge"].channel
    for name in ("t1", "t2"):
        say(channel, "state", name, state="STARTED", name="work")
    reading = Reading(app, [bridge.FEED])
    opening = reading.until('"task":"t2"')
    assert opening.index('"task":"t1"') < opening.index('"task":"t2"')
    say(channel, "state", "t1", state="SUCCESS")
    say(channel, "state", "t3", state="PENDING")
    text = reading.until('"t3"')
    assert "event: end" not in text
    with app.app_context():
        assert [task["task"] for task in extension.tasks()] == ["t3", "t2", "t1"]
        assert [task["task"] for task in extension.tasks(limit=1)] == ["t3"]
        first = extension.task("t1")
        assert first is not None
        assert first["state"] == "SUCCESS"
        assert extension.task("t9") is None
    reading.response.close()


def test_the_feed_of_a_tag_shows_the_tasks_of_the_tag_and_never_ends(public: tuple[Flask, Bridge]) -> None:
    """It opens with a snapshot of each, goes on with their events, and resumes; no other task is in it."""
    app, extension = public
    channel = app.extensions["bridge"].channel
    topic = bridge.tag_topic("user:42")
    for name, tag in (("t1", "user:42"), ("t2", "user:4"), ("t3", "user:42")):
        say(channel, "state", name, state="STARTED", tags=[tag])
    reading = Reading(app, [topic])
    opening = reading.until('"task":"t3"')
    assert opening.index('"task":"t1"') < opening.index('"task":"t3"')
    say(channel, "state", "t1", state="SUCCESS", tags=["user:42"])
    last_id = re.findall(r"^id: (.+)$", reading.until('"SUCCESS"'), re.MULTILINE)[-1]
    for name, tag in (("t4", "user:4"), ("t5", "user:42")):
        say(channel, "state", name, state="PENDING", tags=[tag])
    text = opening + reading.until('"t5"')
    assert not {"t2", "t4"} & set(re.findall(r'"task":"(\w+)"', text))
    assert "event: end" not in text
    reading.response.close()
    again = Reading(app, [topic], **{"Last-Event-ID": last_id})
    assert "snapshot" not in again.until('"t5"')
    again.response.close()
    with app.app_context():
        assert [task["task"] for task in extension.tasks(tag="user:42")] == ["t5", "t3", "t1"]
        assert [task["task"] for task in extension.tasks(1, tag="user:42")] == ["t5"]
        assert [task["task"] for task in extension.tasks(tag="user:4")] == ["t4", "t2"]
        assert extension.tasks(tag="user") == []
        found = extension.task("t5")
        assert found is not None
        assert found["tags"] == ["user:42"]


def test_who_may_read_a_tag_may_read_no_other() -> None:
    """`authorize` and tokens decide about the feed of each tag, for the stream and for the list."""
    app, extension = make_app(BRIDGE_TOKEN_KEYS=["k" * 32])

    @extension.authorize
    def may_read(topic: str) -> bool:
        return topic == bridge.tag_topic("user:42")

    with app.test_request_context():
        assert extension.tasks(tag="user:42") == []
        for tag in ("user:4", None):
            with pytest.raises(Forbidden):
                extension.tasks(tag=tag)
        token = extension.token(tag="tenant:7")
    with app.test_request_context(headers={"Authorization": f"Bearer {token}"}):
        assert extension.tasks(tag="tenant:7") == []
        with pytest.raises(HTTPException) as refusal:
            extension.tasks(tag="user:42")
        assert refusal.value.code == 403
        with pytest.raises(HTTPException) as refusal:
            extension.stream(bridge.tag_topic("tenant:70"))
        assert refusal.value.code == 403
        with pytest.raises(HTTPException) as refusal:
            extension.tasks(tag="a\nb")
        assert refusal.value.code == 404
    app.extensions["bridge"].channel.close()


def test_what_is_no_event_does_not_break_a_stream(public: tuple[Flask, Bridge]) -> None:
    """Whatever anyone publishes to a task's topic reaches the viewer as data, and the stream goes on."""
    app, _ = public
    topic = app.extensions["bridge"].channel.topic(bridge.task_topic("t1"))
    reading = Reading(app, [topic.topic])
    reading.chunk()
    for payload in (b"no json", b"\xff", b'{"type":"a\\nid: evil"}', b'{"type":"state","state":[]}'):
        topic.publish(payload)
    topic.publish(b'{"type":"last"}')
    text = b""
    while b"last" not in text:
        text += next(reading._chunks)
    assert b"data: no json\n" in text
    assert b"\nid: evil" not in text
    reading.response.close()


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"BRIDGE_URL": None}, "BRIDGE_URL"),
        ({"BRIDGE_URL": "kafka://x"}, "kafka"),
        ({"BRIDGE_HARTBEAT": 1}, "BRIDGE_HARTBEAT"),
        ({"BRIDGE_HEARTBEAT": 0}, "BRIDGE_HEARTBEAT"),
        ({"BRIDGE_MAX_PAYLOAD": "big"}, "max_payload"),
        ({"BRIDGE_MAX_VIEWERS": 0}, "BRIDGE_MAX_VIEWERS must be viewers above zero"),
        ({"BRIDGE_MAX_VIEWERS_PER_ADDRESS": 1.5}, "BRIDGE_MAX_VIEWERS_PER_ADDRESS"),
        ({"BRIDGE_MAX_TOPICS": True}, "BRIDGE_MAX_TOPICS"),
    ],
)
def test_a_bad_configuration_is_refused_when_the_app_is_made(config: dict[str, object], says: str) -> None:
    """A missing, misspelt or unusable setting is a ConfigurationError that names it."""
    with pytest.raises(bridge.ConfigurationError, match=says):
        make_app(**config)


def test_a_stream_of_too_many_topics_is_refused() -> None:
    """Over BRIDGE_MAX_TOPICS the answer is 429 with a Retry-After; a topic named twice counts once."""
    app, extension = make_app(BRIDGE_PUBLIC=True, BRIDGE_MAX_TOPICS=2)
    with app.test_request_context():
        assert extension.stream("a", "b", "a").status_code == 200
        with pytest.raises(TooManyRequests, match="2 topics, not 3") as refused:
            extension.stream("a", "b", "c")
    assert int(refused.value.get_response().headers["Retry-After"]) >= 5


def test_viewers_without_a_known_address_share_no_limit_of_one() -> None:
    """Behind a Unix socket there is no client address, so the limit of one address cannot hold there."""
    app, extension = make_app(BRIDGE_PUBLIC=True, BRIDGE_MAX_VIEWERS_PER_ADDRESS=1)
    with app.test_request_context():
        for _ in range(3):
            assert extension.stream("a").status_code == 200
    with app.test_request_context(environ_base={"REMOTE_ADDR": "192.0.2.1"}):
        assert extension.stream("a").status_code == 200
        with pytest.raises(TooManyRequests):
            extension.stream("a")


def test_a_stream_that_never_began_gives_its_place_back() -> None:
    """A response that is closed before its first chunk, as for a client that has gone, frees its place."""
    app, extension = make_app(BRIDGE_PUBLIC=True, BRIDGE_MAX_VIEWERS=1)
    with app.test_request_context():
        for _ in range(3):
            extension.stream("a").close()
        extension.stream("a")
        with pytest.raises(ServiceUnavailable):
            extension.stream("a")


def test_a_stream_for_which_no_descriptor_is_left_ends_and_comes_back() -> None:
    """A stream that was let in before the limit was reached keeps no thread, but says when to ask again."""
    app, extension = make_app(BRIDGE_PUBLIC=True)
    server, client = socket.socketpair()
    environ = {"gunicorn.socket": server, "SERVER_PROTOCOL": "HTTP/1.1"}
    with server, client, app.test_request_context(environ_overrides=environ):
        first = iter(extension.stream("a").response)
        next(first)  # the loop and the hub have what they need
        response = extension.stream("a")
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        last = os.dup(server.fileno())
        resource.setrlimit(resource.RLIMIT_NOFILE, (last, limits[1]))
        try:
            text = b"".join(response.iter_encoded()).decode()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(last)
        response.close()
        assert 5000 <= int(re.findall(r"retry: (\d+)", text)[-1]) <= 15000
        assert extension.stats()["viewers"] == 1
        assert extension.why_plain() is None


def test_an_app_without_the_extension_says_what_to_call() -> None:
    """Streaming from an app that was never initialised names init_app."""
    app, extension = Flask(__name__), Bridge()
    with app.test_request_context(), pytest.raises(bridge.ConfigurationError, match="init_app"):
        extension.stream("orders")


def test_one_extension_serves_two_apps() -> None:
    """Each app that was initialised with the extension has a channel of its own."""
    extension = Bridge()
    apps = [Flask("one"), Flask("two")]
    for app in apps:
        app.config.update(BRIDGE_URL=f"memory://{app.name}", BRIDGE_PUBLIC=True)
        extension.init_app(app)
    say(apps[0].extensions["bridge"].channel, "state", state="STARTED")
    found = []
    for app in apps:
        with app.app_context():
            found.append(len(extension.tasks()))
    assert found == [1, 0]


def listen(address: str, *topics: str) -> httpx.Client:
    return httpx.Client(base_url=address, params={"topic": topics}, timeout=SECONDS, trust_env=False)


@pytest.mark.parametrize("server", SERVERS)
def test_a_stream_works_under_every_server(server: str, valkey: Valkey) -> None:
    """Events arrive as they are published, a stream closes after the end, and who leaves is noticed."""
    namespace = f"under {server}"
    settings = {
        "BRIDGE_URL": valkey.url("redis+pubsub"),
        "BRIDGE_PUBLIC": "true",
        "BRIDGE_HEARTBEAT": "0.1",
        "BRIDGE_NAMESPACE": namespace,
    }
    channel: Any = bridge.connect(valkey.url("redis+pubsub"), namespace=namespace)
    with serving(server, **settings) as address:
        with listen(address, bridge.task_topic("t1")) as client, client.stream("GET", "/stream") as response:
            stream = httpx_sse.EventSource(response).iter_sse()
            assert next(stream).event == "snapshot"
            for number in range(10):
                say(channel, "log", level="info", message=str(number))
                assert next(stream).json()["message"] == str(number)
            say(channel, "state", state="SUCCESS", result=None)
            assert [event.event for event in stream] == ["state", "end"]
        with listen(address, "orders") as client, client.stream("GET", "/stream") as response:
            chunks = response.iter_bytes()
            next(chunks)
            next(chunks)
        eventually(
            lambda: httpx.get(f"{address}/stats", timeout=SECONDS, verify=False).json()["viewers"] == 0
        )
        assert httpx.get(f"{address}/stats").json()["viewers_opened"] == 2
    channel.close()


def test_an_outage_holds_the_viewer_and_resets_it() -> None:
    """With the backend down a stream answers 200 and holds, then goes on; a loss gives a reset."""
    server = Valkey()
    settings = {"BRIDGE_URL": server.url("redis+pubsub"), "BRIDGE_PUBLIC": "true", "BRIDGE_HEARTBEAT": "0.2"}
    with (
        serving("gunicorn gthread", **settings) as address,
        listen(address, bridge.task_topic("t1")) as client,
        client.stream("GET", "/stream") as response,
    ):
        assert response.status_code == 200
        server.start()
        stream = httpx_sse.EventSource(response).iter_sse()
        assert next(stream).event == "snapshot"
        channel: Any = bridge.connect(server.url("redis+pubsub"))
        say(channel, "log", level="info", message="one")
        assert next(stream).event == "log"
        server.kill()
        server.start()
        assert [next(stream).event for _ in range(2)] == ["reset", "snapshot"]
        say(channel, "state", state="SUCCESS")
        assert [event.event for event in stream] == ["state", "end"]
        channel.close()
    server.stop()


def test_a_channel_that_is_closed_ends_its_streams(public: tuple[Flask, Bridge]) -> None:
    """Streams end without an error when the app closes its channel."""
    app, _ = public
    reading = Reading(app, ["orders"])
    reading.chunk()
    app.extensions["bridge"].channel.close()
    assert "".join(reading.rest()).replace(":\n", "") == ""


def test_a_plain_topic_resumes_from_the_position_it_was_told(public: tuple[Flask, Bridge]) -> None:
    """Asked with the word `now`, a stream tells where it is, and nothing after that is missed."""
    app, _ = public
    topic = app.extensions["bridge"].channel.topic("orders").as_producer()
    topic.publish(b"before")
    with Reading(app, ["orders"], **{"Last-Event-ID": "now"}).response as response:
        shown = ""
        for chunk in response.iter_encoded():
            shown += chunk.decode()
            if "event: position" in shown:
                break
    position = re.findall(r"^id: (.*)$", shown, re.MULTILINE)[-1]
    topic.publish(b"missed")
    again = Reading(app, ["orders"], **{"Last-Event-ID": position})
    assert "before" not in again.until("data: missed")
    again.response.close()


def test_the_client_is_served() -> None:
    """The files are below `/bridge`, or where the setting says, or nowhere; and nothing else is."""
    app, _ = make_app()
    asks = app.test_client()
    answer = asks.get("/bridge/bridge.js")
    assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
    assert asks.get("/bridge/bridge.js", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert "immutable" in asks.get(f"/bridge/{bridge.__version__}/fold.js").headers["Cache-Control"]
    assert asks.head("/bridge/bridge.js").content_length == len(answer.data)
    assert asks.get("/bridge/../errors.py").status_code == 404
    assert asks.post("/bridge/bridge.js").status_code == 405
    elsewhere = make_app(BRIDGE_STATIC_PATH="/assets/live/")[0].test_client()
    assert elsewhere.get("/assets/live/bridge.js").data == answer.data
    assert elsewhere.get("/bridge/bridge.js").status_code == 404
    assert make_app(BRIDGE_STATIC_PATH=None)[0].test_client().get("/bridge/bridge.js").status_code == 404
    with pytest.raises(bridge.ConfigurationError, match="BRIDGE_STATIC_PATH"):
        make_app(BRIDGE_STATIC_PATH="bridge")


def test_a_request_that_names_no_topic_is_answered_404(public: tuple[Flask, Bridge]) -> None:
    """A route that takes its topics from the query does not fail where the query names none."""
    answer = public[0].test_client().get("/stream")
    assert (answer.status_code, "at least one topic" in answer.text) == (404, True)
