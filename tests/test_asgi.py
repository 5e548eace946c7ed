"""The ASGI adapter: who may read, what a stream answers, and what an application is told."""

import asyncio
import json
import re
import threading
import uuid
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Coroutine
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI, HTTPException
from flask import Flask
from starlette.applications import Starlette
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket

import bridge
import bridge.asgi
from bridge.asgi import Bridge, StreamResponse
from bridge.channel.transport import transport_of
from bridge.flask import Bridge as FlaskBridge
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send
from tests import events
from tests.security.test_cursors import HOSTILE

LOG_IN = HTTPException(401, "log in first", {"WWW-Authenticate": "Bearer"})


def make_app(authorize: Any = None, **options: Any) -> tuple[Starlette, Bridge]:
    """Return an app with a route for streams and two for snapshots, on a memory channel of its own."""
    streams = Bridge(f"memory://{uuid.uuid4().hex}", authorize=authorize, **options)

    async def stream(request: Request) -> Response:
        return streams.stream(*request.query_params.getlist("topic"))

    async def task(request: Request) -> Response:
        return JSONResponse(await streams.task(request.path_params["id"]))

    async def tasks(request: Request) -> Response:
        return JSONResponse(await streams.tasks())

    async def posted(request: Request) -> Response:
        body = await request.body()
        return streams.stream(body.decode())

    routes: list[BaseRoute] = [
        *(Route("/stream", stream), Route("/task/{id:path}", task), Route("/tasks", tasks)),
        Route("/posted", posted, methods=["POST"]),
    ]
    app = FastAPI(routes=routes)  # it answers an HTTPException as FastAPI does
    streams.install(app)
    return app, streams


def say(channel: Any, kind: str, task: str = "t1", **fields: Any) -> None:
    transport_of(channel).publish(events.make(kind, task, **fields))


def ended(streams: Bridge, *tasks: str) -> None:
    """Publish a task that has ended."""
    for task in tasks or ("t1",):
        say(streams.channel, "state", task, state="STARTED", name="convert")
        say(streams.channel, "log", task, message="half way")
        say(streams.channel, "state", task, state="SUCCESS")


def client(app: Any) -> TestClient:
    return TestClient(app, raise_server_exceptions=False)


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 10))


async def viewers_are_gone(streams: Bridge) -> None:
    """Wait until the thread of the loop has counted out the viewers that have left."""
    counted = threading.Event()
    streams._service.loop.thread.do(counted.set)
    assert await asyncio.to_thread(counted.wait, 10)


# Who may read.


def test_without_a_decision_reading_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    """With neither authorize nor public nothing is shown, and the log says how to allow it."""
    app, _ = make_app()
    for path in ("/stream?topic=orders", "/task/t1", "/tasks"):
        answer = client(app).get(path)
        assert (answer.status_code, "log" in answer.json()["detail"]) == (403, True)
    assert "authorize=" in caplog.text
    assert "public=True" in caplog.text


@pytest.mark.parametrize("value", [False, "True", 1, None])
def test_only_true_makes_streams_public(value: Any) -> None:
    """A value that looks like True decides nothing."""
    app, _ = make_app(public=value)
    assert client(app).get("/stream?topic=orders").status_code == 403


def plain(request: Request, topic: str) -> bool:
    assert request.headers["user-agent"] == "testclient"
    return topic in ("task:t1", "tasks") and request.query_params.get("user") == "ann"


async def asynchronous(request: Request, topic: str) -> bool:
    await asyncio.sleep(0)
    return plain(request, topic)


def returning_a_coroutine(request: Request, topic: str) -> Coroutine[Any, Any, bool]:
    return asynchronous(request, topic)


class Decider:
    async def __call__(self, request: Request, topic: str) -> bool:
        return await asynchronous(request, topic)

    def method(self, request: Request, topic: str) -> bool:
        return plain(request, topic)


DECIDERS = [
    *(plain, asynchronous, returning_a_coroutine, Decider(), Decider().method),
    *(partial(plain), partial(asynchronous)),
]


@pytest.mark.parametrize(
    "authorize", DECIDERS, ids=lambda value: getattr(value, "__name__", repr(type(value)))
)
def test_authorize_decides_with_the_request(authorize: Any) -> None:
    """A plain or coroutine function, or an object: asked with the request, for streams and snapshots."""
    app, streams = make_app(authorize, public=True)
    ended(streams)
    for path, allowed in {"/stream?topic=task:t1&": 200, "/task/t1?": 200, "/tasks?": 200}.items():
        assert client(app).get(f"{path}user=ann").status_code == allowed
        assert client(app).get(f"{path}user=bob").status_code == 403
    assert client(app).get("/stream?topic=task:t1&topic=task:t2&user=ann").status_code == 403
    assert client(app).get("/task/t2?user=ann").status_code == 403
    assert streams.stats()["viewers"] == 0


def test_the_decorator_registers_the_function() -> None:
    """`authorize` returns the function, and asks it."""
    app, streams = make_app()
    assert streams.authorize(plain) is plain
    ended(streams)
    assert client(app).get("/stream?topic=task:t1&user=ann").status_code == 200


@pytest.mark.parametrize("path", ["/stream?topic=task:t1", "/task/t1"])
@pytest.mark.parametrize(
    ("error", "status"),
    [(LOG_IN, 401), (ZeroDivisionError(), 500), (StopIteration(), 500), (TimeoutError(), 500)],
    ids=lambda value: str(type(value)),
)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_an_error_of_authorize_is_the_answer(kind: str, error: Exception, status: int, path: str) -> None:
    """An HTTPException is answered as such, another error with 500; nothing waits, and nothing is counted."""

    def authorize(request: Request, topic: str) -> bool:
        raise error

    async def authorize_later(request: Request, topic: str) -> bool:
        raise error

    app, streams = make_app(authorize if kind == "plain" else authorize_later)
    answer = client(app).get(path)
    assert answer.status_code == status
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)
    assert streams.stats()["viewers_opened"] == 0


def generator(request: Request, topic: str) -> Any:
    yield True


async def asynchronous_generator(request: Request, topic: str) -> Any:
    yield True


@pytest.mark.parametrize("authorize", [generator, asynchronous_generator])
def test_a_generator_is_no_decision(authorize: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A generator is true, but nothing has decided: 500 here, and an error in Flask."""
    app, streams = make_app(authorize)
    with pytest.raises(bridge.ConfigurationError, match="return the decision"):
        TestClient(app).get("/stream?topic=orders")
    assert client(app).get("/task/t1").status_code == 500
    assert streams.stats()["viewers_opened"] == 0
    flask = Flask(__name__)
    flask.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}")
    extension = FlaskBridge(flask)
    extension.authorize(partial(authorize, None))
    with flask.test_request_context(), pytest.raises(bridge.ConfigurationError, match="return the decision"):
        extension.stream("orders")


def test_flask_refuses_a_coroutine_of_a_plain_function(recwarn: pytest.WarningsRecorder) -> None:
    """A function that returns a coroutine of another one allows nothing either."""
    app = Flask(__name__)
    app.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}", BRIDGE_PUBLIC=True)
    extension = FlaskBridge(app)
    extension.authorize(partial(returning_a_coroutine, None))  # type: ignore[arg-type]  # wrong on purpose
    with app.test_request_context():
        for ask in (lambda: extension.stream("orders"), extension.tasks, lambda: extension.task("t1")):
            with pytest.raises(bridge.ConfigurationError, match="plain function"):
                ask()
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


def test_authorize_cannot_wait_for_a_body() -> None:
    """The body is the route's: an authorize that reads it fails, instead of waiting for ever."""

    async def authorize(request: Request, topic: str) -> bool:
        return await request.body() == b"secret"

    app, _ = make_app(authorize)
    assert client(app).post("/posted", content="orders").status_code == 500


def test_outside_of_a_request_nobody_can_decide() -> None:
    """`task` and `tasks` work there without authorize, and name install() with one."""

    async def main() -> None:
        _, public = make_app(public=True)
        ended(public)
        snapshot = await public.task("t1")
        assert snapshot is not None
        assert snapshot["state"] == "SUCCESS"
        assert [task["task"] for task in await public.tasks()] == ["t1"]
        say(public.channel, "state", "t3", state="STARTED", tags=["user:42"])
        assert [task["task"] for task in await public.tasks(tag="user:42")] == ["t3"]
        assert await public.tasks(tag="user:4") == []
        assert await public.task("t2") is None
        await public.ping()
        _, private = make_app(plain)
        for asked in (private.task("t1"), private.tasks(), private.tasks(tag="user:42")):
            with pytest.raises(bridge.ConfigurationError, match="install"):
                await asked

    run(main)


def test_flask_refuses_an_asynchronous_decision(recwarn: pytest.WarningsRecorder) -> None:
    """In Flask nothing would await it: a clear error, not a stream for everyone."""
    app = Flask(__name__)
    app.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}")
    extension = FlaskBridge(app)

    @extension.authorize
    async def may_read(topic: str) -> bool:
        return True

    with app.test_request_context(), pytest.raises(bridge.ConfigurationError, match="plain function"):
        extension.stream("orders")
    assert not [warning for warning in recwarn if "never awaited" in str(warning.message)]


# What is answered.


def test_cursors_are_those_of_flask() -> None:
    """A snapshot and an end; 204 after the end; events after an id; a reset; the query counts too; HEAD."""
    app, streams = make_app(public=True)
    ended(streams)
    asks = client(app)
    whole = asks.get("/stream?topic=task:t1")
    assert whole.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert re.findall("^event: (.*)$", whole.text, re.MULTILINE) == ["snapshot", "end"]
    after = asks.get("/stream?topic=task:t1", headers={"Last-Event-ID": "end"})
    also_after = asks.get("/stream?topic=task:t1&last_event_id=end")
    for answer in (after, also_after):
        assert (answer.status_code, answer.content) == (204, b"")
    replayed = asks.get(f"/stream?topic=task:t1&last_event_id={bridge.BEGINNING}").text
    ids = re.findall("^id: (.*)$", replayed, re.MULTILINE)
    resumed = asks.get("/stream?topic=task:t1", headers={"Last-Event-ID": ids[0]}).text
    assert resumed.partition("\n")[2] == replayed.partition("\n\n")[2]
    wrong = asks.get("/stream?topic=task:t1", headers={"Last-Event-ID": "wrong"}).text
    assert re.findall("^event: (.*)$", wrong, re.MULTILINE)[:2] == ["reset", "snapshot"]
    answer = asks.head("/stream?topic=task:t1")
    assert (answer.status_code, answer.content) == (200, b"")
    assert streams.stats()["viewers"] == 0


@pytest.mark.parametrize("way", ["header", "query"])
def test_what_is_no_cursor_begins_anew(way: str) -> None:
    """Whatever a stranger sends as an id, a task opens with a reset and a snapshot."""
    app, streams = make_app(public=True)
    ended(streams)
    with client(app) as asks:
        for cursor in (*HOSTILE, "\udcff\udcfe"):
            text = cursor.encode(errors="surrogateescape")
            if way == "header":
                answer = asks.get("/stream?topic=task:t1", headers={b"Last-Event-ID": text})
            else:
                answer = asks.get(f"/stream?topic=task:t1&last_event_id={quote(text)}")
            found = re.findall("^event: (.*)$", answer.text, re.MULTILINE)
            assert (answer.status_code, found) == (200, ["reset", "snapshot", "end"]), cursor
    assert streams.stats()["viewers"] == 0


def test_a_bad_topic_is_not_found() -> None:
    """The name of a topic may be a part of the URL; no topic, and one that is no text, are a fault."""
    app, streams = make_app(public=True)
    assert client(app).get("/stream?topic=a%00b").status_code == 404
    assert client(app).get("/stream?topic=").status_code == 404
    assert client(app).get("/task/a%00b").status_code == 404
    assert client(app).get("/stream").status_code == 500
    with pytest.raises(ValueError, match="at least one topic"):
        streams.stream()


@pytest.mark.parametrize(
    ("limit", "status"), [({"max_viewers": 2}, 503), ({"max_viewers_per_address": 2}, 429)]
)
def test_a_viewer_over_a_limit_is_refused(
    limit: dict[str, int], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The third stream is refused, with a Retry-After; its place is free when one leaves."""

    async def main() -> None:
        app, streams = make_app(public=True, heartbeat=0.1, **limit)
        left = asyncio.Event()

        async def receive() -> Message:
            await left.wait()
            return {"type": "http.disconnect"}

        async def discard(message: Message) -> None:
            pass

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/stream",
            "query_string": b"topic=orders",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "http_version": "1.1",
        }
        open_streams = [asyncio.ensure_future(app(dict(scope), receive, discard)) for _ in range(2)]
        while streams.stats()["viewers"] < 2:
            await asyncio.sleep(0.01)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as asks:
            for _ in range(2):
                answer = await asks.get("/stream?topic=orders")
                assert answer.status_code == status
                assert 5 <= int(answer.headers["Retry-After"]) <= 15
                assert "try again later" in answer.json()["detail"]
            left.set()
            await asyncio.wait(open_streams)
            await viewers_are_gone(streams)
            ended(streams)
            assert (await asks.get("/stream?topic=task:t1")).status_code == 200
        assert streams.stats()["viewers_refused"] == 2

    run(main)
    assert caplog.text.count("a stream was refused") == 1


def test_too_many_topics_are_refused() -> None:
    """More than `max_topics` are 429 with a Retry-After."""
    app, _ = make_app(public=True, max_topics=2)
    answer = client(app).get("/stream?topic=a&topic=b&topic=c")
    assert (answer.status_code, "Retry-After" in answer.headers) == (429, True)


@pytest.mark.parametrize("transport", ["TestClient", "ASGITransport", "gzip"])
def test_clients_in_the_process_get_the_bytes_of_flask(transport: str) -> None:
    """Without a server, the stream is that of the Flask extension, byte for byte."""
    app, streams = make_app(public=True)
    ended(streams, "t1", "t2")
    query = f"topic=task:t1&topic=task:t2&last_event_id={bridge.BEGINNING}"
    if transport == "gzip":
        app.add_middleware(GZipMiddleware, minimum_size=0)
    if transport == "ASGITransport":

        async def ask() -> bytes:
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as asks:
                return (await asks.get(f"/stream?{query}")).content

        body = asyncio.run(ask())
    else:
        body = client(app).get(f"/stream?{query}").content
    assert streams.why_plain() is not None
    retry, rest = body.split(b"\n", 1)
    assert re.fullmatch(rb"retry: \d+", retry)
    assert rest == from_flask(streams, query)


def from_flask(streams: Bridge, query: str) -> bytes:
    """Return what Flask sends for the same topics of the same channel, without the retry field."""
    app = Flask(__name__)
    app.config.update(BRIDGE_URL="memory://unused", BRIDGE_PUBLIC=True)
    extension = FlaskBridge(app)
    app.extensions["bridge"] = streams._service
    app.add_url_rule("/stream", view_func=lambda: extension.stream("task:t1", "task:t2"))
    body: bytes = app.test_client().get(f"/stream?{query}").data
    return body.partition(b"\n")[2]


def test_a_body_that_was_read_does_not_matter() -> None:
    """A route may read the body of its request before it streams."""
    app, streams = make_app(public=True)
    ended(streams)
    answer = client(app).post("/posted", content="task:t1")
    assert answer.text.count("event: end\n") == 1


def test_headers_cookies_and_background_tasks_are_kept() -> None:
    """What a route adds to the response is sent, and its background task runs."""
    streams = Bridge(f"memory://{uuid.uuid4().hex}", public=True)
    app = FastAPI()
    ran: list[int] = []

    @app.get("/stream")
    def stream(background: BackgroundTasks) -> Response:
        background.add_task(ran.append, 1)
        response = streams.stream("task:t1")
        response.headers["x-own"] = "yes"
        response.set_cookie("seen", "1")
        return response

    ended(streams)
    answer = client(app).get("/stream")
    assert (answer.headers["x-own"], answer.cookies["seen"], ran) == ("yes", "1", [1])


# The application.


def test_a_websocket_gets_a_clear_error_and_snapshots() -> None:
    """A stream is no answer to a WebSocket; the snapshots of a task are there, with the decision."""
    asked = []

    def authorize(connection: Any, topic: str) -> bool:
        asked.append((connection.query_params["user"], topic))
        return True

    streams = Bridge(f"memory://{uuid.uuid4().hex}", authorize=authorize)
    ended(streams)

    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_json(await streams.task("t1"))
        with pytest.raises(bridge.ConfigurationError, match=r"bridge\.aio"):
            await streams.stream("orders")(websocket.scope, websocket.receive, websocket.send)
        await websocket.send_text("refused")
        await websocket.close()

    app = Starlette(routes=[WebSocketRoute("/socket", socket)])
    streams.install(app)
    with client(app).websocket_connect("/socket?user=ann") as connection:
        assert connection.receive_json()["state"] == "SUCCESS"
        assert connection.receive_text() == "refused"
    assert asked == [("ann", "task:t1")]


def test_install_twice_is_like_once() -> None:
    """A second install, and one in a mounted application, change nothing."""
    app, streams = make_app(public=True)
    streams.install(app)
    ended(streams)
    outer = Starlette(routes=[Mount("/inner", app)])
    streams.install(outer)
    with client(outer) as asks:
        assert asks.get("/inner/stream?topic=task:t1").text.count("event: end\n") == 1
    assert streams.stats()["viewers_opened"] == 1


def test_install_on_something_else_or_too_late_is_an_error() -> None:
    """The errors say what to do instead."""
    app, streams = make_app(public=True)
    for wrong in (lambda scope, receive, send: None, Flask("flask"), None):
        with pytest.raises(bridge.ConfigurationError, match="serve what wrap"):
            streams.install(wrong)
    client(app).get("/tasks")
    with pytest.raises(bridge.ConfigurationError, match="too late"):
        streams.install(app)


def test_wrap_serves_an_application_without_framework() -> None:
    """A plain ASGI application returns nothing, and awaits the response itself."""
    streams = Bridge(f"memory://{uuid.uuid4().hex}", authorize=lambda request, topic: topic == "task:t1")
    ended(streams)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/task":
            await JSONResponse(await streams.task("t1"))(scope, receive, send)
        else:
            await streams.stream(scope["path"].removeprefix("/"))(scope, receive, send)

    asks = client(streams.wrap(app))
    assert asks.get("/task:t1").text.count("event: end\n") == 1
    assert asks.get("/task:t2").status_code == 403
    assert asks.get("/task").json()["state"] == "SUCCESS"


def scope_of(path: str) -> Scope:
    return {"type": "http", "http_version": "1.1", "method": "GET", "path": path, "headers": []}


def test_a_framework_may_send_the_response_itself() -> None:
    """The tuple has the body, the status and the headers; a refusal is a tuple too."""
    _, streams = make_app(lambda _, topic: topic == "task:t1")
    ended(streams)

    async def main() -> None:
        body, status, headers = await streams.stream("task:t1").as_tuple(scope_of("/"))
        assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
        assert isinstance(body, AsyncIterable)
        text = b"".join([chunk async for chunk in body]).decode()
        assert re.findall("event: (.*)", text) == ["snapshot", "end"]
        body, status, headers = await streams.stream("task:t2").as_tuple(scope_of("/"))
        assert (status, headers["content-type"]) == (403, "application/json")
        assert isinstance(body, tuple)
        assert json.loads(b"".join(body)) == {"detail": "you may not read this topic"}
        last = {**scope_of("/"), "headers": [(b"last-event-id", b"end")]}
        assert (await streams.stream("task:t1").as_tuple(last))[:2] == ((), 204)

    run(main)
    assert streams.stats()["viewers"] == 0


def test_a_body_that_the_framework_never_sends_leaves_nothing() -> None:
    """A body that is thrown away, also one that was iterated in part, gives its place back."""
    _, streams = make_app(public=True, max_viewers=1)

    async def main() -> None:
        for first in (True, False, True):
            body, status, _ = await streams.stream("orders").as_tuple(scope_of("/"))
            assert status == 200
            assert isinstance(body, AsyncIterable)
            iterator = aiter(body)
            if first:
                assert (await anext(iterator)).startswith(b"retry:")
            assert isinstance(iterator, AsyncGenerator)
            await iterator.aclose()
            del body, iterator
            await viewers_are_gone(streams)

    run(main)
    assert streams.stats()["viewers"] == 0


def test_the_lifespan_of_the_application_still_runs() -> None:
    """Its own start and stop are called, through install(); `lifespan` may be used alone."""
    streams = Bridge(f"memory://{uuid.uuid4().hex}", public=True)
    steps: list[str] = []

    async def start() -> None:
        steps.append("start")

    class Lifespan:
        def __init__(self, app: Any) -> None: ...

        async def __aenter__(self) -> None:
            await start()

        async def __aexit__(self, *_: object) -> None:
            steps.append("stop")

    app = Starlette(lifespan=Lifespan)
    streams.install(app)
    with client(app), client(Starlette(lifespan=streams.lifespan)):
        pass
    assert steps == ["start", "stop"]


@pytest.mark.parametrize("kind", ["raises", "raises after the start", "returns"])
def test_an_application_without_lifespan_gets_one(kind: str) -> None:
    """Streams end on shutdown also where the application itself does not hear of it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if kind == "raises after the start":
            await receive()
        if kind != "returns":
            raise AssertionError(scope["type"])

    streams = Bridge(f"memory://{uuid.uuid4().hex}", public=True)
    steps: list[str] = []

    async def end() -> None:
        steps.append("end")

    streams.end = end  # type: ignore[method-assign]  # to see that it is called
    with client(streams.wrap(app)):
        assert steps == []
    assert steps == ["end"]


def test_a_start_that_fails_is_not_hidden() -> None:
    """An application that supports lifespans, and cannot start, does not start."""

    class Lifespan:
        def __init__(self, app: Any) -> None: ...

        async def __aenter__(self) -> None:
            raise ZeroDivisionError

        async def __aexit__(self, *_: object) -> None: ...

    app = Starlette(lifespan=Lifespan)
    Bridge(f"memory://{uuid.uuid4().hex}", public=True).install(app)
    with pytest.raises(ZeroDivisionError), client(app):
        pass


def test_openapi_documents_every_answer() -> None:
    """FastAPI shows the statuses of a stream, and that it is text/event-stream."""
    streams = Bridge(f"memory://{uuid.uuid4().hex}", public=True)
    app = FastAPI()

    @app.get("/plain", responses=bridge.asgi.RESPONSES)
    async def untyped(task_id: str):  # type: ignore[no-untyped-def]  # as in many applications
        return streams.stream(bridge.task_topic(task_id))

    @app.get("/typed", responses=bridge.asgi.RESPONSES, response_class=StreamResponse)
    async def typed(task_id: str) -> StreamResponse:
        return streams.stream(bridge.task_topic(task_id))

    document = json.loads(client(app).get("/openapi.json").text)
    for path in ("/plain", "/typed"):
        responses = document["paths"][path]["get"]["responses"]
        assert {"200", "204", "403", "404", "429", "503"} <= set(responses)
        assert "text/event-stream" in responses["200"]["content"]
    assert list(document["paths"]["/typed"]["get"]["responses"]["200"]["content"]) == ["text/event-stream"]


@pytest.mark.parametrize("options", [{"heartbeat": 0}, {"max_viewers": "many"}, {"wrong": 1}, {"url": ""}])
def test_wrong_options_are_refused_at_once(options: dict[str, Any]) -> None:
    """The error names the option."""
    with pytest.raises(bridge.ConfigurationError, match=f"(?i){next(iter(options))}"):
        Bridge(**{"url": "memory://wrong", **options})


def test_the_client_is_served() -> None:
    """`install` and `wrap` serve the files below `/bridge`, or where the option says, or nowhere."""
    app, _ = make_app()
    answer = client(app).get("/bridge/bridge.js")
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    etag = {"If-None-Match": answer.headers["etag"]}
    assert client(app).get("/bridge/bridge.js", headers=etag).status_code == 304
    assert "immutable" in client(app).get(f"/bridge/{bridge.__version__}/fold.js").headers["cache-control"]
    head = client(app).head("/bridge/bridge.js")
    assert (head.content, int(head.headers["content-length"])) == (b"", len(answer.content))
    for path in ("/bridge/errors.py", "/bridge/..%2ferrors.py", "/bridge/", "/bridgebridge.js"):
        assert client(app).get(path).status_code == 404
    elsewhere, _ = make_app(static_path="/assets/live")
    assert client(elsewhere).get("/assets/live/bridge.js").content == answer.content
    assert client(elsewhere).get("/bridge/bridge.js").status_code == 404
    assert client(make_app(static_path=None)[0]).get("/bridge/bridge.js").status_code == 404
    with pytest.raises(bridge.ConfigurationError, match="static_path"):
        make_app(static_path="bridge")


@pytest.mark.parametrize("root", ["", "/prefix"])
def test_the_client_can_be_mounted(root: str) -> None:
    """`static` serves the files below the path where it is mounted, also behind a prefix."""
    _, streams = make_app()
    app = Starlette(routes=[Mount("/live", streams.static)])
    asks = TestClient(app, root_path=root)
    assert asks.get(f"{root}/live/bridge.js").text.startswith("// ")
    assert asks.get(f"{root}/live/{bridge.__version__}/fold.js").status_code == 200
    for path in ("/live/", "/live/errors.py", "/live/x/bridge.js"):
        assert asks.get(root + path).status_code == 404
