"""The monitor in an ASGI application."""

import asyncio

# `Any` in this module: an application of any framework.
from typing import Any

from bridge.asgi.client import path_in_app, send_file
from bridge.asgi.requests import Requests
from bridge.monitor.http import Answer, Request
from bridge.monitor.monitor import Monitor, Rights, Step
from bridge.streams.asgi import send_answer
from bridge.streams.refusal import Refusal
from bridge.streams.service import StreamService
from bridge.streams.takeover.asgi import ASGIApplication, Receive, Scope, Send
from bridge.tasks.events import FEED

try:
    from starlette.routing import Mount, Route
except ImportError:  # another framework
    Mount = Route = None  # type: ignore[assignment, misc]  # checked before they are used


def mounted(app: Any, path: str, monitor: Monitor, service: StreamService, requests: Requests) -> Any:
    """Serve `monitor` below `path`; return `app` if it is one of Starlette or FastAPI, else a wrapper."""
    respond = monitor_application(monitor, service, requests)

    async def add_slash(scope: Scope, receive: Receive, send: Send) -> None:
        await _send(_with_slash(path, scope), scope, send)

    if Route is not None and hasattr(app, "build_middleware_stack"):
        # Starlette calls an endpoint that is neither a function nor a method as an ASGI application.
        app.router.routes.append(Route(path, _Endpoint(add_slash), include_in_schema=False))
        app.router.routes.append(Mount(path, respond))
        return app

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        found = path_in_app(scope) if scope["type"] == "http" else ""
        if found == path:
            await add_slash(scope, receive, send)
        elif found.startswith(f"{path}/"):
            name = found.removeprefix(path)
            await _respond(monitor, service, requests, name, scope, receive, send)
        else:
            await app(scope, receive, send)

    return wrapped


def monitor_application(monitor: Monitor, service: StreamService, requests: Requests) -> ASGIApplication:
    """Return `monitor` as an application to mount."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        await _respond(monitor, service, requests, path_in_app(scope) or "/", scope, receive, send)

    return respond


class _Endpoint:
    """An ASGI application that is no function."""

    def __init__(self, application: ASGIApplication) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._application(scope, receive, send)


def _with_slash(path: str, scope: Scope) -> Answer:
    """Return the answer that leads to `path/`, wherever a proxy has put it."""
    query = scope.get("query_string", b"").decode("latin-1")
    target = f"{path.rpartition('/')[2]}/" + (f"?{query}" if query else "")
    return Answer(308, {"Location": target, "Content-Type": "text/plain"}, b"")


async def _respond(
    monitor: Monitor,
    service: StreamService,
    requests: Requests,
    name: str,
    scope: Scope,
    receive: Receive,
    send: Send,
) -> None:
    headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
    asked_for = Request(
        scope["method"],
        name,
        scope.get("query_string", b"").decode("latin-1"),
        lambda header: headers.get(header.lower()),
    )
    step: Step | None = None
    try:
        step = monitor.route(asked_for)
        if step.answer is not None:
            await _send(step.answer, scope, send)
            return
        permission = await requests.permit_feed(scope)
        if step.cancels is not None:
            await requests.check_cancel(step.cancels, permission.claims, scope)
        if not step.topics:
            may_cancel = requests.authorize_cancel
            rights = Rights(service.authorizer.may_cancel_some(permission.claims, may_cancel))
            await _send(await asyncio.to_thread(monitor.run, step, rights), scope, send)
            return
        stream = await requests.answer_permitted(step.topics, permission, scope, (FEED,))
    except Refusal as refusal:
        await _send(monitor.refused(step, refusal), scope, send, close=refusal.close_connection)
        return
    await send_answer(service, stream, [], scope, receive, send)


async def _send(answer: Answer, scope: Scope, send: Send, *, close: bool = False) -> None:
    await send_file(answer, scope, send, {"Connection": "close"} if close else {})
