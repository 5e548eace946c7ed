"""The files of the browser client in an ASGI application."""

from collections.abc import Mapping
from types import MappingProxyType

from bridge import __version__
from bridge.asgi.application import Files
from bridge.monitor.http import Answer
from bridge.streams.client_files import FileAnswer, client_file
from bridge.streams.takeover.asgi import Receive, Scope, Send


def files_below(prefix: str) -> Files:
    """Return a function that answers a request for a file below `prefix` and returns whether it did."""

    async def answer_file(scope: Scope, send: Send) -> bool:
        path = path_in_app(scope)
        if not path.startswith(f"{prefix}/"):
            return False
        return await _answer(path.removeprefix(f"{prefix}/"), scope, send)

    return answer_file


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer requests for files, below the path where this application is mounted."""
    if scope["type"] == "http" and not await _answer(path_in_app(scope).lstrip("/"), scope, send):
        await send_file(FileAnswer(404, {"Content-Type": "text/plain"}, b"Not Found"), scope, send)


def path_in_app(scope: Scope) -> str:
    """Return the path below the one where the application is mounted, which servers name differently."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "").rstrip("/")
    return path.removeprefix(root) if path.startswith(f"{root}/") else path


async def _answer(name: str, scope: Scope, send: Send) -> bool:
    if scope["method"] not in ("GET", "HEAD"):
        return False
    if_none_match = dict(scope["headers"]).get(b"if-none-match")
    answer = client_file(
        name, None if if_none_match is None else if_none_match.decode("latin-1"), version=__version__
    )
    if answer is None:
        return False
    await send_file(answer, scope, send)
    return True


async def send_file(
    answer: FileAnswer | Answer, scope: Scope, send: Send, more: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Send an answer with its whole body, and `more` headers."""
    given = {**answer.headers, **more}
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in given.items()]
    if answer.status != 304:
        headers.append((b"content-length", b"%d" % len(answer.body)))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    body = b"" if scope["method"] == "HEAD" else answer.body
    await send({"type": "http.response.body", "body": body})
