"""Answers every error as `application/problem+json` (RFC 9457)."""

import json
from http import HTTPStatus

# `Any` in this module: the additional members of a problem document are any JSON.
from typing import Any

from flask import Flask, Response, current_app
from kombu.exceptions import OperationalError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError

from bridge import BridgeError


class Problem(HTTPException):
    """An error with additional members, such as a list of invalid arguments."""

    def __init__(self, status: int, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.code = status
        self.members = members


def problem(status: int, detail: str | None, **members: Any) -> Response:
    title = HTTPStatus(status).phrase
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return Response(json.dumps(body), status, content_type="application/problem+json")


def init_app(app: Flask) -> None:
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(BridgeError, _bridge)
    app.register_error_handler(OperationalError, _broker)


def _http(error: HTTPException) -> Response | HTTPException:
    if error.code is None or error.code < 400:
        return error
    members = error.members if isinstance(error, Problem) else {}
    detail = error.description
    if isinstance(error, RequestEntityTooLarge):
        limit = current_app.config["MAX_UPLOAD_BYTES"]
        detail = f"The request is too large. A file may have at most {limit} bytes."
    if isinstance(error, SecurityError):
        detail = (
            "This host name is not trusted. Add it to TRUSTED_HOSTS in the environment of the application."
        )
    response = problem(error.code, detail, **members)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _bridge(error: BridgeError) -> Response:
    current_app.logger.warning("the backend of the bridge failed: %s", error)
    return problem(503, "The backend of the bridge cannot be reached. Try again later.")


def _broker(error: OperationalError) -> Response:
    current_app.logger.warning("the broker of Celery failed: %s", error)
    return problem(503, "The broker of Celery cannot be reached. No task was started. Try again later.")
