"""A small Flask app under every server the bridge works with, as real processes."""

import os
import resource
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Never

import httpx
from flask import Flask, Response, request

from bridge import connect
from bridge.aio import subscribe
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from tests.processes import dump_on_signal, running
from tests.servers import eventually, free_port

SERVERS = ("gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "flask")
MACOS = sys.platform == "darwin"


def create_app() -> Flask:
    """Routes that stream the topics asked for, tell what the bridge and the process count, and fail."""
    dump_on_signal()
    app = Flask(__name__)
    app.config.from_prefixed_env("SERVING")
    bridge = Bridge(app)
    if app.config.get("AUTHORIZE"):
        bridge.authorize(lambda topic: "secret" not in topic and request.args.get("as") != "nobody")
        bridge.authorize_cancel(lambda task: request.args.get("as") == "operator")
    bridge.monitor(app, "/monitor", title="<Tasks>")
    if app.config.get("TRACK_ERRORS"):
        track_errors()

    @app.get("/stream")
    def stream() -> Response:
        return bridge.stream(*request.args.getlist("topic"))

    @app.get("/stats")
    def stats() -> dict[str, int]:
        return bridge.stats()

    @app.get("/pid")
    def pid() -> dict[str, int]:
        return {
            "own": os.getpid(),
            "parent": os.getppid(),
            "descriptors": len(os.listdir("/dev/fd")),  # noqa: PTH208
            "threads": threading.active_count(),
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if MACOS else 1024),
        }

    @app.get("/busy")
    def busy() -> str:
        """Hold the process for so many seconds, greenlets too."""
        until = time.monotonic() + float(request.args["seconds"])
        while time.monotonic() < until:
            pass
        return ""

    @app.get("/fault")
    def fault() -> Never:
        raise RuntimeError("a fault")

    return app


def track_errors() -> None:
    """Have an error tracker watch the process; what it would report goes to the log, behind `tracked:`."""
    import sentry_sdk

    def report(event: Any, hint: Any) -> None:
        print("tracked:", event.get("logentry"), event.get("exception"), file=sys.stderr, flush=True)

    sentry_sdk.init("http://nobody@localhost/1", before_send=report, auto_session_tracking=False)


def create_asgi_app() -> Any:
    """The same app for an ASGI server."""
    from a2wsgi import WSGIMiddleware

    app: Any = create_app()  # a2wsgi declares WSGI in types of its own
    return WSGIMiddleware(app)


def create_coroutines() -> Any:
    """An app of coroutines that streams a topic through `bridge.aio`."""
    from fastapi import FastAPI
    from fastapi.responses import StreamingResponse

    app = FastAPI()
    channel: Any = connect(os.environ["SERVING_BRIDGE_URL"], namespace=os.environ["SERVING_BRIDGE_NAMESPACE"])

    @app.get("/stream")
    async def stream(topic: str) -> StreamingResponse:
        async def told() -> AsyncIterator[bytes]:
            async with subscribe(channel.topic(topic).as_subscriber()) as messages:
                yield b"retry: 2000\n"
                async for message in messages:
                    yield b"data: %b\n\n" % message

        return StreamingResponse(told(), media_type="text/event-stream")

    @app.get("/stats")
    async def stats() -> dict[str, int]:
        counted: dict[str, int] = transport_of(channel).hub.stats()
        return counted

    return app


def command(server: str, port: int, *options: str) -> list[str]:
    """Return the command line that serves `create_app` with `server` on `port`."""
    python = [sys.executable, "-m"]
    factory = "tests.serving:create_app()"
    match server.split():
        case ["gunicorn", worker]:
            threads = ["--threads", "8"] if worker == "gthread" else []
            listen = ["-k", worker, *threads, "-b", f"127.0.0.1:{port}", "--graceful-timeout", "1"]
            return [*python, "gunicorn", "--no-control-socket", *listen, *options, factory]
        case ["uvicorn", served]:
            listen = ["--factory", f"tests.serving:{served}", "--port", str(port)]
            return [*python, "uvicorn", *listen, *options]
        case ["pywsgi"]:
            return [*python, "tests.serving", str(port)]
        case _:
            return [*python, "flask", "--app", factory, "run", "--port", str(port)]


@contextmanager
def serving(server: str, **settings: str) -> Iterator[str]:
    """Serve the app with `server` and `SERVING_<name>` settings; yield its address."""
    with logged(server, **settings) as (address, _):
        yield address


@contextmanager
def logged(server: str, *options: str, **settings: str) -> Iterator[tuple[str, Path]]:
    """Do what `serving` does; yield the address, and the file with all that the server writes."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = {f"SERVING_{name}": value for name, value in settings.items()}
    with running(command(server, port, *options), env=env) as log:
        eventually(lambda: answers(address), within=30, why=f"{server} did not start")
        yield address, log


def answers(address: str) -> bool:
    # Without `verify=False` each call reads all certificates, which takes 18 ms of CPU time.
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/stats", trust_env=False, verify=False).is_success
    return False


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    with suppress(KeyboardInterrupt):
        WSGIServer(("127.0.0.1", int(sys.argv[1])), create_app()).serve_forever()
