"""Streams whose connection stays with the server: slow clients, ends and disconnects, without a server."""

import asyncio
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

import bridge
from bridge.asgi import Bridge
from bridge.streams.takeover.asgi import Message
from tests import asgi_app
from tests.asgi_app import stats
from tests.listener import SECONDS, Listener
from tests.servers import Valkey, eventually


@pytest.fixture
def streams() -> Iterator[Bridge]:
    streams = Bridge(f"memory://{uuid.uuid4().hex}", public=True, heartbeat=0.05, viewer_backlog=10_000)
    yield streams
    streams.channel.close()


def scope(path: str = "/", method: str = "GET", **headers: str) -> dict[str, Any]:
    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": method, "path": path, "headers": given, "http_version": "1.1"}


class Exchange:
    """A request for a stream, and a client that reads as long as `reads` is set."""

    def __init__(self, streams: Bridge, *topics: str) -> None:
        self.reads, self.left = asyncio.Event(), asyncio.Event()
        self.reads.set()
        self.messages: list[Message] = []
        self.task = asyncio.ensure_future(streams.stream(*topics)(scope(), self._receive, self._send))

    async def _receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        self.messages.append(message)
        await self.reads.wait()

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages)

    async def until(self, word: bytes) -> None:
        async with asyncio.timeout(SECONDS):
            while word not in self.body:
                await asyncio.sleep(0.005)


def test_a_client_that_does_not_read_is_cut_off_alone(streams: Bridge) -> None:
    """The response of one that never takes what it was sent ends; another gets everything."""

    async def main() -> None:
        stuck, quick = Exchange(streams, "orders"), Exchange(streams, "orders")
        for exchange in (stuck, quick):
            await exchange.until(b"retry: ")
        stuck.reads.clear()
        topic = streams.channel.topic("orders")
        for number in range(40):
            topic.publish(b"<%d>" % number + b"x" * 1000)
            await quick.until(b"<%d>" % number)
        await asyncio.wait_for(stuck.task, 3)
        assert re.findall(rb"<(\d+)>", quick.body) == [b"%d" % number for number in range(40)]
        assert (streams.stats()["viewers"], streams.stats()["viewers_cut_off"]) == (1, 1)
        quick.left.set()
        await asyncio.wait_for(quick.task, 2)
        assert streams.stats()["viewers"] == 0

    asyncio.run(main())


def test_end_completes_every_response(streams: Bridge) -> None:
    """After `end` each response is complete, and has told when to come back."""

    async def main() -> None:
        exchanges = [Exchange(streams, "orders") for _ in range(10)]
        for exchange in exchanges:
            await exchange.until(b":\n")
        await asyncio.wait_for(streams.end(), 1)
        for exchange in exchanges:
            await asyncio.wait_for(exchange.task, 1)
            assert exchange.body.count(b"retry: ") == 2
            assert not exchange.messages[-1].get("more_body")
        assert streams.stats()["viewers"] == 0

    asyncio.run(main())


def test_a_request_that_is_cancelled_leaves_nothing(streams: Bridge) -> None:
    """A server that cancels the request, in any phase, leaves no viewer and no task."""

    async def main() -> None:
        for steps in range(12):
            exchange = Exchange(streams, "orders")
            for _ in range(steps):
                await asyncio.sleep(0)
            exchange.task.cancel()
            await asyncio.wait((exchange.task,))
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())
    eventually(lambda: streams.stats()["viewers"] == streams.stats()["subscriptions"] == 0, 2)


def test_an_error_of_send_ends_the_stream(streams: Bridge) -> None:
    """What the server raises comes out of the response, and no viewer is left."""

    async def main() -> None:
        async def receive() -> Message:
            return await asyncio.Event().wait()  # type: ignore[return-value]  # it never returns

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body" and message["body"] == b":\n":
                raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            await asyncio.wait_for(streams.stream("orders")(scope(), receive, send), 5)

    asyncio.run(main())
    eventually(lambda: streams.stats()["viewers"] == 0, 2)


def test_a_slow_client_of_uvicorn_is_closed(valkey: Valkey) -> None:
    """uvicorn keeps nothing of a client that was cut off, and logs no error."""
    namespace = f"slow {time.monotonic_ns()}"
    url = valkey.url("redis")
    with (
        asgi_app.serving("uvicorn", url, namespace, middleware="compressing", viewer_backlog=200_000) as (
            address,
            log,
        ),
        bridge.connect(url, namespace=namespace) as channel,
    ):
        stuck = Listener(address, "orders", receive_buffer=4096)
        eventually(lambda: stats(address)["viewers"] == 1, SECONDS)
        for _ in range(2000):
            channel.topic("orders").publish(os.urandom(20_000))
            if stats(address)["viewers_cut_off"]:
                break
        # Those of the server itself, of its lifespan, and of the request that asks.
        eventually(lambda: stats(address)["tasks"] <= 3, 3)
        assert stats(address)["viewers"] == 0
        with suppress(ConnectionResetError):
            stuck.rest()
        assert "closed a stream of 'orders'" in log.read_text()
        assert not re.search("Traceback|ERROR", log.read_text())
