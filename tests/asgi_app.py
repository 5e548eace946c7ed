"""A small FastAPI, Starlette or plain ASGI app under every ASGI server, as real processes.

The environment says which: `ASGI_URL`, `ASGI_OPTIONS` (of the bridge, JSON), `ASGI_FRAMEWORK`,
`ASGI_INSTALL`, `ASGI_AUTHORIZE` and `ASGI_MIDDLEWARE`.
"""

import asyncio
import json
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from bridge.asgi import RESPONSES, Bridge
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send
from tests.processes import dump_on_signal, running
from tests.servers import eventually, free_port

Logged = tuple[str, Path]
"""The address of a server, and the file with all that it writes."""


class PassingMiddleware(BaseHTTPMiddleware):
    """Passes the response on, through a task and a queue of its own."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["x-passed"] = "yes"
        return response


class CompressingMiddleware:
    """Compresses streams too, sending on what there is after every message."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        compressor = zlib.compressobj(wbits=31)

        async def compress(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-encoding", b"gzip")]
            elif message["type"] == "http.response.body":
                data = compressor.compress(message["body"])
                data += compressor.flush(zlib.Z_SYNC_FLUSH if message.get("more_body") else zlib.Z_FINISH)
                message["body"] = data
            await send(message)

        streams = scope["type"] == "http" and scope["path"] == "/stream"
        await self._app(scope, receive, compress if streams else send)


MIDDLEWARE: dict[str, tuple[Any, dict[str, Any]]] = {
    "gzip": (GZipMiddleware, {"minimum_size": 0}),
    "base": (PassingMiddleware, {}),
    "compressing": (CompressingMiddleware, {}),
}


def create_app() -> Any:
    """Routes that stream the topics asked for, and tell what the bridge and the process count."""
    dump_on_signal()
    options = {"public": True, **json.loads(os.environ.get("ASGI_OPTIONS", "{}"))}
    streams = Bridge(os.environ["ASGI_URL"], **options)
    if os.environ.get("ASGI_AUTHORIZE"):
        streams.authorize(may_read)
        streams.authorize_cancel(may_cancel)
    framework = os.environ.get("ASGI_FRAMEWORK", "fastapi")
    if framework == "plain":
        return streams.wrap(streams.monitor(_plain(streams), "/monitor", title="<Tasks>"))
    app = _fastapi(streams) if framework == "fastapi" else _starlette(streams)
    streams.monitor(app, "/monitor", title="<Tasks>")
    if name := os.environ.get("ASGI_MIDDLEWARE"):
        kind, options = MIDDLEWARE[name]
        app.add_middleware(kind, **options)
    if os.environ.get("ASGI_INSTALL") != "no":
        streams.install(app)
    return app


async def may_read(request: Request, topic: str) -> bool:
    return "secret" not in topic and request.query_params.get("as") != "nobody"


def may_cancel(request: Request, task: str) -> bool:
    return request.query_params.get("as") == "operator"


def count(streams: Bridge) -> dict[str, Any]:
    """Return what the bridge and the process count."""
    about = {"tasks": len(asyncio.all_tasks()), "connections": connections(), "pid": os.getpid()}
    return {**streams.stats(), **about, "why": streams.why_plain()}


def connections() -> int | None:
    """Return how many connections uvicorn has, each with its buffers."""
    server: Any = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return len(server.server_state.connections) if hasattr(server, "server_state") else None


def _fastapi(streams: Bridge) -> FastAPI:
    app = FastAPI()

    @app.api_route("/stream", methods=["GET", "HEAD"], responses=RESPONSES)
    async def stream(request: Request) -> Response:
        return streams.stream(*request.query_params.getlist("topic"))

    @app.get("/stats")
    async def stats() -> dict[str, Any]:
        return count(streams)

    return app


def _starlette(streams: Bridge) -> Starlette:
    def stream(request: Request) -> Response:
        return streams.stream(*request.query_params.getlist("topic"))

    async def stats(request: Request) -> JSONResponse:
        return JSONResponse(count(streams))

    return Starlette(routes=[Route("/stream", stream), Route("/stats", stats)])


def _plain(streams: Bridge) -> Any:
    """Return an application without any framework, and without a lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        if scope["path"] == "/stream":
            await streams.stream(scope["query_string"].decode().removeprefix("topic="))(scope, receive, send)
        else:
            await JSONResponse(count(streams))(scope, receive, send)

    return app


def __getattr__(name: str) -> Any:
    """Make the app when a server asks for `tests.asgi_app:app`: not all of them call a factory."""
    if name == "app":
        return create_app()
    raise AttributeError(name)


def command(server: str, port: int) -> list[str]:
    """Return the command line that serves the app on `port`. What follows `server` are its options."""
    python, app = [sys.executable, "-m"], "tests.asgi_app:app"
    name, *options = server.split()
    match name:
        case "uvicorn":
            quiet = ["--no-access-log", "--log-level", "warning"]
            return [*python, "uvicorn", app, "--port", str(port), *quiet, *options]
        case "gunicorn":
            worker = ["-k", "uvicorn_worker.UvicornWorker", "--log-level", "warning", "--no-control-socket"]
            return [*python, "gunicorn", *worker, "-b", f"127.0.0.1:{port}", *options, app]
        case "hypercorn":
            listen = ["-b", f"127.0.0.1:{port}"]
            return [*python, "hypercorn", *listen, *options, "tests.asgi_app:create_app()"]
        case "granian":
            return [*python, "granian", "--interface", "asgi", "--port", str(port), *options, app]
        case "daphne":
            return [*python, "daphne", "-p", str(port), *options, app]
    raise ValueError(server)


@contextmanager
def serving(server: str, url: str, namespace: str, *, tls: bool = False, **settings: Any) -> Iterator[Logged]:
    """Serve the app with `server`; yield its address and its log.

    `framework`, `install`, `authorize` and `middleware` are those of this module, the others the bridge's.
    """
    port = free_port()
    address = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    env = {"ASGI_URL": url, "PYTHONUNBUFFERED": "1"}
    for name in ("framework", "install", "authorize", "middleware"):
        if name in settings:
            env[f"ASGI_{name.upper()}"] = settings.pop(name)
    env["ASGI_OPTIONS"] = json.dumps({"namespace": namespace, **settings})
    with running(command(server, port), env=env) as log:
        eventually(lambda: _answers(address), within=30, why=f"{server} did not start")
        yield address, log


def stats(address: str) -> dict[str, Any]:
    counted: dict[str, Any] = httpx.get(f"{address}/stats", timeout=20, trust_env=False, verify=False).json()
    return counted


def _answers(address: str) -> bool:
    try:
        return bool(stats(address))
    except httpx.TransportError:
        return False


def make_certificate(directory: Path) -> tuple[Path, Path]:
    """Return files with a certificate for localhost, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    form = serialization.PrivateFormat.PKCS8
    files = directory / "certificate.pem", directory / "key.pem"
    files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    return files
