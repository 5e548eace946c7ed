"""The bridge in FastAPI."""

import os

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from bridge.asgi import Bridge, StreamResponse

app = FastAPI()
streams = Bridge(os.environ["BENCH_URL"], public=True, token_keys=[os.environ["BENCH_TOKEN_KEY"]])
streams.install(app)


@app.get("/events/{topic}")
async def events(topic: str) -> StreamResponse:
    return streams.stream(topic)


@app.get("/plain")
async def plain() -> PlainTextResponse:
    return PlainTextResponse("ok")
