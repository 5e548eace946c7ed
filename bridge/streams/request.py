"""StreamRequest: what the streams need to know of an HTTP request, whatever framework it comes from."""

from typing import NamedTuple

from bridge.streams.limits import Client


class StreamRequest(NamedTuple):
    """A request for a stream, or for something else that needs a permission. Its repr shows no secret."""

    method: str
    last_event_id: str | None
    """The `Last-Event-ID` header."""
    query_string: str
    """The part of the URL after `?`, not decoded."""
    client: Client
    authorization: str | None = None
    """The `Authorization` header."""
    cookies: str | None = None
    """The `Cookie` header."""

    def __repr__(self) -> str:
        return f"StreamRequest({self.method} of {self.client.address or 'unknown'})"
