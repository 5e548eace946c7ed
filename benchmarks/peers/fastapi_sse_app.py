"""FastAPI's own EventSourceResponse, and broadcaster: an asyncio queue per viewer, one reader of Redis."""

import os
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

broadcast = Broadcast(os.environ["BENCH_REDIS"])


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    # As in starlette_app.py: the reader of broadcaster 0.3.1 comes back with the second subscription.
    async with broadcast, broadcast.subscribe("first"), broadcast.subscribe("second"):
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/events/{topic}", response_class=EventSourceResponse)
async def events(topic: str) -> AsyncIterable[ServerSentEvent]:
    async with broadcast.subscribe(topic) as subscriber:
        yield ServerSentEvent(comment="open")
        async for event in subscriber:
            yield ServerSentEvent(raw_data=event.message)


@app.get("/plain")
async def plain() -> PlainTextResponse:
    return PlainTextResponse("ok")
