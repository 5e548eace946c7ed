"""The files of the browser client, as HTTP answers. They are in `bridge/static/`; nothing else is served.

A file has two paths: `bridge.js`, which browsers check again after a few minutes, and `VERSION/bridge.js`,
which they keep for a year. The files import each other by relative paths, so one path brings all of them.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from bridge.errors import ConfigurationError

FILES = frozenset(
    {
        "bridge.js",
        "element.js",
        "fold.js",
        "leader.js",
        "pool.js",
        "positions.js",
        "react.js",
        "refusal.js",
        "share.js",
        "slices.js",
        "sse.js",
        "style.js",
        "tokens.js",
        "topics.js",
        "transport.js",
        "words.js",
    }
)

DEFAULT_PATH = "/bridge"
"""Where adapters serve the files, unless a setting says otherwise."""

_FOLDER = Path(__file__).resolve().parent.parent / "static"
_VERSION = re.compile(r"\d+(\.\w+)*", re.ASCII)
_SHORT = "public, max-age=300"
_LONG = "public, max-age=31536000, immutable"


class FileAnswer(NamedTuple):
    """The answer to a request for a file."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def client_file(path: str, if_none_match: str | None, *, version: str) -> FileAnswer | None:
    """Return the answer for the path behind the prefix, without a slash in front; `None` if it names no file.

    `if_none_match` is the header of the request, `version` that of the library. With another version in the
    path the file is that of `version`, and is not kept for long: two versions may be deployed for a while.
    """
    found_version, slash, name = path.rpartition("/")
    if name not in FILES or (slash and not _VERSION.fullmatch(found_version)):
        return None
    body, etag = _read(name)
    headers = {
        "Cache-Control": _LONG if found_version == version else _SHORT,
        "Content-Type": "text/javascript; charset=utf-8",
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match is not None and etag in re.findall(r'"[^"]*"', if_none_match):
        return FileAnswer(304, headers, b"")
    return FileAnswer(200, headers, body)


def check_path(path: object, setting: str) -> str | None:
    """Return the prefix that the setting `setting` gives, without a slash at its end.

    `None` serves no files. Raises `ConfigurationError` for anything but a path.
    """
    if path is None:
        return None
    if not isinstance(path, str) or not re.fullmatch(r"(/[\w.~-]+)+/?", path):
        raise ConfigurationError(
            f"{setting} must be a path such as {DEFAULT_PATH!r}, or None to serve no files of the browser "
            f"client, not {path!r}"
        )
    return path.rstrip("/")


@cache
def _read(name: str) -> tuple[bytes, str]:
    """Return the content of a file and its entity tag."""
    body = (_FOLDER / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:20]}"'
