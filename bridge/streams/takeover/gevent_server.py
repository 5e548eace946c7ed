"""What a takeover has to know of gevent: where its WSGI server keeps the socket, and how its loop polls it.

gevent is not imported unless a server runs on it. It has no types here, so its objects are `Any`.
"""

import os
import sys
from contextlib import suppress

# `Any` in this module: gevent has no types here, because it is not imported unless a server runs on it.
from typing import Any


def request_buffer(environ: dict[str, Any]) -> Any:
    """Return the buffer that gevent's pywsgi reads requests from, or `None` under another server."""
    body = environ.get("wsgi.input")
    return getattr(body, "rfile", None) if type(body).__module__ == "gevent.pywsgi" else None


def socket_behind(buffer: Any) -> Any:
    """Return the socket of such a buffer, or `None`. pywsgi puts no socket in the environ."""
    return getattr(getattr(buffer, "raw", None), "_sock", None)


def stop_polling(server: Any, descriptor: int) -> None:
    """Remove the descriptor of the socket `server` from the epoll set of gevent's loop, if it has one.

    libev leaves a descriptor there when nothing waits for it any more, and epoll watches the open file, not
    the number. The loop would wake for every byte and close of a connection that it no longer serves.
    """
    loop = getattr(getattr(server, "hub", None), "loop", None)
    polled = loop.fileno() if loop is not None else None
    if polled is None or sys.platform != "linux":
        return
    from gevent import monkey

    with suppress(OSError):  # nothing ever waited for it, or the loop does not use epoll
        epoll = monkey.get_original("select", "epoll")
        with epoll.fromfd(os.dup(polled)) as watched:
            watched.unregister(descriptor)
