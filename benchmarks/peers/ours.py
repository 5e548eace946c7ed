"""The bridge."""

import os

from flask import Flask, Response

from bridge.flask import Bridge

app = Flask(__name__)
app.config.update(BRIDGE_URL=os.environ["BENCH_URL"], BRIDGE_PUBLIC=True)
bridge = Bridge(app)


@app.get("/events/<topic>")
def events(topic: str) -> Response:
    return bridge.stream(topic)


@app.get("/plain")
def plain() -> str:
    return "ok"
