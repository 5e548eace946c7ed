"""A stream as the response of an ASGI application.

As soon as the head is sent, the connection is taken over from the server and given to the loop, and the
request is finished: a viewer needs no task and no buffer in the server. Where a takeover is not possible, one
coroutine per viewer sends what the loop puts into the viewer's backlog.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress

from bridge.streams import sse
from bridge.streams.opening import Opening
from bridge.streams.service import Answer, StreamService
from bridge.streams.takeover.asgi import Receive, Scope, Send, Takeover
from bridge.streams.viewer import Viewer


async def send_answer(
    service: StreamService, answer: Answer, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send `answer`, with its stream if it has one, until the viewer leaves or is taken over."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    if answer.opening is None:
        await send({"type": "http.response.body", "body": b""})
        return
    stream = ASGIStream(service, answer.opening, Takeover(scope, receive, send), receive=receive)
    async with aclosing(aiter(stream)) as chunks:
        async for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    if not stream.disconnected:
        await send({"type": "http.response.body", "body": b""})


class ASGIStream:
    """The chunks of a stream, for one response of an ASGI application. They may be iterated over once.

    The stream opens with the first chunk, and ends when the iterator is closed. With `receive` it also ends
    when the client leaves; a framework that cancels the response then does not pass it. `on_fallback` is
    awaited once if the connection cannot be taken over.
    """

    def __init__(
        self,
        service: StreamService,
        opening: Opening,
        takeover: Takeover,
        *,
        receive: Receive | None = None,
        on_fallback: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._service = service
        self._opening = opening
        self._takeover = takeover
        self._receive = receive
        self._on_fallback = on_fallback
        self.disconnected = False
        """Whether the client has left or the connection is taken over, so that nothing more can be sent."""

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
        viewer.on_change = _setter_of(changed)
        established = await _wait_until(
            lambda: viewer.established or viewer.closed, changed, opening.seconds_to_wait
        )
        first = opening.first_chunk(viewer, established=established)
        takeover.record()
        yield first
        connection = await takeover.take(first)
        if connection is not None:
            opening.adopt(connection)
            self.disconnected = True
            await takeover.disconnected()
            return
        self._service.note_not_taken_over(takeover.refusal)
        if self._on_fallback is not None:
            await self._on_fallback()
        if resets := opening.resets():
            yield resets
        async with aclosing(self._backlog(viewer, changed)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _backlog(self, viewer: Viewer, changed: asyncio.Event) -> AsyncGenerator[bytes, None]:
        """Yield what waits for a viewer that has no connection of its own, until the stream ends."""
        left = asyncio.ensure_future(_disconnected(self._receive, changed)) if self._receive else None
        try:
            while not (viewer.closed or (viewer.finished and not viewer.backlog)):
                if left is not None and left.done():
                    self.disconnected = True
                    return
                changed.clear()
                if data := viewer.take(0):
                    yield data
                elif not await _wait_until(
                    lambda: bool(
                        viewer.backlog or viewer.finished or viewer.closed or (left and left.done())
                    ),
                    changed,
                    self._service.settings.heartbeat,
                ):
                    yield sse.HEARTBEAT
                if viewer.full:
                    self._service.loop.announce_room(viewer)
        finally:
            if left is not None:
                left.cancel()


def _setter_of(event: asyncio.Event) -> Callable[[], None]:
    """Return a function that sets `event` from any thread."""
    loop = asyncio.get_running_loop()

    def set_event() -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            loop.call_soon_threadsafe(event.set)

    return set_event


async def _wait_until(condition: Callable[[], bool], changed: asyncio.Event, timeout: float) -> bool:
    """Wait up to `timeout` seconds until `condition` holds; return whether it does."""
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while not condition():
                await changed.wait()
                changed.clear()
    return condition()


async def _disconnected(receive: Receive, changed: asyncio.Event) -> None:
    """Wait until the client has left, and set `changed`."""
    while (await receive())["type"] != "http.disconnect":
        pass
    changed.set()
