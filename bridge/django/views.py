"""What views call: `stream` for a response, the others for snapshots and figures."""

import asyncio
from collections.abc import Iterable, Mapping
from functools import partial

# `Any` in this module: a snapshot is JSON, and Django has no types.
from typing import Any

from asgiref.sync import sync_to_async
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.http.response import HttpResponseBase
from django.utils.asyncio import async_unsafe

from bridge.django.configuration import Configured, configured, in_use
from bridge.django.deciding import deciding, remembered
from bridge.django.responses import DeferredResponse, StreamResponse, refused
from bridge.errors import ConfigurationError
from bridge.streams.asgi_body import hold_head
from bridge.streams.lifespan import Lifespan, end_streams
from bridge.streams.limits import Client
from bridge.streams.refusal import Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.service import StreamService
from bridge.streams.takeover.asgi import ASGIApplication, Receive, Scope, Send, remember_connection
from bridge.tasks import events


class Refused(PermissionDenied):  # type: ignore[misc]  # Django has no types
    """A request may not do something. Django answers 403; `status` is 401 if a token is needed or not valid,
    and 503 if the keys that verify tokens cannot be fetched.
    """

    status: int
    headers: Mapping[str, str]
    """The headers for an answer of your own: `HttpResponse(error, status=..., headers=...)`."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.status, self.headers = refusal.status, refusal.headers


class NoTopic(Http404, ValueError):  # type: ignore[misc]  # Django has no types
    """A stream of no topic: in most views the query names the topics, so that the answer is 404."""


def stream(request: Any, *topics: str, after: str | None = None) -> HttpResponseBase:
    """Return the response that streams `topics` as Server-Sent Events, until the viewer leaves.

    It continues where the viewer's `Last-Event-ID` header, or else the query's `last_event_id`, or else
    `after` says: an id, or `BEGINNING`. Without any, a task opens with a `snapshot`, another topic with what
    is published from now on. A cursor that is not kept any more gives a `reset` and a `snapshot`.

    The stream of a task closes after its `end`; asked for again after that, the answer is 204, upon which
    browsers stop. It ends with the event `expired` when the token that allowed it does. A request is refused
    with 401 for a token that is not valid, with 403 unless it may read, with 404 for a bad topic name, and
    with a `Retry-After` with 429 or 503 over a limit. Raises `NoTopic` (404), `ConfigurationError`,
    and what the function of `AUTHORIZE` raises.

    An async view returns the result without awaiting it; the function is called afterwards.
    """
    if not topics:
        raise NoTopic("stream() takes at least one topic, for example ?topic=task:ID of the query")
    current = configured()
    if not hasattr(request, "META") or not (hasattr(request, "scope") or hasattr(request, "environ")):
        raise ConfigurationError(
            f"stream() takes the request of a Django view first, not {type(request).__name__}: "
            "stream(request, topic)"
        )
    if _in_event_loop() and _may_wait(current):
        return DeferredResponse(partial(_respond, current, request, topics, after, awaits=True))
    return _respond(current, request, topics, after, awaits=hasattr(request, "scope"))


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def tasks(request: Any, limit: int = 100, *, tag: str | None = None) -> list[dict[str, Any]]:
    """Return the snapshots of the last `limit` tasks, or of those with `tag`, the newest first.

    Raises `ConnectionLost`, Django's `Http404` for a bad tag, and `PermissionDenied` (403) unless reading the
    feed is allowed: `bridge.tag_topic(tag)`, or without `tag` the feed of all tasks.
    """
    feed = events.feed_of(tag)
    return _readable(request, feed).tasks(limit, feed)


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


def token(
    *topics: str,
    prefix: str | Iterable[str] | None = None,
    tag: str | Iterable[str] | None = None,
    expires: float = 900,
    subject: str | None = None,
    may: str | Iterable[str] = ("read",),
) -> str:
    """Return a signed token for `topics`, for all topics that begin with `prefix`, and for the feed of `tag`,
    of each one or several. It counts for `expires` seconds.

    `subject` says whose it is: streams are limited and revoked by it. `may` is "read", "cancel" or both.
    Raises `ValueError` for a bad argument, and `ConfigurationError` without a key that signs.
    """
    return configured().service.authorizer.make_token(
        topics, prefix=prefix, tag=tag, expires=expires, subject=subject, may=may
    )


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def revoke(*, subject: str | None = None, token_id: str | None = None, topic: str | None = None) -> None:
    """Refuse tokens until they would have expired, and end their streams, in every process: by `subject`
    and `topic` those that were issued until now, by `token_id` the one with that `jti`. `topic` ends
    streams without a token too. Raises `PublishError` if the backend did not take it.
    """
    configured().service.revoke(subject=subject, token_id=token_id, topic=topic)


async def arevoke(
    *, subject: str | None = None, token_id: str | None = None, topic: str | None = None
) -> None:
    """Do what `revoke` does, for async views."""
    await sync_to_async(revoke)(subject=subject, token_id=token_id, topic=topic)


@async_unsafe  # type: ignore[untyped-decorator]  # Django has no types
def check_cancel(request: Any, task_id: str) -> None:
    """Raise an error unless `request` may cancel a task: by its token, or as the function of the setting
    `AUTHORIZE_CANCEL` decides. The right to read never includes the right to cancel.

    The errors are `Refused`, a `PermissionDenied`, and `Http404` for a bad id.
    """
    service, _, authorize_cancel, _ = configured()
    may_cancel = deciding(authorize_cancel, request, awaits=hasattr(request, "scope"))
    try:
        service.authorizer.check_cancel(task_id, service.authorizer.claims(asked_by(request)), may_cancel)
    except Refusal as refusal:
        raise _error(refusal) from None


async def acheck_cancel(request: Any, task_id: str) -> None:
    """Do what `check_cancel` does, for async views."""
    await sync_to_async(check_cancel)(request, task_id)


async def atasks(request: Any, limit: int = 100, *, tag: str | None = None) -> list[dict[str, Any]]:
    """Do what `tasks` does, for async views."""
    found: list[dict[str, Any]] = await sync_to_async(tasks)(request, limit, tag=tag)
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

    It also ends all streams on shutdown, before the server ends the process. Write
    `application = bridge.django.wrap(get_asgi_application())`.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await Lifespan(receive, send, _end).run(application, scope)
            return
        if scope["type"] == "http":
            remember_connection(scope, receive, send)
            send = hold_head(scope, send)
        await application(scope, receive, send)

    return wrapped


async def _end() -> None:
    """End all streams."""
    current = in_use()
    if current is not None:
        await end_streams(current.service.loop)


def _may_wait(current: Configured) -> bool:
    """Return whether functions of the project decide, or a token may have to wait."""
    service = current.service
    return service.authorizer.may_wait() or current.authorize is not None or service.viewer_key is not None


def _in_event_loop() -> bool:
    """Return whether this is a coroutine, which must not wait for a database."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def asked_by(request: Any) -> StreamRequest:
    """Return what the streams need to know of `request`."""
    meta = request.META
    return StreamRequest(
        request.method,
        meta.get("HTTP_LAST_EVENT_ID"),
        meta.get("QUERY_STRING", ""),
        Client(meta.get("REMOTE_ADDR") or ""),
        meta.get("HTTP_AUTHORIZATION"),
        meta.get("HTTP_COOKIE"),
    )


def _respond(
    current: Configured, request: Any, topics: tuple[str, ...], after: str | None, *, awaits: bool
) -> HttpResponseBase:
    service, authorize = current.service, current.authorize
    asked = asked_by(request)
    try:
        with service.loop.counts.request():
            topics = service.check_topics(topics)
            permission = service.authorizer.permit(topics, asked, deciding(authorize, request, awaits=awaits))
            answer = service.answer(
                topics,
                asked,
                permission,
                key=None if service.viewer_key is None else service.viewer_key(request),
                remember=None if authorize is None else partial(remembered, authorize, request),
                after=after,
            )
    except Refusal as refusal:
        return refused(refusal, request)
    return StreamResponse(service, answer, request)


def _readable(request: Any, topic: str) -> StreamService:
    """Return the service if `topic` may be read. Raises what Django answers with 403 or 404."""
    service, authorize, _, _ = configured()
    may_read = deciding(authorize, request, awaits=hasattr(request, "scope"))
    try:
        service.authorizer.permit((topic,), asked_by(request), may_read)
    except Refusal as refusal:
        raise _error(refusal) from None
    return service


def _error(refusal: Refusal) -> Exception:
    return Http404(refusal.detail) if refusal.status == 404 else Refused(refusal)
