"""flask-sse: every viewer has a connection to Redis of its own."""

import os

from flask import Flask
from flask_sse import sse

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["BENCH_REDIS"]
app.register_blueprint(sse, url_prefix="/events")


@app.get("/plain")
def plain() -> str:
    return "ok"
