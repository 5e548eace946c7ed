"""The bridge in Django, for gunicorn."""

import os

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="benchmark",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["bridge.django"],
    LOGGING_CONFIG=None,
    BRIDGE={
        "URL": os.environ["BENCH_URL"],
        "PUBLIC": True,
        "TOKEN_KEYS": [os.environ["BENCH_TOKEN_KEY"]],
    },
)
django.setup()

from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import path  # noqa: E402

from bridge.django import stream  # noqa: E402


def events(request: HttpRequest, topic: str) -> HttpResponseBase:
    return stream(request, topic)


def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [path("events/<topic>", events), path("plain", plain)]
app = get_wsgi_application()
