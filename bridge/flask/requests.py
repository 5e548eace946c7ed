"""What the streams need to know of the request that Flask handles."""

from bridge.errors import needs_extra
from bridge.streams.limits import Client
from bridge.streams.request import StreamRequest

with needs_extra("bridge.flask", "flask"):
    from flask import has_request_context, request


def asked_by_request() -> StreamRequest:
    """Return what the streams need to know of this request. In a command line there is none."""
    if not has_request_context():
        return StreamRequest("GET", None, "", Client())
    environ = request.environ
    return StreamRequest(
        request.method,
        environ.get("HTTP_LAST_EVENT_ID"),
        environ.get("QUERY_STRING", ""),
        Client(request.remote_addr or ""),
        environ.get("HTTP_AUTHORIZATION"),
        environ.get("HTTP_COOKIE"),
    )
