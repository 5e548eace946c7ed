"""What is kept of a request while its stream is open, to ask again whether it may read.

It must hold no socket and few bytes, because there is one for each viewer.
"""

import io
import sys
from collections.abc import Mapping

# `Any` in this module: the values of a WSGI environ and of an ASGI scope.
from typing import Any

from bridge.streams.refusal import Refusal

LARGEST = 64 * 1024
"""Characters of names and values that are kept of one request."""


def kept_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts of a WSGI environ, with an empty body. Raises `Refusal` (431) if they are too long."""
    kept = {name: value for name, value in environ.items() if isinstance(value, str)}
    _check_size(sum(map(len, kept)) + sum(map(len, kept.values())))
    return {
        **kept,
        "wsgi.version": (1, 0),
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }


def kept_scope(scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return an ASGI scope without what the server put into it. Raises `Refusal` (431) if it is too long."""
    headers = list(scope.get("headers", ()))
    _check_size(sum(len(name) + len(value) for name, value in headers) + len(scope.get("query_string", b"")))
    return {**scope, "headers": headers, "extensions": {}}


def _check_size(size: int) -> None:
    if size > LARGEST:
        raise Refusal(431, f"the headers of a request for this stream may have {LARGEST} characters")


def ends_stream(status: int) -> bool:
    """Return whether an HTTP error says that the viewer may not go on, rather than to try again later."""
    return 400 <= status < 500 and status not in (408, 429)


def not_allowed_any_more() -> Refusal:
    """Return what ends a stream about which the application was asked again."""
    return Refusal(403, "you may not read this topic any more")
