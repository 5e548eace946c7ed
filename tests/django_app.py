"""A small Django project under the servers the bridge works with, as real processes."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import django
import httpx
from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import include, path
from django.utils.decorators import sync_and_async_middleware
from django.views.decorators.http import require_safe

import bridge.django
from tests.processes import dump_on_signal, running
from tests.servers import eventually, free_port
from tests.serving import answers

WSGI = ("gunicorn sync", "gunicorn gthread", "gunicorn gevent")
SERVERS = (*WSGI, "uvicorn asgi")
MIDDLEWARE = (
    "django.middleware.gzip.GZipMiddleware",
    "django.middleware.http.ConditionalGetMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
)


def configure(**given: Any) -> None:
    """Set up Django with this module as the project."""
    options: dict[str, Any] = {
        "ALLOWED_HOSTS": ["*"],
        "BRIDGE": {"URL": "memory://", "PUBLIC": True},
        "DATABASES": {
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ.get("DJANGO_DATABASE", ":memory:"),
                "CONN_MAX_AGE": None,
            }
        },
        "INSTALLED_APPS": ["bridge.django"],
        "LOGGING": {
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"console": {"class": "logging.StreamHandler"}},
            "root": {"handlers": ["console"], "level": "WARNING"},
        },
        "ROOT_URLCONF": __name__,
        "SECRET_KEY": "a test",
        "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
        "USE_TZ": True,
    }
    settings.configure(**{**options, **given})
    django.setup()


# Django has no types.
@sync_and_async_middleware  # type: ignore[untyped-decorator]
def shouting(get_response: Any) -> Any:
    """A middleware that changes the body of every response that streams."""

    def changed(response: Any) -> Any:
        body = response.streaming_content
        if response.is_async:

            async def shout() -> Any:
                async for chunk in body:
                    yield chunk.upper()

            response.streaming_content = shout()
        else:
            response.streaming_content = (chunk.upper() for chunk in body)
        return response

    if not iscoroutinefunction(get_response):

        def middleware(request: HttpRequest) -> Any:
            response = get_response(request)
            return changed(response) if response.streaming else response

        return middleware

    async def async_middleware(request: HttpRequest) -> Any:
        response = await get_response(request)
        return changed(response) if response.streaming else response

    return async_middleware


def may_read(request: HttpRequest, topic: str) -> bool:
    """Ask the database; refuse `secret`, and `raises` with an exception."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if topic == "raises":
        raise PermissionDenied("not for you")
    return "secret" not in topic and request.GET.get("as") != "nobody"


def may_cancel(request: HttpRequest, task: str) -> bool:
    return bool(request.GET.get("as") == "operator")


async def may_read_async(request: HttpRequest, topic: str) -> bool:
    return topic != "secret"


@require_safe  # type: ignore[untyped-decorator]  # Django has no types
def stream(request: HttpRequest) -> HttpResponse:
    if (session := getattr(request, "session", None)) is not None:
        session["visits"] = 1
    return bridge.django.stream(request, *request.GET.getlist("topic"))


async def async_stream(request: HttpRequest) -> HttpResponse:
    return bridge.django.stream(request, *request.GET.getlist("topic"))


def posted(request: HttpRequest) -> HttpResponse:
    return bridge.django.stream(request, request.body.decode())


async def async_posted(request: HttpRequest) -> HttpResponse:
    return bridge.django.stream(request, request.body.decode())


def stats(request: HttpRequest) -> HttpResponse:
    """Tell what the bridge counts, and how many files of the database this process has open."""
    database = str(settings.DATABASES["default"]["NAME"])
    opened = 0
    for name in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the loop closes connections meanwhile
            opened += str(name.readlink()) == database
    about = {"pid": os.getpid(), "parent": os.getppid(), "plain": bridge.django.why_plain() or ""}
    return JsonResponse({**bridge.django.stats(), **about, "database": opened})


def task(request: HttpRequest, task_id: str) -> HttpResponse:
    return JsonResponse({"task": bridge.django.task(request, task_id)})


async def async_task(request: HttpRequest, task_id: str) -> HttpResponse:
    await bridge.django.aping()
    return JsonResponse(
        {
            "task": await bridge.django.atask(request, task_id),
            "tasks": await bridge.django.atasks(request, tag=request.GET.get("tag")),
        }
    )


def tasks(request: HttpRequest) -> HttpResponse:
    bridge.django.ping()
    return JsonResponse({"tasks": bridge.django.tasks(request, tag=request.GET.get("tag"))})


def cancel(request: HttpRequest, task_id: str) -> HttpResponse:
    try:
        bridge.django.check_cancel(request, task_id)
    except bridge.django.Refused as error:
        return HttpResponse(str(error), status=error.status, headers=error.headers)
    return HttpResponse("cancelled")


urlpatterns = [
    path("cancel/<task_id>", cancel),
    path("stream", stream),
    path("async", async_stream),
    path("posted", posted),
    path("async-posted", async_posted),
    path("stats", stats),
    path("task/<task_id>", task),
    path("async-task/<task_id>", async_task),
    path("tasks", tasks),
    path("bridge/", include("bridge.django.urls")),
    path("monitor/", include("bridge.django.monitor")),
]


def _configure_process() -> None:
    dump_on_signal()
    configure(**json.loads(os.environ["DJANGO_OPTIONS"]))


def wsgi() -> Any:
    _configure_process()
    return get_wsgi_application()


def hidden() -> Any:
    """The WSGI application, which does not see the socket of the server."""
    application: Callable[..., Any] = wsgi()

    def without_socket(environ: dict[str, Any], start_response: Any) -> Any:
        environ.pop("gunicorn.socket")
        return application(environ, start_response)

    return without_socket


def asgi() -> Any:
    _configure_process()
    return bridge.django.wrap(get_asgi_application())


def bare() -> Any:
    """The ASGI application without the wrapper of the bridge."""
    _configure_process()
    return get_asgi_application()


def __getattr__(name: str) -> Any:
    """Make the application when a server asks for `tests.django_app:application`: daphne calls no factory."""
    if name == "application":
        return asgi()
    raise AttributeError(name)


def command(server: str, port: int) -> list[str]:
    program, kind = server.split()
    python = [sys.executable, "-m"]
    if program == "daphne":
        return [*python, "daphne", "-p", str(port), "tests.django_app:application"]
    if program == "uvicorn":
        options = ["--factory", f"tests.django_app:{kind}", "--port", str(port)]
        return [*python, "uvicorn", *options, "--timeout-graceful-shutdown", "3"]
    served = "wsgi"
    if kind == "hidden":
        kind, served = "gthread", "hidden"
    threads = ["--threads", "8"] if kind == "gthread" else []
    listen = ["-k", kind, *threads, "-b", f"127.0.0.1:{port}", "--graceful-timeout", "1"]
    return [*python, "gunicorn", "--no-control-socket", *listen, f"tests.django_app:{served}()"]


@contextmanager
def serving(server: str, *, database: Path | None = None, **options: Any) -> Iterator[tuple[str, Path]]:
    """Serve the project with these settings; yield its address, and the log of the server."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    env = {"DJANGO_OPTIONS": json.dumps(options)}
    if database is not None:
        env["DJANGO_DATABASE"] = str(database)
    with running(command(server, port), env=env) as log:
        eventually(lambda: answers(address), within=30, why=f"{server} did not start")
        yield address, log


def figures(address: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{address}/stats", timeout=20, trust_env=False, verify=False).json()
    return found
