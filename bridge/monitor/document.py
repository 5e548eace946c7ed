"""The documents of the monitor: its page, and what a person sees who may not read it."""

import html
import json
import re
from collections.abc import Mapping

# `Any` in this module: the settings of the page are JSON.
from typing import Any

from bridge.monitor import files
from bridge.monitor.http import NO_STORE, Answer
from bridge.streams.refusal import Refusal

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "form-action 'none'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy: only the own files run, and nothing may show the page in a frame."""

_HEADERS = {
    **NO_STORE,
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}

_REFUSED = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title></head>
<body>
<h1>{heading}</h1>
<p>{detail}</p>
<p>{advice}</p>
</body>
</html>
"""

_ADVICE = {
    401: "Sign in to the application, or send a token that allows to read the topic “tasks”.",
    403: "The monitor shows the events of all tasks, so it needs the permission to read the topic “tasks”. "
    "Whoever runs this application grants it with the function that authorizes streams, with a token, or by "
    "making all topics public; the log of the server says how.",
}


def page_answer(settings: Mapping[str, Any]) -> Answer:
    """Return the page. `settings` become the content of `<meta name="bridge-monitor">`."""
    places = {
        "settings": json.dumps(settings),
        "title": str(settings["title"]),
        "files": f"files/{files.version()}",
    }
    return Answer(200, _HEADERS, _filled(files.index(), places))


def refused_answer(refusal: Refusal) -> Answer:
    """Return the page for a person who may not read the monitor."""
    heading = "You may not see this monitor" if refusal.status in _ADVICE else "The monitor cannot be shown"
    places = {
        "title": heading,
        "heading": heading,
        "detail": refusal.detail[:1].upper() + refusal.detail[1:] + ".",
        "advice": _ADVICE.get(refusal.status, "Try again later."),
    }
    return Answer(refusal.status, {**_HEADERS, **refusal.headers}, _filled(_REFUSED, places))


def _filled(text: str, places: Mapping[str, str]) -> bytes:
    """Return `text` with the places filled in once, escaped."""
    return re.sub(r"\{(\w+)\}", lambda found: html.escape(places[found[1]]), text).encode()
