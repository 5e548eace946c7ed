"""A small Flask app in the process of a test: pages of the browser client under a strict policy."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# `Any` in this module: the fields of events, and the settings of Flask.
from typing import Any

from flask import Flask, Response, request
from werkzeug.serving import make_server

from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from tests import events

POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"


class Served:
    """The app behind `address`, and what was asked of it."""

    def __init__(self, app: Flask, address: str, streams: Bridge) -> None:
        self.app = app
        self.address = address
        self.streams = streams
        self.asked: Counter[str] = Counter()
        """Requests by path."""
        self.channel = app.extensions["bridge"].channel

    def say(self, kind: str, task: str, **fields: Any) -> None:
        """Publish a task event."""
        transport_of(self.channel).publish(events.make(kind, task, **fields))

    def publish(self, topic: str, text: str) -> None:
        self.channel.topic(topic).as_producer().publish(text.encode())

    @property
    def viewers(self) -> int:
        """How many streams are open."""
        with self.app.app_context():
            return self.streams.stats()["viewers"]


@contextmanager
def served(prepare: Callable[[Flask, Bridge], None] | None = None, **config: Any) -> Iterator[Served]:
    """Serve the client, a page for it, and `/events`; `prepare` may add routes."""
    app = Flask("client")
    app.config.update({"BRIDGE_URL": f"memory://{uuid.uuid4().hex}", "BRIDGE_PUBLIC": True, **config})
    streams = Bridge(app)
    found: list[Served] = []

    @app.before_request
    def count() -> None:
        found[0].asked[request.path] += 1

    @app.after_request
    def restrict(response: Response) -> Response:
        response.headers.setdefault("Content-Security-Policy", POLICY)
        return response

    @app.get("/")
    def page() -> str:
        return "<!doctype html><html lang=en><title>Client</title><body></body></html>"

    @app.get("/events")
    def stream() -> Response:
        return streams.stream(*request.args.getlist("topic"))

    if prepare is not None:
        prepare(app, streams)
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    found.append(Served(app, f"http://127.0.0.1:{server.port}", streams))
    thread.start()
    try:
        yield found[0]
    finally:
        server.shutdown()
        thread.join()
        found[0].channel.close()
