"""Django's StreamingHttpResponse: an asyncio queue per viewer, one reader of Redis Pub/Sub."""

import asyncio
import os
from collections import defaultdict
from collections.abc import AsyncIterator

import django
import redis.asyncio
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], SECRET_KEY="benchmark", ROOT_URLCONF=__name__, LOGGING_CONFIG=None)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse  # noqa: E402
from django.urls import path  # noqa: E402

queues: "dict[bytes, set[asyncio.Queue[bytes]]]" = defaultdict(set)
readers: "list[asyncio.Task[None]]" = []


async def read() -> None:
    pubsub = redis.asyncio.Redis.from_url(os.environ["BENCH_REDIS"]).pubsub()
    await pubsub.psubscribe("*")
    async for message in pubsub.listen():
        if message["type"] == "pmessage":
            frame = b"data: " + message["data"] + b"\n\n"
            for queue in list(queues[message["channel"]]):
                queue.put_nowait(frame)


async def frames(topic: bytes) -> AsyncIterator[bytes]:
    if not readers:  # Django has no lifespan
        readers.append(asyncio.create_task(read()))
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    queues[topic].add(queue)
    try:
        yield b": open\n\n"
        while True:
            yield await queue.get()
    finally:
        queues[topic].discard(queue)


async def events(request: HttpRequest, topic: str) -> StreamingHttpResponse:
    return StreamingHttpResponse(frames(topic.encode()), content_type="text/event-stream")


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("events/<topic>", events), path("plain", plain)]
app = get_asgi_application()
