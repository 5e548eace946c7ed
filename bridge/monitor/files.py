"""The files of the monitor's page and of the browser client that it uses. Nothing else is served.

Their paths mirror the package: `VERSION/monitor/page/main.js` imports `../../static/bridge.js`. The version
depends on the contents, so browsers keep a file for as long as they like.
"""

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from bridge import __version__
from bridge.monitor.http import Answer
from bridge.streams.client_files import FILES

_PACKAGE = Path(__file__).resolve().parent.parent
_PAGE = _PACKAGE / "monitor" / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SHORT = "public, max-age=300"
_LONG = "public, max-age=31536000, immutable"


@cache
def _files() -> Mapping[str, tuple[str, bytes]]:
    """Return the content type and the body of each file, by the path below the version."""
    paths = [path for path in sorted(_PAGE.rglob("*")) if path.suffix in _TYPES and path.is_file()]
    paths += [_PACKAGE / "static" / name for name in sorted(FILES)]
    return {path.relative_to(_PACKAGE).as_posix(): (_TYPES[path.suffix], path.read_bytes()) for path in paths}


@cache
def version() -> str:
    """Return the part of the path of each file that changes when one of them does."""
    contents = hashlib.sha256()
    for name, (_, body) in _files().items():
        contents.update(b"%b\0%d\0%b" % (name.encode(), len(body), body))
    return f"{__version__}-{contents.hexdigest()[:12]}"


def file_answer(path: str, if_none_match: str | None) -> Answer | None:
    """Return the answer for `VERSION/NAME`, or `None` if it names no file.

    With another version in the path the file is that of this version, and is not kept for long: two versions
    may be deployed for a while.
    """
    found_version, _, name = path.partition("/")
    found = _files().get(name)
    if found is None:
        return None
    content_type, body = found
    etag = f'"{hashlib.sha256(body).hexdigest()[:20]}"'
    headers = {
        "Cache-Control": _LONG if found_version == version() else _SHORT,
        "Content-Type": content_type,
        "ETag": etag,
        "X-Content-Type-Options": "nosniff",
    }
    if if_none_match is not None and etag in re.findall(r'"[^"]*"', if_none_match):
        return Answer(304, headers, b"")
    return Answer(200, headers, body)


@cache
def index() -> str:
    """Return the page, with the places that `bridge.monitor.page_answer` fills in."""
    return (_PAGE / "index.html").read_text("utf-8")
