"""A stream as the body of a response that a framework sends for an ASGI application.

`asgi.py` sends a response itself. A framework that sends responses with its own code iterates over an
`ASGIBody`: it sends the head, and each chunk before it asks for the next one. `hold_head` has the head wait
for the first chunk, because a client that sees the head may rely on what is published from then on.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from bridge.streams.asgi import CLOSE_WITHIN, in_event_loop, wait_until
from bridge.streams.opening import Opening
from bridge.streams.service import StreamService
from bridge.streams.takeover.asgi import Message, Scope, Send, Takeover
from bridge.streams.viewer import Viewer

_HOLD = "bridge.hold_head"


class ASGIBody:
    """The chunks of a stream. They may be iterated over once, in the event loop of the server.

    The stream opens with the first chunk. It ends when the iterator is closed or cancelled, which the
    framework does when the client leaves. `on_fallback` is called once if the connection is not taken over.
    """

    def __init__(
        self,
        service: StreamService,
        opening: Opening,
        scope: Scope,
        *,
        on_fallback: Callable[[], None] = lambda: None,
    ) -> None:
        self._service = service
        self._opening = opening
        self._takeover = Takeover(scope)
        self._on_fallback = on_fallback
        if _HOLD in (scope.get("extensions") or {}):
            scope["extensions"][_HOLD] = True

    @property
    def headers(self) -> dict[str, str]:
        """The headers that the response needs beside those of every stream."""
        return {name.decode(): value.decode() for name, value in self._takeover.headers}

    def close(self) -> None:
        """End the stream, unless its connection was taken over. May be called again, from any thread."""
        self._opening.close()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        try:
            viewer = self._opening.open()
            if viewer is not None:
                async with aclosing(self._chunks(viewer)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        finally:
            self._takeover.stop_recording()
            self.close()

    async def _chunks(self, viewer: Viewer) -> AsyncGenerator[bytes, None]:
        opening, takeover = self._opening, self._takeover
        changed = asyncio.Event()
        viewer.on_change = in_event_loop(changed.set)
        established = await wait_until(
            lambda: viewer.established or viewer.closed, changed, opening.seconds_to_wait
        )
        first = opening.first_chunk(viewer, established=established)
        if takeover.refusal is None:
            takeover.record()
        yield first
        connection = await takeover.recorded(first)
        if connection is not None:
            opening.adopt(connection)
            await takeover.disconnected()
            return
        if takeover.refusal is not None:
            self._service.note_not_taken_over(takeover.refusal)
        self._on_fallback()
        if resets := opening.resets():
            yield resets
        async with aclosing(self._backlog(viewer, changed)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _backlog(self, viewer: Viewer, changed: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Yield what waits for a viewer that has no connection of its own, until the stream ends."""
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def wake() -> None:
            changed.set()
            if viewer.closed:  # this iterator ends by itself, unless the client does not read
                timers.append(loop.call_later(CLOSE_WITHIN, self._takeover.abort))

        viewer.on_change = in_event_loop(wake)
        try:
            while not (viewer.closed or (viewer.finished and not viewer.backlog)):
                changed.clear()
                if data := viewer.take(0):
                    yield data
                    if viewer.full:
                        self._service.loop.announce_room(viewer)
                elif not await wait_until(
                    lambda: bool(viewer.backlog or viewer.finished or viewer.closed),
                    changed,
                    self._service.settings.heartbeat,
                ):
                    yield self._service.loop.silence
        finally:
            viewer.on_change = None
            for timer in timers:
                timer.cancel()


def hold_head(scope: Scope, send: Send) -> Send:
    """Return `send`, with which the head of a response that has an `ASGIBody` is sent with its first chunk.

    The outermost application calls it after `remember_connection`, and passes the result on.
    """
    extensions = scope["extensions"]
    extensions[_HOLD] = False
    held: list[Message] = []

    async def send_later(message: Message) -> None:
        if message["type"] == "http.response.start" and extensions[_HOLD]:
            held.append(message)
            return
        while held:
            await send(held.pop())
        await send(message)

    return send_later
