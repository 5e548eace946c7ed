"""The same small application in Flask, FastAPI and Django, each under a real server in a thread."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import uvicorn
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test.utils import override_settings
from fastapi import FastAPI, HTTPException, Request
from flask import Flask, Response, abort, request
from werkzeug.serving import ThreadedWSGIServer

import bridge.asgi
import bridge.django
import bridge.flask
from bridge.channel.channel import Channel
from tests.django_app import configure
from tests.servers import eventually, free_port

FRAMEWORKS = ("flask", "fastapi", "django wsgi", "django asgi")
KINDS = (*FRAMEWORKS, "flask, kept", "fastapi, kept", "django asgi, kept")
"""Frameworks; with "kept", the server keeps the connections of streams."""

MayRead = Callable[[dict[str, str], str], object]
"""Decides with some headers of a request, and a topic or the id of a task."""


class Served(NamedTuple):
    """An application that is served."""

    address: str
    channel: Channel
    token: Callable[..., str]
    stats: Callable[[], dict[str, int]]
    revoke: Callable[..., None]


class Forbidden(Exception):
    """What a `MayRead` raises for the framework's own 403."""


@contextmanager
def serving(
    kind: str, *, may_read: MayRead | None = None, may_cancel: MayRead | None = None, **options: Any
) -> Iterator[Served]:
    """Serve the application; `options` are those of the bridge, in lower case."""
    given = {"url": f"memory://{uuid.uuid4().hex}", **options}
    framework = kind.split(",")[0]
    make = {"flask": _flask, "fastapi": _fastapi, "django wsgi": _django, "django asgi": _django}[framework]
    with make(kind, given, may_read, may_cancel) as served:
        try:
            yield served
        finally:
            served.channel.close()


def _headers(headers: Any) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


@contextmanager
def _flask(
    kind: str, options: dict[str, Any], may_read: MayRead | None, may_cancel: MayRead | None
) -> Iterator[Served]:
    app = Flask(__name__)
    app.config.update({f"BRIDGE_{name.upper()}": value for name, value in options.items()})
    streams = bridge.flask.Bridge(app)

    def decide(function: MayRead, about: str) -> object:
        try:
            return function(_headers(request.headers), about)
        except Forbidden:
            abort(403)

    if may_read is not None:
        streams.authorize(lambda topic: decide(may_read, topic))
    if may_cancel is not None:
        streams.authorize_cancel(lambda task: decide(may_cancel, task))

    @app.get("/stream")
    def stream() -> Response:
        return streams.stream(*request.args.getlist("topic"))

    @app.get("/task/<task_id>")
    def task(task_id: str) -> dict[str, Any]:
        return {"task": streams.task(task_id)}

    @app.get("/tasks")
    def tasks() -> dict[str, Any]:
        return {"tasks": streams.tasks(tag=request.args.get("tag"))}

    @app.get("/cancel/<task_id>")
    def cancel(task_id: str) -> str:
        streams.check_cancel(task_id)
        return "cancelled"

    port = free_port()
    with app.app_context(), _wsgi_server(app, port, kept="kept" in kind):
        address = f"http://127.0.0.1:{port}"
        yield Served(address, streams.channel, streams.token, streams.stats, streams.revoke)


@contextmanager
def _fastapi(
    kind: str, options: dict[str, Any], may_read: MayRead | None, may_cancel: MayRead | None
) -> Iterator[Served]:
    app = FastAPI()
    streams = bridge.asgi.Bridge(**options)

    async def decide(function: MayRead, asked: Request, about: str) -> object:
        try:
            return function(_headers(asked.headers), about)
        except Forbidden:
            raise HTTPException(403) from None

    if may_read is not None:
        streams.authorize(lambda asked, topic: decide(may_read, asked, topic))
    if may_cancel is not None:
        streams.authorize_cancel(lambda asked, task: decide(may_cancel, asked, task))

    @app.get("/stream")
    async def stream(request: Request) -> Any:
        return streams.stream(*request.query_params.getlist("topic"))

    @app.get("/task/{task_id}")
    async def task(task_id: str) -> Any:
        return {"task": await streams.task(task_id)}

    @app.get("/tasks")
    async def tasks(tag: str | None = None) -> Any:
        return {"tasks": await streams.tasks(tag=tag)}

    @app.get("/cancel/{task_id}")
    async def cancel(task_id: str) -> str:
        await streams.check_cancel(task_id)
        return "cancelled"

    streams.install(app)
    port = free_port()

    def revoke(**what: str) -> None:
        asyncio.run(streams.revoke(**what))

    with _asgi_server(_hidden(app) if "kept" in kind else app, port):
        yield Served(f"http://127.0.0.1:{port}", streams.channel, streams.token, streams.stats, revoke)


def _hidden(app: Any) -> Any:
    """Return `app` behind a layer that hides the server."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        async def hidden(message: Any) -> None:
            await send(message)

        await app(scope, receive, hidden)

    return application


@contextmanager
def _django(
    kind: str, options: dict[str, Any], may_read: MayRead | None, may_cancel: MayRead | None
) -> Iterator[Served]:
    if not settings.configured:
        configure()

    def decide(function: MayRead, asked: Any, about: str) -> object:
        try:
            return function(_headers(asked.headers), about)
        except Forbidden:
            raise PermissionDenied from None

    given = {name.upper(): value for name, value in options.items()}
    if may_read is not None:
        given["AUTHORIZE"] = lambda asked, topic: decide(may_read, asked, topic)
    if may_cancel is not None:
        given["AUTHORIZE_CANCEL"] = lambda asked, task: decide(may_cancel, asked, task)
    port = free_port()
    application: Any = WSGIHandler() if "wsgi" in kind else ASGIHandler()
    if kind == "django asgi":
        application = bridge.django.wrap(application)
    server = _wsgi_server(application, port) if "wsgi" in kind else _asgi_server(application, port)
    with override_settings(BRIDGE=given), server:
        address, tools = f"http://127.0.0.1:{port}", bridge.django
        yield Served(address, tools.channel(), tools.token, tools.stats, tools.revoke)


@contextmanager
def _wsgi_server(app: Any, port: int, *, kept: bool = False) -> Iterator[None]:
    def application(environ: Any, start_response: Any) -> Any:
        if kept:
            environ.pop("werkzeug.socket", None)
        return app(environ, start_response)

    server = ThreadedWSGIServer("127.0.0.1", port, application)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def _asgi_server(app: Any, port: int) -> Iterator[None]:
    config = uvicorn.Config(app, port=port, log_level="warning", lifespan="auto", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    eventually(lambda: server.started, within=20, why="uvicorn did not start")
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(10)
