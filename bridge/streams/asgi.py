"""A stream as the response of an ASGI application.

As soon as the head is sent, the connection is taken over from the server and given to the loop, and the
request is finished: a viewer needs no task and no buffer in the server. Where a takeover is not possible, a
coroutine sends what the loop puts into the viewer's backlog.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import suppress

from bridge.errors import ConfigurationError
from bridge.streams.limits import Client
from bridge.streams.opening import Opening
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.service import HEADERS, Answer, StreamService
from bridge.streams.takeover.asgi import Message, Receive, Scope, Send, Takeover
from bridge.streams.viewer import Viewer

CLOSE_WITHIN = 1.0
"""Seconds after which a send to a client that was cut off is given up."""

Headers = list[tuple[bytes, bytes]]


def read_request(scope: Scope) -> StreamRequest:
    """Return what a request says about its stream. Raises `ConfigurationError` for a WebSocket."""
    if scope["type"] != "http":
        raise ConfigurationError(
            f"stream() answers HTTP requests, and this is a {scope['type']} connection; "
            "use bridge.aio.watch or bridge.aio.subscribe for a WebSocket"
        )
    return read_connection(scope)


def read_connection(scope: Scope) -> StreamRequest:
    """Return what the streams need to know of a request or a WebSocket."""
    headers = dict(scope["headers"])
    last_event_id = headers.get(b"last-event-id")
    authorization, cookies = headers.get(b"authorization"), headers.get(b"cookie")
    if cookies is not None:  # HTTP/2 may send them in several headers
        cookies = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
    client = scope.get("client")
    return StreamRequest(
        scope.get("method", "GET"),
        None if last_event_id is None else last_event_id.decode("utf-8", "replace"),
        scope.get("query_string", b"").decode("latin-1"),
        Client(client[0] if client else ""),
        None if authorization is None else authorization.decode("latin-1"),
        None if cookies is None else cookies.decode("latin-1"),
    )


def refusal_content(refusal: Refusal) -> tuple[bytes, dict[str, str]]:
    """Return the body and the headers of the answer that says what `refusal` says, as JSON like FastAPI's."""
    body = json.dumps({"detail": refusal.detail}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    headers.update((name.lower(), value) for name, value in refusal.headers.items())
    if refusal.close_connection:
        headers["connection"] = "close"
    return body, headers


async def send_refusal(refusal: Refusal, extra: Headers, send: Send) -> None:
    """Send `refusal`, with the headers `extra`."""
    body, headers = refusal_content(refusal)
    await send(_head(refusal.status, headers, extra))
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Mapping[str, str]) -> Headers:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


_STREAM_HEADERS = _encoded(HEADERS)


def _head(status: int, headers: Mapping[str, str], extra: Headers) -> Message:
    encoded = _STREAM_HEADERS if headers is HEADERS else _encoded(headers)
    return {"type": "http.response.start", "status": status, "headers": [*encoded, *extra]}


async def send_answer(
    service: StreamService, answer: Answer, extra: Headers, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send `answer` with the headers `extra`, and its stream until the viewer leaves or is taken over."""
    head = _head(answer.status, answer.headers, extra)
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
    established = viewer.established
    if not established:
        viewer.on_change = in_event_loop(changed.set)
        established = await wait_until(
            lambda: viewer.established or viewer.closed, changed, opening.seconds_to_wait
        )
    takeover = Takeover(scope, receive, send)
    head["headers"] += takeover.headers
    connection = await takeover.take(send, head, opening.first_chunk(viewer, established=established))
    if connection is not None:
        opening.adopt(connection)
        await takeover.disconnected()
        return
    if takeover.refusal is not None:
        service.note_not_taken_over(takeover.refusal)
    sending = asyncio.ensure_future(_send_backlog(service, viewer, changed, opening.resets(), send))
    await _send_until_closed(viewer, changed, sending, takeover, receive)


async def _send_until_closed(
    viewer: Viewer,
    changed: asyncio.Event,
    sending: asyncio.Task[None],
    takeover: Takeover,
    receive: Receive,
) -> None:
    """Wait until everything is sent, the client has left, or was cut off because it does not read."""

    def wake() -> None:
        changed.set()
        if viewer.closed:  # `sending` ends by itself, unless the client does not read
            asyncio.get_running_loop().call_later(CLOSE_WITHIN, sending.cancel)

    viewer.on_change = in_event_loop(wake)
    left = asyncio.ensure_future(_disconnected(receive))
    try:
        await asyncio.wait((sending, left), return_when=asyncio.FIRST_COMPLETED)
        if sending.cancelled():
            if takeover.abort():
                await left
        elif sending.done():
            sending.result()
    finally:
        viewer.on_change = None
        left.cancel()
        sending.cancel()


def in_event_loop(call: Callable[[], None]) -> Callable[[], None]:
    """Return a function that any thread may use to have `call` called in this event loop."""
    loop = asyncio.get_running_loop()

    def call_soon() -> None:
        with suppress(RuntimeError):  # the event loop is closed: nobody waits
            loop.call_soon_threadsafe(call)

    return call_soon


async def wait_until(condition: Callable[[], bool], changed: asyncio.Event, timeout: float) -> bool:
    """Wait up to `timeout` seconds until `condition` holds; return whether it does."""
    if condition():
        return True
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            while not condition():
                await changed.wait()
                changed.clear()
    return condition()


async def _send_backlog(
    service: StreamService, viewer: Viewer, changed: asyncio.Event, resets: bytes, send: Send
) -> None:
    """Send `resets`, then what waits for a viewer without a connection of its own, until its stream ends."""
    data = resets
    while True:
        if data:
            await send({"type": "http.response.body", "body": data, "more_body": True})
            if viewer.full:
                service.loop.announce_room(viewer)
        if viewer.closed or (viewer.finished and not viewer.backlog):
            break
        changed.clear()
        data = viewer.take(0)
        if not data:
            waited = await wait_until(
                lambda: bool(viewer.backlog or viewer.finished or viewer.closed),
                changed,
                service.settings.heartbeat,
            )
            data = b"" if waited else service.loop.silence
    await send({"type": "http.response.body", "body": b""})


async def _disconnected(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
