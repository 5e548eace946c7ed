"""The monitor in a Flask application."""

from collections.abc import Callable
from typing import NamedTuple

from bridge.errors import needs_extra
from bridge.flask.requests import asked_by_request
from bridge.monitor.http import Answer, Request
from bridge.monitor.monitor import Monitor, Rights, Step
from bridge.streams.access.authorization import Decide
from bridge.streams.refusal import Refusal
from bridge.streams.service import StreamService
from bridge.streams.takeover.wsgi import close_after_response
from bridge.streams.wsgi import WSGIStream
from bridge.tasks.events import FEED

with needs_extra("bridge.flask", "flask"):
    from flask import Flask, Response, redirect, request


class Deciding(NamedTuple):
    """Returns the functions of the application that decide, as they are now, and keeps a request."""

    may_read: Callable[[], Decide | None]
    may_cancel: Callable[[], Decide | None]
    remember: Callable[[], Decide]


def mount(app: Flask, path: str, monitor: Monitor, service: StreamService, deciding: Deciding) -> None:
    """Add the routes of `monitor` below `path`, which begins with a slash and does not end with one."""

    def respond(name: str = "") -> Response:
        return _respond(monitor, service, deciding, name)

    def add_slash() -> Response:
        query = request.query_string.decode("latin-1")
        target = f"{path.rpartition('/')[2]}/" + (f"?{query}" if query else "")
        response = redirect(target, 308)
        response.autocorrect_location_header = False
        return response  # type: ignore[return-value]  # `redirect` returns the response class of Flask

    name = f"bridge_monitor:{path}"
    app.add_url_rule(path, f"{name}:slash", add_slash, methods=["GET"])
    methods = ["GET", "POST", "DELETE"]
    app.add_url_rule(f"{path}/", name, respond, methods=methods)
    app.add_url_rule(f"{path}/<path:name>", name, respond, methods=methods)


def _respond(monitor: Monitor, service: StreamService, deciding: Deciding, name: str) -> Response:
    asked_for = Request(
        request.method, f"/{name}", request.query_string.decode("latin-1"), request.headers.get
    )
    step: Step | None = None
    try:
        step = monitor.route(asked_for)
        if step.answer is not None:
            return _response(step.answer)
        asked, may_read, may_cancel = asked_by_request(), deciding.may_read(), deciding.may_cancel()
        permission = service.authorizer.permit((FEED,), asked, may_read)
        if step.cancels is not None:
            service.authorizer.check_cancel(step.cancels, permission.claims, may_cancel)
        if step.topics:
            topics = service.check_topics(step.topics)
            key = service.viewer_key(request) if service.viewer_key is not None else None
            answer = service.answer(
                topics, asked, permission, key=key, remember=deciding.remember, decided=(FEED,)
            )
            body = () if answer.opening is None else WSGIStream(service, answer.opening, request.environ)
            return Response(body, answer.status, answer.headers, direct_passthrough=True)
        rights = Rights(service.authorizer.may_cancel_some(permission.claims, may_cancel))
        return _response(monitor.run(step, rights))
    except Refusal as refusal:
        if refusal.close_connection:
            close_after_response(request.environ)
        return _response(monitor.refused(step, refusal))


def _response(answer: Answer) -> Response:
    return Response(answer.body, answer.status, answer.headers)
