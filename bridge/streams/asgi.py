"""A stream as the response of an ASGI application.

As soon as the head is sent, the connection is taken over from the server and given to the loop, and the
request is finished: a viewer needs no task and no buffer in the server. Where a takeover is not possible, one
coroutine per viewer sends what the loop puts into the viewer's backlog.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from bridge.streams import sse
from bridge.streams.opening import Opening
from bridge.streams.service import Answer, StreamService
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send, Takeover
from bridge.streams.viewer import Viewer


async def send_answer(
    service: StreamService, answer: Answer, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send `answer`, with its stream if it has one, until the viewer leaves or is taken over."""
    headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers.items()]
    head: Message = {"type": "http.response.start", "status": answer.status, "headers": headers}
    if answer.opening is None:
        await send(head)
        await send({"type": "http.response.body", "body": b""})
        return
    try:
        await _stream(service, answer.opening, head, scope, receive, send)
    finally:
        answer.opening.close()


async def _stream(
    service: StreamService, opening: Opening, head: Message, scope: Scope, receive: Receive, send: Send
) -> None:
    viewer = opening.open()
    if viewer is None:
        await send(head)
        await send({"type": "http.response.body", "body": b""})
        return
    changed = asyncio.Event()
    viewer.on_change = _setter_of(changed)
    established = await _wait_until(
        lambda: viewer.established or viewer.closed, changed, opening.seconds_to_wait
    )
    takeover = Takeover(scope, receive, send)
    connection = await takeover.take(send, head, opening.first_chunk(viewer, established=established))
    if connection is not None:
        opening.adopt(connection)
        await takeover.disconnected()
        return
    service.note_not_taken_over(takeover.refusal)
    if resets := opening.resets():
        await send({"type": "http.response.body", "body": resets, "more_body": True})
    await _send_backlog(service, viewer, changed, receive, send)


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


async def _send_backlog(
    service: StreamService, viewer: Viewer, changed: asyncio.Event, receive: Receive, send: Send
) -> None:
    """Send what waits for a viewer that has no connection of its own, until it leaves or the stream ends."""
    left = asyncio.ensure_future(_disconnected(receive, changed))
    try:
        while not (left.done() or viewer.closed or (viewer.finished and not viewer.backlog)):
            changed.clear()
            data = viewer.take(0)
            if not data:
                ready = await _wait_until(
                    lambda: bool(viewer.backlog or viewer.finished or viewer.closed or left.done()),
                    changed,
                    service.settings.heartbeat,
                )
                if ready:
                    continue
                data = sse.HEARTBEAT
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if viewer.full:
                service.loop.announce_room(viewer)
        if not left.done():
            await send({"type": "http.response.body", "body": b""})
    finally:
        left.cancel()


async def _disconnected(receive: Receive, changed: asyncio.Event) -> None:
    """Wait until the client has left, and set `changed`."""
    while (await receive())["type"] != "http.disconnect":
        pass
    changed.set()
