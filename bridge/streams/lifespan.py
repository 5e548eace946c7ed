"""Ends the streams of an ASGI application before its server ends the process."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bridge.streams.loop import Loop
from bridge.streams.takeover.asgi import ASGIApplication, Message, Receive, Scope, Send

logger = logging.getLogger("bridge.streams")

End = Callable[[], Awaitable[None]]

END_WITHIN = 1.0
"""Seconds that ending every stream may take when the application shuts down."""


async def end_streams(loop: Loop) -> None:
    """End every stream, and wait up to `END_WITHIN` until they have ended."""
    loop.end()
    clock = asyncio.get_running_loop()
    deadline = clock.time() + END_WITHIN
    while loop.stats()["viewers"] and clock.time() < deadline:
        await asyncio.sleep(0.02)


class Lifespan:
    """The lifespan of an application, with `end` called before the application learns of the shutdown.

    An application that does not support lifespans gets one: uvicorn ends its process soon after it, too soon
    for the thread that looks whether the server is ending.
    """

    def __init__(self, receive: Receive, send: Send, end: End) -> None:
        self._receive_from_server = receive
        self._send_to_server = send
        self._end = end
        self._started = False
        self._supported = False

    async def run(self, app: ASGIApplication, scope: Scope) -> None:
        try:
            await app(scope, self._receive, self._send)
        except Exception:
            if self._supported:
                raise
            logger.debug(
                "the application does not support lifespans",
                exc_info=True,
                extra={"event": "no_lifespan"},
            )
        if not self._supported:
            if not self._started:
                await self._receive()
            await self._send({"type": "lifespan.startup.complete"})
            await self._receive()
            await self._send({"type": "lifespan.shutdown.complete"})

    async def _receive(self) -> Message:
        message = await self._receive_from_server()
        self._started = True
        if message["type"] == "lifespan.shutdown":
            await self._end()
        return message

    async def _send(self, message: Message) -> None:
        self._supported = True
        await self._send_to_server(message)
