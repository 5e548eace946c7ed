"""What views call: `stream` for a response, the others for snapshots and figures."""

import asyncio
from collections.abc import Awaitable
from functools import partial

# `Any` in this module: a snapshot is JSON, and Django has no types.
from typing import Any

from asgiref.sync import async_to_sync, sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.http.response import HttpResponseBase
from django.utils.asyncio import async_unsafe

from bridge.django.configuration import Authorize, Configured, configured
from bridge.django.responses import DeferredResponse, StreamResponse, refused
from bridge.errors import ConfigurationError
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.service import MayRead, StreamRequest, StreamService
from bridge.streams.takeover.asgi import ASGIApplication, Receive, Scope, Send, remember_connection
from bridge.tasks import events


def stream(request: Any, *topics: str, after: str | None = None) -> HttpResponseBase:
    """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

    It continues where the viewer's `Last-Event-ID` header, or else the query's `last_event_id`, or else
    `after` says: an id, or `BEGINNING`. Without any, a task opens with a `snapshot`, another topic with what
    is published from now on. A cursor that is not kept any more gives a `reset` and a `snapshot`.

    The stream of a task closes after its `end`; asked for again after that, the answer is 204, upon which
    browsers stop. A request is refused with 403 unless it may read, with 404 for a bad topic name, and with a
    `Retry-After` with 429 or 503 over a limit. Raises `ValueError` for no topic, `ConfigurationError`, and
    what the function of `AUTHORIZE` raises.

    An async view returns the result without awaiting it; the function is called afterwards.
    """
    if not topics:
        raise ValueError("stream() takes at least one topic")
    current = configured()
    if not hasattr(request, "META") or not (hasattr(request, "scope") or hasattr(request, "environ")):
        raise ConfigurationError(
            f"stream() takes the request of a Django view first, not {type(request).__name__}: "
            "stream(request, topic)"
        )
    if current.authorize is not None and _in_event_loop():
        return DeferredResponse(partial(_respond, current, request, topics, after, awaits=True))
    return _respond(current, request, topics, after, awaits=hasattr(request, "scope"))


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def tasks(request: Any, limit: int = 100) -> list[dict[str, Any]]:
    """Return the snapshots of the last `limit` tasks, the newest first.

    Raises `ConnectionLost`, and Django's `PermissionDenied` (403) unless reading the feed is allowed.
    """
    return _readable(request, events.FEED).tasks(limit)


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def task(request: Any, task_id: str) -> dict[str, Any] | None:
    """Return the snapshot of a task, or `None` if nothing is known of it.

    Raises `ConnectionLost`, Django's `Http404` for a bad id, and `PermissionDenied` (403) unless reading the
    task's topic is allowed.
    """
    return _readable(request, events.task_topic(task_id)).task(task_id)


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def ping() -> None:
    """Raise `ConnectionLost` if the backend cannot be reached."""
    configured().service.ping()


async def atasks(request: Any, limit: int = 100) -> list[dict[str, Any]]:
    """Do what `tasks` does, for async views."""
    found: list[dict[str, Any]] = await sync_to_async(tasks)(request, limit)
    return found


async def atask(request: Any, task_id: str) -> dict[str, Any] | None:
    """Do what `task` does, for async views."""
    found: dict[str, Any] | None = await sync_to_async(task)(request, task_id)
    return found


async def aping() -> None:
    """Do what `ping` does, for async views."""
    await sync_to_async(ping)()


def stats() -> dict[str, int]:
    """Return what this process counts, by name."""
    return configured().service.stats()


def why_plain() -> str | None:
    """Return why a stream of this process had to stay with the web server, `None` if none had to."""
    return configured().service.not_taken_over


def wrap(application: ASGIApplication) -> ASGIApplication:
    """Return an ASGI application that lets connections be taken over: the outermost one of `asgi.py`.

    Write `application = bridge.django.wrap(get_asgi_application())`.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            remember_connection(scope, receive, send)
        await application(scope, receive, send)

    return wrapped


def _in_event_loop() -> bool:
    """Return whether this is a coroutine, which must not wait for a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _respond(
    current: Configured, request: Any, topics: tuple[str, ...], after: str | None, *, awaits: bool
) -> HttpResponseBase:
    service = current.service
    meta = request.META
    asked = StreamRequest(
        request.method,
        meta.get("HTTP_LAST_EVENT_ID"),
        meta.get("QUERY_STRING", ""),
        Client(meta.get("REMOTE_ADDR") or ""),
    )
    try:
        topics = service.check_topics(topics)
        service.check_readable(topics, _may_read(current.authorize, request, awaits=awaits))
        answer = service.answer(topics, asked, after=after)
    except Refusal as refusal:
        return refused(refusal, request)
    return StreamResponse(service, answer, request)


def _readable(request: Any, topic: str) -> StreamService:
    """Return the service if `topic` may be read. Raises what Django answers with 403 or 404."""
    service, authorize = configured()
    try:
        service.check_readable((topic,), _may_read(authorize, request, awaits=hasattr(request, "scope")))
    except Refusal as refusal:
        error = Http404 if refusal.status == 404 else PermissionDenied
        raise error(refusal.detail) from None
    return service


def _may_read(authorize: Authorize | None, request: Any, *, awaits: bool) -> MayRead | None:
    """Return the decision about `request`. Only with `awaits` it may be a coroutine function's."""
    if authorize is None:
        return None

    def may_read(topic: str) -> object:
        try:
            decision = authorize(request, topic)
        except StopIteration as error:  # no future takes it: the event loop would wait for ever
            raise RuntimeError("AUTHORIZE raised StopIteration") from error
        if awaits and isinstance(decision, Awaitable):
            return async_to_sync(_result)(decision)
        return decision

    return may_read


async def _result(decision: Awaitable[object]) -> object:
    return await decision
