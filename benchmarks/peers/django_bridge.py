"""The bridge in Django: `wsgi` for gunicorn, `asgi` for uvicorn."""

import os

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="benchmark",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["bridge.django"],
    LOGGING_CONFIG=None,
    BRIDGE={"URL": os.environ["BENCH_URL"], "PUBLIC": True},
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402

from bridge.django import stream, wrap  # noqa: E402


def events(request: HttpRequest, topic: str) -> HttpResponseBase:
    return stream(request, topic)


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("events/<topic>", events), path("plain", plain)]
wsgi = get_wsgi_application()
asgi = wrap(get_asgi_application())
