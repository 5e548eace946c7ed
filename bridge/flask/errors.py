"""The HTTP errors of a request that is refused, as Flask answers them."""

# `Any` in this module: the arguments of werkzeug's `get_headers`.
from typing import Any

from bridge.errors import needs_extra
from bridge.streams.refusal import Refusal
from bridge.streams.takeover.wsgi import close_after_response

with needs_extra("bridge.flask", "flask"):
    from flask import request
    from werkzeug.exceptions import (
        Forbidden,
        HTTPException,
        NotFound,
        ServiceUnavailable,
        TooManyRequests,
        Unauthorized,
        default_exceptions,
    )


class BadTopic(NotFound, ValueError):
    """No topic, or a name that is not valid: in most apps a part of the URL, so that the answer is 404."""


class _Challenge(HTTPException):
    """An error with a `WWW-Authenticate` header, which is the same from every framework."""

    challenge = ""

    # The arguments are werkzeug's.
    def get_headers(self, *arguments: Any, **options: Any) -> list[tuple[str, str]]:
        """Return the headers of the response."""
        return [*super().get_headers(*arguments, **options), ("WWW-Authenticate", self.challenge)]


class TokenNeeded(_Challenge, Unauthorized):
    """A token is needed, or the one that was sent is not valid."""


class InsufficientScope(_Challenge, Forbidden):
    """The token of a request is valid, but not for this."""


def http_error(refusal: Refusal) -> HTTPException:
    """Return the exception that Flask answers with what `refusal` says."""
    if refusal.close_connection:
        close_after_response(request.environ)
    detail = refusal.detail
    match refusal.status:
        case 401 | 403 if refusal.challenge is not None:
            error = TokenNeeded(detail) if refusal.status == 401 else InsufficientScope(detail)
            error.challenge = refusal.challenge
            return error
        case 404:
            return BadTopic(detail)
        case 429:
            return TooManyRequests(detail, retry_after=refusal.retry_after)
        case 503:
            return ServiceUnavailable(detail, retry_after=refusal.retry_after)
        case status:
            return default_exceptions[status](detail)
