"""Serves the monitor alone, with no application at all, for any deployment."""

import socket
from collections.abc import Callable, Iterable
from functools import partial
from http.cookies import CookieError, SimpleCookie

# `Any` in this module: the options of `bridge.connect` have several types, and uvicorn takes any application.
from typing import Any

from bridge.asgi.application import wrapped
from bridge.asgi.client import send_file
from bridge.asgi.monitor import monitor_application
from bridge.asgi.requests import Requests
from bridge.errors import ConfigurationError, needs_extra
from bridge.monitor.guard import Guard
from bridge.monitor.http import NO_STORE, Answer, Problem, problem_answer
from bridge.monitor.monitor import Monitor, Options
from bridge.streams.access.authorization import HowToAllow
from bridge.streams.lifespan import end_streams
from bridge.streams.service import StreamService
from bridge.streams.settings import read_settings
from bridge.streams.takeover.asgi import ASGIApplication, Receive, Scope, Send

_HOW_TO_ALLOW = HowToAllow(
    reading="the monitor alone is read by whoever reaches it",
    cancelling="Give serve(celery=app), or the command --broker URL",
)


def serve(
    url: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    public: bool = False,
    allowed_hosts: Iterable[str] = (),
    celery: Any = None,
    run_again: bool = False,
    title: str = "Tasks",
    announce: Callable[[str], None] = lambda address: None,
    **options: Any,
) -> None:
    """Serve the monitor of the bridge at `url` until SIGINT or SIGTERM.

    On a loopback address whoever uses this machine may see it. On another `host` it needs a secret, which is
    in the address that `announce` gets once the socket listens, unless it is `public`. Requests must name
    this machine, by an IP address, `localhost`, its own name, `host` or one of `allowed_hosts`. `port` 0
    takes any free port. With `celery`, an app with the bridge, tasks may be cancelled, and with `run_again`
    run again. `options` are those of `bridge.asgi.Bridge`, such as `namespace`.

    Call it in the main thread. Raises `ConfigurationError`, also if the address cannot be used.
    """
    with needs_extra("the monitor alone", "monitor"):
        import uvicorn
    guard = Guard.make(host, allowed_hosts, own_name=socket.gethostname(), public=public)
    application = make_application(url, guard, Options(title, celery, run_again), options)
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    announce(f"http://{name}:{port}/" + (f"?token={guard.token}" if guard.needs_token else ""))
    config = uvicorn.Config(
        application, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=1
    )
    with listener:
        uvicorn.Server(config).run(sockets=[listener])


def make_application(url: str, guard: Guard, options: Options, stream_options: dict[str, Any]) -> Any:
    """Return the ASGI application of the monitor alone. Raises `ConfigurationError`."""
    given = {"url": url, "public": True, **stream_options}
    settings = read_settings(
        {name.upper(): value for name, value in given.items()}, prefix="", url_setting="serve(url)"
    )
    service = StreamService(settings, how_to_allow=_HOW_TO_ALLOW)
    requests = Requests(service)
    if options.celery is not None:
        requests.authorize_cancel = lambda request, task_id: True
    monitor = monitor_application(Monitor(service, options), service, requests)
    return wrapped(_guarded(monitor, guard), partial(end_streams, service.loop), None)


def _guarded(application: ASGIApplication, guard: Guard) -> ASGIApplication:
    async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope.get("query_string", b"").decode("latin-1")
        verdict = guard.check(
            host=headers.get("host", ""),
            cookie=_cookie(headers.get("cookie"), guard.cookie_name),
            authorization=headers.get("authorization"),
            query=query,
        )
        if verdict.refused:
            await send_file(problem_answer(Problem(403, verdict.refused)), scope, send)
        elif verdict.login is not None:
            await send_file(_login(guard, scope["path"], verdict.login), scope, send)
        else:
            await application(scope, receive, send)

    return guarded


def _login(guard: Guard, path: str, query: str) -> Answer:
    """Return the answer that keeps the session in a cookie and takes the token out of the URL."""
    target = path.rpartition("/")[2] or "."
    cookie = f"{guard.cookie_name}={guard.session}; HttpOnly; SameSite=Lax; Path=/"
    location = f"./{target}" if target != "." else "./"
    headers = {**NO_STORE, "Location": f"{location}?{query}" if query else location, "Set-Cookie": cookie}
    return Answer(303, {**headers, "Content-Type": "text/plain", "Referrer-Policy": "no-referrer"}, b"")


def _cookie(header: str | None, name: str) -> str | None:
    """Return the value of a cookie, `None` if the request has none of that name."""
    if header is None:
        return None
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    return None if found is None else found.value


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens. Raises `ConfigurationError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from None
