"""django-eventstream: other processes publish through the Redis channel that its `send_event` uses."""

import os
from urllib.parse import urlsplit

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    SECRET_KEY="benchmark",
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["django_eventstream"],
    DATABASES={},
    USE_TZ=True,
    LOGGING_CONFIG=None,
    EVENTSTREAM_REDIS={"host": "127.0.0.1", "port": urlsplit(os.environ["BENCH_REDIS"]).port, "db": 0},
)
django.setup()

import django_eventstream  # noqa: E402
from django.core.asgi import get_asgi_application  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.urls import include, path  # noqa: E402


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


urlpatterns = [
    path("events/<channel>", include(django_eventstream.urls), {"format-channels": ["{channel}"]}),
    path("plain", plain),
]
app = get_asgi_application()
