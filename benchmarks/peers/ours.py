"""The bridge."""

import os

from flask import Flask, Response

from bridge.flask import Bridge

app = Flask(__name__)
app.config.update(
    BRIDGE_URL=os.environ["BENCH_URL"],
    BRIDGE_PUBLIC=True,
    BRIDGE_TOKEN_KEYS=[os.environ["BENCH_TOKEN_KEY"]],
)
bridge = Bridge(app)


@app.get("/events/<topic>")
def events(topic: str) -> Response:
    return bridge.stream(topic)


@app.get("/plain")
def plain() -> str:
    return "ok"
