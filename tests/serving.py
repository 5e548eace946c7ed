"""A small Flask app under every server the bridge works with, as real processes."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import httpx
from flask import Flask, Response, request

from bridge.flask import Bridge
from tests.processes import running
from tests.servers import eventually, free_port

SERVERS = ("gunicorn sync", "gunicorn gthread", "gunicorn gevent", "pywsgi", "flask")


def create_app() -> Flask:
    """One route that streams the topics asked for, and one that tells what the bridge counts."""
    app = Flask(__name__)
    app.config.from_prefixed_env("SERVING")
    bridge = Bridge(app)

    @app.get("/stream")
    def stream() -> Response:
        return bridge.stream(*request.args.getlist("topic"))

    @app.get("/stats")
    def stats() -> dict[str, int]:
        return bridge.stats()

    @app.get("/pid")
    def pid() -> dict[str, int]:
        return {"parent": os.getppid(), "descriptors": len(os.listdir("/dev/fd"))}  # noqa: PTH208

    return app


def command(server: str, port: int) -> list[str]:
    """Return the command line that serves `create_app` with `server` on `port`."""
    python = [sys.executable, "-m"]
    factory = "tests.serving:create_app()"
    match server.split():
        case ["gunicorn", worker]:
            threads = ["--threads", "8"] if worker == "gthread" else []
            options = ["-k", worker, *threads, "-b", f"127.0.0.1:{port}", "--graceful-timeout", "1"]
            return [*python, "gunicorn", "--no-control-socket", *options, factory]
        case ["pywsgi"]:
            return [*python, "tests.serving", str(port)]
        case _:
            return [*python, "flask", "--app", factory, "run", "--port", str(port)]


@contextmanager
def serving(server: str, **settings: str) -> Iterator[str]:
    """Serve the app with `server` and `SERVING_<name>` settings; yield its address."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    with running(command(server, port), env={f"SERVING_{name}": value for name, value in settings.items()}):
        eventually(lambda: answers(address), within=30, why=f"{server} did not start")
        yield address


def answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{address}/stats", trust_env=False).is_success
    return False


if __name__ == "__main__":
    from gevent import monkey

    monkey.patch_all()
    from gevent.pywsgi import WSGIServer

    WSGIServer(("127.0.0.1", int(sys.argv[1])), create_app()).serve_forever()
