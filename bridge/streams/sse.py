"""Server-Sent Events as text (WHATWG HTML, "Server-sent events"): pure functions, no I/O."""

import re

_LINE_END = re.compile(rb"\r\n|\r|\n")

HEARTBEAT = b":\n"
"""A comment, which keeps proxies from closing a silent stream. Browsers ignore it.

No empty line follows a comment or the retry field, because some decoders read one as an event without data.
"""

RETRY_SECONDS = 2.0
"""About how long a browser waits before it reconnects."""


def frame(
    data: bytes,
    *,
    event: str | None = None,
    id: str | None = None,  # noqa: A002
    topic: str | None = None,
) -> bytes:
    """Return one event. `data` is split into lines at CR LF, CR and LF only, and not changed otherwise.

    `topic` is a field of our own, which the standard has other clients ignore. Raises `ValueError` if
    `event`, `id` or `topic` contains a line break, which would begin another field, or a NUL, with which
    browsers ignore an id.
    """
    head = b""
    if event is not None:
        head = b"event: %b\n" % _one_line(event, "an event type")
    if topic is not None:
        head += b"topic: %b\n" % _one_line(topic, "the name of a topic")
    if id is not None:
        head += b"id: %b\n" % _one_line(id, "an event id")
    if 10 in data or 13 in data:  # a byte is found much faster than a string of one byte
        data = b"\ndata: ".join(_LINE_END.split(data))
    return b"%bdata: %b\n\n" % (head, data)


def retry(seconds: float) -> bytes:
    """Return the field with the time that the browser waits before it reconnects."""
    return b"retry: %d\n" % round(seconds * 1000)


def comment(text: str) -> bytes:
    """Return a comment, for people who read the stream. Raises `ValueError` as `frame` does."""
    return b": " + _one_line(text, "a comment") + b"\n"


def _one_line(text: str, what: str) -> bytes:
    if "\n" in text or "\r" in text or "\0" in text:
        raise ValueError(f"{what} must not hold a line break or NUL: {text!r}")
    return text.encode()
