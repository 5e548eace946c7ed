"""Every error as `application/problem+json` (RFC 9457)."""

import json
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app
from kombu.exceptions import OperationalError
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, SecurityError

from bridge import BridgeError


class Problem(HTTPException):
    """An error with members of its own, such as the list of what is wrong with a request."""

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
        detail = f"The request is too large; a file may have {current_app.config['MAX_UPLOAD_BYTES']} bytes."
    if isinstance(error, SecurityError):
        detail = "This application has no such host name. TRUSTED_HOSTS in its environment says which it has."
    response = problem(error.code, detail, **members)
    for name, value in error.get_headers():
        if name.lower() not in ("content-type", "content-length"):
            response.headers[name] = value
    return response


def _bridge(error: BridgeError) -> Response:
    current_app.logger.warning("the bridge's backend failed: %s", error)
    return problem(503, "The bridge's backend cannot be reached. Try again later.")


def _broker(error: OperationalError) -> Response:
    current_app.logger.warning("the Celery broker failed: %s", error)
    return problem(503, "The task broker cannot be reached; nothing was started. Try again later.")
