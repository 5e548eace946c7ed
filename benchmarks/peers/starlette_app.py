"""sse-starlette and broadcaster: an asyncio queue per viewer, one reader of Redis Pub/Sub."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from broadcaster import Broadcast
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

broadcast = Broadcast(os.environ["BENCH_REDIS"])


async def events(request: Request) -> EventSourceResponse:
    async def messages() -> AsyncIterator[dict[str, str]]:
        async with broadcast.subscribe(request.path_params["topic"]) as subscriber:
            yield {"comment": "open"}
            async for event in subscriber:
                yield {"data": event.message}

    return EventSourceResponse(messages(), sep="\n")


async def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    # The reader of broadcaster 0.3.1 gives up on its first subscription and comes back with the second.
    async with broadcast, broadcast.subscribe("first"), broadcast.subscribe("second"):
        yield


app = Starlette(routes=[Route("/events/{topic}", events), Route("/plain", plain)], lifespan=lifespan)
