"""`bridge.django` under real servers, with Django's test clients, and with wrong settings."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.checks import run_checks
from django.http import HttpRequest
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.test.utils import override_settings
from django.urls import reverse
from django.views.decorators.cache import never_cache
from starlette.requests import Request as StarletteRequest

import bridge
import bridge.django
from bridge.channel.transport import transport_of
from bridge.errors import ConfigurationError
from tests import events
from tests.django_app import MIDDLEWARE, SERVERS, async_stream, configure, figures, serving, stream
from tests.listener import SECONDS, Listener
from tests.markdown import block
from tests.processes import ROOT, running
from tests.security.test_cursors import HOSTILE
from tests.servers import Valkey, eventually, free_port

MAY_READ = "tests.django_app.may_read"
MAY_READ_ASYNC = "tests.django_app.may_read_async"


class Server(NamedTuple):
    """A server that runs the project with middleware and `may_read`."""

    kind: str
    address: str
    log: Path
    channel: Any

    def get(self, *topics: str, path: str = "stream", **options: Any) -> httpx.Response:
        """Return the whole answer to a request for a stream."""
        with httpx.Client(trust_env=False, timeout=SECONDS) as client:
            return client.get(f"{self.address}/{path}", params={"topic": topics}, **options)

    def say(self, task: str, kind: str, **fields: Any) -> None:
        transport_of(self.channel).publish(events.make(kind, task, **fields))

    def ask(self, path: str) -> Any:
        """Return the JSON of another view."""
        return httpx.get(f"{self.address}/{path}", timeout=SECONDS, trust_env=False, verify=False).json()

    def errors(self) -> str:
        """Return what the log says beside starting, and requests with their statuses."""
        usual = r"^(INFO: |\[[^]]*\] \[\d+\] \[INFO\]).*\n"
        return re.sub(usual, "", self.log.read_text(), flags=re.MULTILINE)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Server]:
    namespace = uuid.uuid4().hex
    options = {"URL": valkey.url("redis"), "NAMESPACE": namespace, "AUTHORIZE": MAY_READ}
    with (
        bridge.connect(valkey.url("redis"), namespace=namespace) as channel,
        serving(request.param, BRIDGE=options, MIDDLEWARE=MIDDLEWARE) as (address, log),
    ):
        yield Server(request.param, address, log, channel)


@pytest.fixture
def topic() -> str:
    return uuid.uuid4().hex


@pytest.mark.parametrize("path", ["stream", "async"])
def test_a_task_has_one_snapshot_and_one_end_and_then_no_content(server: Server, path: str) -> None:
    """A stream opens with the state so far, and ends after the end; its last id is answered with 204."""
    task = uuid.uuid4().hex
    server.say(task, "state", state="STARTED")
    server.say(task, "progress", current=1, total=2)
    server.say(task, "state", state="SUCCESS", result="done", tags=[task])
    answer = server.get(bridge.task_topic(task), path=path)
    assert re.findall(r"^event: (\w+)", answer.text, re.MULTILINE) == ["snapshot", "end"]
    assert '"current":1' in answer.text
    last_id = re.findall(r"^id: (.+)$", answer.text, re.MULTILINE)[-1]
    again = server.get(bridge.task_topic(task), path=path, headers={"Last-Event-ID": last_id})
    assert (again.status_code, again.content) == (204, b"")
    assert not {"content-type", "content-length", "transfer-encoding"} & set(again.headers)
    found = server.ask(f"task/{task}")["task"]
    assert (found["state"], found["result"]) == ("SUCCESS", "done")
    assert server.ask("tasks")["tasks"][0]["task"] == task
    assert [found["task"] for found in server.ask(f"tasks?tag={task}")["tasks"]] == [task]
    if server.kind != "gunicorn gevent":  # there Django refuses its database to async views
        both = server.ask(f"async-task/{task}?tag={task}")
        assert both["task"]["result"] == both["tasks"][0]["result"] == "done"
        assert len(both["tasks"]) == 1


def test_a_stream_resumes_after_its_last_id(server: Server, topic: str) -> None:
    """What was published meanwhile comes first. A position that nobody knows gives a reset."""
    publish = server.channel.topic(topic).publish
    ids = [publish(b"message %d" % number) for number in range(3)]
    listener = Listener(server.address, f"{topic}&last_event_id={ids[0]}")
    text = listener.until(b"message 2")
    assert b"message 1" in text
    assert b"message 0" not in text
    stranger = f"ffffffff-7-{ids[0].rpartition('-')[2]}"
    lost = Listener(server.address, f"{topic}&last_event_id={stranger}")
    lost.until(b"event: reset")
    for viewer in (listener, lost):
        viewer.socket.close()


REFUSED = [
    (["secret"], 403, "you may not read this topic"),
    (["fine", "secret"], 403, "you may not read this topic"),
    (["a\x01b"], 404, "control characters"),
    ([str(number) for number in range(101)], 429, "100 topics"),
]


@pytest.mark.parametrize("path", ["stream", "async"])
@pytest.mark.parametrize(("topics", "status", "says"), REFUSED)
def test_a_request_that_may_not_read_is_refused(
    server: Server, path: str, topics: list[str], status: int, says: str
) -> None:
    """The status is that of the other frameworks, and the body says why."""
    answer = server.get(*topics, path=path)
    assert answer.status_code == status
    assert says in answer.json()["detail"]
    assert ("retry-after" in answer.headers) == (status == 429)


@pytest.mark.parametrize("path", ["stream", "async", "task/secret", "async-task/secret", "task/a%01b"])
def test_what_authorize_raises_is_the_answer(server: Server, path: str) -> None:
    """Django answers its PermissionDenied with 403, and a bad id of a task with 404."""
    if path.startswith("async-task") and server.kind == "gunicorn gevent":
        return  # there Django refuses its database to async views
    status = 404 if "%01" in path else 403
    assert server.get("raises", path=path).status_code == status


@pytest.mark.parametrize("path", ["stream", "async"])
def test_a_head_request_gets_the_head_alone(server: Server, path: str) -> None:
    """HEAD has the headers of a stream and opens none; a topic that may not be read is refused."""
    before = figures(server.address)["viewers_opened"]
    with httpx.Client(trust_env=False) as client:
        answer = client.head(f"{server.address}/{path}?topic=fine")
        assert client.head(f"{server.address}/{path}?topic=secret").status_code == 403
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert "content-length" not in answer.headers
    assert figures(server.address)["viewers_opened"] == before


@pytest.mark.parametrize("path", ["stream", "async"])
def test_middleware_neither_compresses_nor_holds_back(server: Server, topic: str, path: str) -> None:
    """The cookie and the headers of middleware arrive; no encoding, no length; the connection is taken."""
    before = figures(server.address)["viewers_handed_over"]
    with (
        httpx.Client(trust_env=False, timeout=SECONDS, headers={"Accept-Encoding": "gzip, br"}) as client,
        client.stream("GET", f"{server.address}/{path}?topic={topic}") as answer,
    ):
        assert ("sessionid" in answer.cookies) == (path == "stream")
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cache-control"] == "no-cache, no-transform"
        assert answer.headers["x-accel-buffering"] == "no"
        assert not {"content-encoding", "content-length", "etag"} & set(answer.headers)
        eventually(lambda: figures(server.address)["viewers_handed_over"] == before + 1, SECONDS)
        server.channel.topic(topic).publish(b"small")
        assert "data: small" in answer.iter_lines()
    assert figures(server.address)["plain"] == ""


def test_one_worker_serves_many_viewers_and_other_requests(server: Server, topic: str) -> None:
    """50 streams get every message while the worker answers; it notices who leaves, and logs nothing."""
    eventually(lambda: figures(server.address)["viewers"] == 0, SECONDS)
    before, errors = figures(server.address)["viewers_handed_over"], server.errors()
    listeners = [Listener(server.address, topic) for _ in range(50)]
    for listener in listeners:
        listener.until(b"retry: ")
    eventually(lambda: figures(server.address)["viewers_handed_over"] == before + 50, SECONDS)
    for number in range(10):
        server.channel.topic(topic).publish(b"message %d." % number)
        assert figures(server.address)["viewers"] == 50
    for listener in listeners:
        text = listener.until(b"message 9.")
        assert re.findall(rb"message (\d+)\.", text) == [b"%d" % number for number in range(10)]
        listener.socket.close()
    eventually(lambda: figures(server.address)["viewers"] == figures(server.address)["subscriptions"] == 0)
    assert server.errors() == errors


PAIRS = ("gunicorn sync", "uvicorn asgi")


@pytest.mark.parametrize(
    ("kind", "limit", "status"),
    [
        ("gunicorn sync", {"MAX_VIEWERS": 3}, 503),
        ("uvicorn asgi", {"MAX_VIEWERS": 3}, 503),
        ("uvicorn asgi", {"MAX_VIEWERS_PER_ADDRESS": 3}, 429),
    ],
)
def test_a_viewer_over_a_limit_is_refused_until_another_leaves(
    valkey: Valkey, topic: str, kind: str, limit: dict[str, int], status: int
) -> None:
    """A refused stream has a Retry-After. One line of the log tells of all, and Django logs none."""
    options = {"URL": valkey.url("redis"), "PUBLIC": True, **limit}
    with serving(kind, BRIDGE=options, MIDDLEWARE=MIDDLEWARE) as (address, log):
        listeners = [Listener(address, topic) for _ in range(3)]
        for listener in listeners:
            listener.until(b"retry: ")
        for path in ("stream", "async", "stream"):
            refused = httpx.get(f"{address}/{path}?topic={topic}", trust_env=False, verify=False)
            assert refused.status_code == status
            assert 5 <= int(refused.headers["Retry-After"]) <= 15
            assert "detail" in refused.json()
        listeners.pop().socket.close()
        eventually(lambda: figures(address)["viewers"] == 2, SECONDS)
        listeners.append(Listener(address, topic))
        listeners[-1].until(b"retry: ")
        assert len(re.findall("a stream was refused", log.read_text())) == 1
        assert not re.search("^(Service Unavailable|Too Many Requests)", log.read_text(), re.MULTILINE)


@pytest.mark.parametrize("kind", [*SERVERS, "uvicorn bare"])
def test_sigterm_ends_every_stream_properly(valkey: Valkey, topic: str, kind: str) -> None:
    """Within moments of SIGTERM each stream gets a retry of its own, and its end."""
    with serving(kind, BRIDGE={"URL": valkey.url("redis"), "PUBLIC": True}) as (address, log):
        listeners = [Listener(address, topic) for _ in range(10)]
        for listener in listeners:
            listener.until(b"retry: ")
        if kind != "uvicorn bare":
            eventually(lambda: figures(address)["viewers_handed_over"] == 10, SECONDS)
        about = figures(address)
        os.kill(about["pid"] if "uvicorn" in kind else about["parent"], signal.SIGTERM)
        started = time.monotonic()
        for listener in listeners:
            assert listener.rest().endswith(b"0\r\n\r\n")
        assert time.monotonic() - started < 3
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("kind", ["gunicorn hidden", "uvicorn bare"])
def test_a_stream_that_is_not_taken_over_holds_no_database_connection(
    valkey: Valkey, topic: str, tmp_path: Path, kind: str
) -> None:
    """It gets every message, notices who leaves, and is one line of the log, whatever their number."""
    options = {"URL": valkey.url("redis"), "AUTHORIZE": MAY_READ}
    with (
        bridge.connect(valkey.url("redis")) as channel,
        serving(kind, database=tmp_path / "db", BRIDGE=options, MIDDLEWARE=MIDDLEWARE) as (address, log),
    ):
        listeners = [Listener(address, topic) for _ in range(5)]
        for listener in listeners:
            listener.until(b"retry: ")
        eventually(lambda: (figures(address)["viewers"], figures(address)["database"]) == (5, 0), SECONDS)
        channel.topic(topic).publish(b"one")
        for listener in listeners:
            listener.until(b"data: one")
            listener.socket.close()
        if kind == "gunicorn hidden":  # the server notices with the next chunks
            for _ in range(3):
                channel.topic(topic).publish(b"two")
                time.sleep(0.1)
        eventually(lambda: figures(address)["viewers"] == 0, SECONDS)
        assert figures(address)["plain"] in log.read_text()
        assert log.read_text().count("connections cannot be taken over") == 1
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("kind", ["gunicorn gthread", "uvicorn asgi"])
def test_a_middleware_that_changes_the_body_is_obeyed(valkey: Valkey, topic: str, kind: str) -> None:
    """The stream stays with the server and comes through it; a client that does not read is cut off."""
    options = {"URL": valkey.url("redis"), "PUBLIC": True, "VIEWER_BACKLOG": 100_000}
    with (
        bridge.connect(valkey.url("redis")) as channel,
        serving(kind, BRIDGE=options, MIDDLEWARE=["tests.django_app.shouting"]) as (address, log),
    ):
        reading, stuck = Listener(address, topic), Listener(address, topic, receive_buffer=4096)
        for listener in (reading, stuck):
            listener.until(b"RETRY: ")
        eventually(lambda: "rewrites the body" in figures(address)["plain"], SECONDS)
        number = 0
        while not figures(address)["viewers_cut_off"]:
            number += 1
            assert number < 500
            channel.topic(topic).publish(b"<%d>" % number + b"x" * 50_000)
            reading.until(b"<%d>" % number)
        reading.until(b"X" * 1000)
        if "asgi" in kind:
            with pytest.raises((AssertionError, ConnectionError)):
                stuck.until(b"never")
        assert figures(address)["viewers"] == 1
        assert "Traceback" not in log.read_text()


@pytest.mark.parametrize("kind", PAIRS)
def test_an_async_authorize_decides_for_async_views(valkey: Valkey, topic: str, kind: str) -> None:
    """Under ASGI it decides for plain views too; under WSGI these answer 500, and the log says why."""
    options = {"URL": valkey.url("redis"), "AUTHORIZE": MAY_READ_ASYNC}
    with serving(kind, BRIDGE=options) as (address, log):
        Listener(address, topic).until(b"HTTP/1.1 200" if "asgi" in kind else b"HTTP/1.1 500")
        for path, status in (("async", 403), ("stream", 403 if "asgi" in kind else 500)):
            answer = httpx.get(f"{address}/{path}?topic=secret", trust_env=False, verify=False)
            assert answer.status_code == status
        with httpx.stream("GET", f"{address}/async?topic={topic}", trust_env=False) as opened:
            assert next(opened.iter_text()).startswith("retry: ")
        assert ("use a plain function" in log.read_text()) == ("asgi" not in kind)
        assert "never awaited" not in log.read_text()


# In this process, with Django's test clients.


@pytest.fixture(autouse=True, scope="module")
def project() -> None:
    if not settings.configured:
        configure()


@pytest.fixture
def memory() -> Iterator[Callable[..., None]]:
    """Overrides `settings.BRIDGE`; what it opened is closed at the end."""
    overridden = []

    def override(**options: Any) -> None:
        options = {"URL": f"memory://{uuid.uuid4().hex}", **options}
        overridden.append(override_settings(BRIDGE=options))
        overridden[-1].enable()

    yield override
    for one in reversed(overridden):
        one.disable()


@pytest.mark.parametrize("path", ["/stream", "/async"])
def test_the_test_client_reads_a_stream(memory: Callable[..., None], path: str) -> None:
    """A test of a user's project gets the chunks as they come, from a plain and from an async view."""
    memory(AUTHORIZE=MAY_READ)
    with override_settings(MIDDLEWARE=MIDDLEWARE):
        response: Any = Client().get(path, {"topic": "orders"})
        assert (response.status_code, response.is_async) == (200, False)
        chunks = iter(response.streaming_content)
        assert next(chunks).startswith(b"retry: ")
        bridge.django.channel().topic("orders").publish(b"one")
        assert b"data: one" in next(chunks)
        assert bridge.django.stats()["viewers"] == 1
        response.close()
        assert bridge.django.stats()["viewers"] == 0
        assert Client().get(path, {"topic": "secret"}).status_code == 403


@pytest.mark.parametrize("path", ["/stream", "/async"])
def test_the_async_test_client_reads_a_stream(memory: Callable[..., None], path: str) -> None:
    """Under ASGI the chunks are asynchronous, also those of a plain view."""
    memory(AUTHORIZE=MAY_READ)

    async def read() -> None:
        response: Any = await AsyncClient().get(path, {"topic": "orders"})
        assert (response.status_code, response.is_async) == (200, True)
        chunks = aiter(response.streaming_content)
        assert (await anext(chunks)).startswith(b"retry: ")
        bridge.django.channel().topic("orders").publish(b"one")
        assert b"data: one" in await anext(chunks)
        await chunks.aclose()
        assert (await AsyncClient().get(path, {"topic": "secret"})).status_code == 403

    asyncio.run(read())


def test_streams_end_before_the_server_may_end_the_process(memory: Callable[..., None]) -> None:
    """The wrapper answers the lifespan, which Django does not know, and ends all streams on shutdown."""
    memory(PUBLIC=True)
    told = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    answers = []

    async def receive() -> dict[str, Any]:
        return told.pop(0)

    async def send(message: Any) -> None:
        answers.append((message["type"], bridge.django.stats()["viewers"]))

    async def serve() -> list[bytes]:
        response: Any = await AsyncClient().get("/async", {"topic": "orders"})
        chunks = aiter(response.streaming_content)
        opened = [await anext(chunks)]

        async def read() -> list[bytes]:
            return opened + [chunk async for chunk in chunks]

        reading = asyncio.create_task(read())
        await bridge.django.wrap(get_asgi_application())({"type": "lifespan"}, receive, send)
        return await asyncio.wait_for(reading, SECONDS)

    chunks = asyncio.run(serve())
    assert answers == [("lifespan.startup.complete", 1), ("lifespan.shutdown.complete", 0)]
    assert [chunk.startswith(b"retry: ") for chunk in chunks] == [True, True]


def test_an_async_view_keeps_what_decorators_add(memory: Callable[..., None]) -> None:
    """Headers and cookies that were set before the decision are those of the answer."""
    memory(AUTHORIZE=MAY_READ)

    @never_cache  # type: ignore[untyped-decorator]  # Django has no types
    async def view(request: HttpRequest) -> Any:
        response = await async_stream(request)
        response.set_cookie("seen", "yes")
        return response

    async def ask(topic: str) -> Any:
        deferred = await view(AsyncRequestFactory().get("/async", {"topic": topic}))
        return await asyncio.to_thread(deferred.render)

    for topic, status in (("orders", 200), ("secret", 403)):
        response = asyncio.run(ask(topic))
        assert (response.status_code, response.cookies["seen"].value) == (status, "yes")
        assert "Expires" in response.headers
        response.close()


def test_an_async_view_must_not_wait_for_a_snapshot(memory: Callable[..., None]) -> None:
    """`task`, `tasks` and `ping` say so in an event loop, as Django's database does."""
    memory(PUBLIC=True)

    async def call(function: Callable[..., Any], *arguments: Any) -> None:
        function(*arguments)

    request = RequestFactory().get("/")
    for function, arguments in (
        (bridge.django.task, (request, "1")),
        (bridge.django.tasks, (request,)),
        (bridge.django.ping, ()),
    ):
        with pytest.raises(Exception, match="async context"):
            asyncio.run(call(function, *arguments))


def test_without_a_decision_nobody_may_read(
    memory: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """The answer is 403, and the log says how to allow reading."""
    memory()
    with caplog.at_level(logging.ERROR, "bridge"):
        assert Client().get("/stream", {"topic": "orders"}).status_code == 403
    assert 'Set BRIDGE["AUTHORIZE"] to the dotted path' in caplog.text
    (warning,) = run_checks()
    assert warning.id == "bridge.W001"


def test_a_view_that_names_no_topic_or_no_request(memory: Callable[..., None]) -> None:
    """The error says what is missing."""
    memory(PUBLIC=True)
    with pytest.raises(ValueError, match="at least one topic"):
        bridge.django.stream(RequestFactory().get("/"))
    with pytest.raises(ConfigurationError, match="the request of a Django view first, not str"):
        bridge.django.stream("orders", "orders")
    with pytest.raises(ConfigurationError, match="not Request"):
        bridge.django.stream(StarletteRequest({"type": "http"}), "orders")


@pytest.mark.parametrize("path", ["/stream", "/async"])
def test_what_is_no_cursor_begins_anew(memory: Callable[..., None], path: str) -> None:
    """Whatever a stranger sends as an id, a task opens with a reset and a snapshot."""
    memory(PUBLIC=True)
    transport_of(bridge.django.channel()).publish(events.make("state", "t1", state="SUCCESS"))
    for cursor in HOSTILE:
        for query, headers in (({}, {"Last-Event-ID": cursor}), ({"last_event_id": cursor}, {})):
            response: Any = Client().get(path, {"topic": "task:t1", **query}, headers=headers)
            text = b"".join(response.streaming_content).decode()
            found = re.findall("^event: (.*)$", text, re.MULTILINE)
            assert (response.status_code, found) == (200, ["reset", "snapshot", "end"]), cursor
    assert bridge.django.stats()["viewers"] == 0


def failing(request: HttpRequest, topic: str) -> bool:
    """An AUTHORIZE that raises what the topic names."""
    raise {"StopIteration": StopIteration, "TimeoutError": TimeoutError, "KeyError": KeyError}[topic]


@pytest.mark.parametrize("topic", ["StopIteration", "TimeoutError", "KeyError"])
@pytest.mark.parametrize("path", ["/stream", "/async"])
def test_an_error_of_authorize_is_a_fault_of_the_server(
    memory: Callable[..., None], path: str, topic: str
) -> None:
    """The answer is 500 at once, under WSGI and ASGI; nothing waits, and nothing is counted."""
    memory(AUTHORIZE=f"{__name__}.failing")

    async def ask() -> int:
        status: int = (
            await AsyncClient(raise_request_exception=False).get(path, {"topic": topic})
        ).status_code
        return status

    response: Any = Client(raise_request_exception=False).get(path, {"topic": topic})
    assert response.status_code == 500
    assert asyncio.run(asyncio.wait_for(ask(), 20)) == 500
    assert bridge.django.stats()["viewers_opened"] == 0


@pytest.mark.parametrize("path", ["/posted", "/async-posted"])
def test_a_body_that_was_read_does_not_matter(memory: Callable[..., None], path: str) -> None:
    """A view may read the body of its request before it streams."""
    memory(PUBLIC=True)
    transport_of(bridge.django.channel()).publish(events.make("state", "t1", state="SUCCESS"))

    async def ask() -> str:
        response: Any = await AsyncClient().post(path, "task:t1", content_type="text/plain")
        return b"".join([chunk async for chunk in response.streaming_content]).decode()

    response: Any = Client().post(path, "task:t1", content_type="text/plain")
    assert b"".join(response.streaming_content).count(b"event: end\n") == 1
    assert asyncio.run(asyncio.wait_for(ask(), 20)).count("event: end\n") == 1


def generator(request: HttpRequest, topic: str) -> Any:
    """A function that decides nothing, because of its `yield`."""
    yield False


def test_a_generator_is_no_decision(memory: Callable[..., None]) -> None:
    """A generator is true too."""
    memory(AUTHORIZE=f"{__name__}.generator")
    with pytest.raises(ConfigurationError, match="return the decision"):
        stream(RequestFactory().get("/stream", {"topic": "orders"}))


def coroutine_of(request: HttpRequest, topic: str) -> Any:
    """A plain function that returns a coroutine."""

    async def decide() -> bool:
        return True

    return decide()


def test_a_plain_view_refuses_a_coroutine_as_a_decision(memory: Callable[..., None]) -> None:
    """A coroutine is true, but nothing has decided."""
    memory(AUTHORIZE=f"{__name__}.coroutine_of")
    for call in (stream, lambda request: bridge.django.task(request, "1")):
        with pytest.raises(ConfigurationError, match="use a plain function"):
            call(RequestFactory().get("/stream", {"topic": "orders"}))


WRONG = [
    (None, "bridge.E001", "set BRIDGE in the settings"),
    ("redis://localhost", "bridge.E001", "must be a dict such as .* not str"),
    ({1: "memory://"}, "bridge.E001", "must be a dict"),
    ({"PUBLIC": True}, "bridge.E002", r'set BRIDGE\["URL"\]'),
    ({"URL": "memory://", "PUBLIC": True, "AUTHORISE": ""}, "bridge.E002", "unknown .*AUTHORISE.*AUTHORIZE"),
    ({"URL": "carrier://pigeon", "PUBLIC": True}, "bridge.E002", "carrier"),
    ({"URL": "memory://", "PUBLIC": True, "HEARTBEAT": -1}, "bridge.E002", "HEARTBEAT must be seconds above"),
    ({"URL": "memory://", "PUBLIC": True, "TIMEOUT": "soon"}, "bridge.E002", "timeout must be"),
    ({"URL": "memory://", "AUTHORIZE": "no.such"}, "bridge.E003", "cannot be imported: No module named 'no'"),
    ({"URL": "memory://", "AUTHORIZE": "json.nothing"}, "bridge.E003", "cannot be imported"),
    ({"URL": "memory://", "AUTHORIZE": "os.sep"}, "bridge.E003", "dotted path of a function, not 'os.sep'"),
    ({"URL": "memory://", "AUTHORIZE": "os.getpid"}, "bridge.E003", "must take a request and a topic"),
]


@pytest.mark.parametrize(("options", "check", "says"), WRONG)
def test_wrong_settings_are_found_by_the_checks_and_at_the_first_use(
    options: Any, check: str, says: str
) -> None:
    """`manage.py check` finds each mistake; without it the first request raises the same error."""
    with override_settings(BRIDGE=options):
        (found,) = run_checks()
        assert found.id == check
        assert re.search(says, found.msg)
        with pytest.raises((ConfigurationError, ValueError), match=says):
            bridge.django.stats()


def test_without_a_project_the_error_says_so() -> None:
    """Outside Django, importing works and the first use raises `ConfigurationError`."""
    code = (
        "import bridge, bridge.django\n"
        "try: bridge.django.stats()\n"
        "except bridge.ConfigurationError as error: print(error)"
    )
    env = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert "works in a Django project only" in done.stdout


WSGI_FILE = """
from django.core.wsgi import get_wsgi_application

application = get_wsgi_application()
"""

ENVIRONMENT = """
SECRET_KEY = "a test"
ALLOWED_HOSTS = ["*"]
ROOT_URLCONF = "jobs"
"""


@pytest.mark.parametrize("interface", ["wsgi", "asgi"])
def test_the_example_of_the_guide_streams_a_task(own_valkey: Valkey, tmp_path: Path, interface: str) -> None:
    """The settings, the view and the ASGI application stand as they are in the guide."""
    settings_file = block("docs/guide.md", 'INSTALLED_APPS = ["bridge.django"]')
    url = f"redis://localhost:{own_valkey.port}/0"
    files = {
        "settings.py": ENVIRONMENT + settings_file.replace("redis://localhost:6379/0", url),
        "jobs.py": block("docs/guide.md", "from bridge import task_topic\n"),
        "wsgi.py": WSGI_FILE,
        "asgi.py": block("docs/guide.md", "from bridge.django import wrap\n"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    port = free_port()
    served = f"{interface}:application"
    gunicorn = ["gunicorn", "--no-control-socket", "-b", f"127.0.0.1:{port}", served]
    server = gunicorn if interface == "wsgi" else ["uvicorn", "--port", str(port), served]
    env = {"DJANGO_SETTINGS_MODULE": "settings", "PYTHONPATH": str(ROOT)}
    checked = subprocess.run(
        [sys.executable, "-m", "django", "check"],
        cwd=tmp_path,
        env={**os.environ, **env, "PYTHONPATH": f"{ROOT}:{tmp_path}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no issues" in checked.stdout
    with bridge.connect(url) as channel:
        for state in ("STARTED", "SUCCESS"):
            transport_of(channel).publish(events.make("state", "7", state=state))
        with running([sys.executable, "-m", *server], cwd=tmp_path, env=env) as log:
            address = f"http://127.0.0.1:{port}/jobs/7/events"

            def streamed() -> str:
                try:
                    return httpx.get(address, trust_env=False, verify=False, timeout=SECONDS).text
                except httpx.ConnectError:
                    return ""

            eventually(
                lambda: re.findall(r"^event: (\w+)", streamed(), re.MULTILINE) == ["snapshot", "end"], SECONDS
            )
            assert "cannot be taken over" not in log.read_text()


def test_the_client_is_served() -> None:
    """`include("bridge.django.urls")` serves the files of the browser client, and nothing else."""
    asks = Client()
    answer: Any = asks.get("/bridge/bridge.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    same: Any = asks.get("/bridge/bridge.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    versioned: Any = asks.get(reverse("bridge:client", args=[f"{bridge.__version__}/fold.js"]))
    assert "immutable" in versioned.headers["Cache-Control"]
    assert asks.head("/bridge/bridge.js").status_code == 200
    assert asks.post("/bridge/bridge.js").status_code == 405
    for path in ("/bridge/", "/bridge/urls.py", "/bridge/../django_app.py", "/bridge/x/bridge.js"):
        assert asks.get(path).status_code == 404
