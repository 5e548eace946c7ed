"""The files of the browser client: `path("bridge/", include("bridge.django.urls"))`."""

# `Any` in this module: Django has no types.
from typing import Any

from django.http import Http404, HttpResponse
from django.urls import path
from django.views.decorators.http import require_safe

from bridge import __version__
from bridge.streams.client_files import client_file

app_name = "bridge"


@require_safe  # type: ignore[untyped-decorator]  # Django has no types
def _client_file(request: Any, name: str) -> Any:
    answer = client_file(name, request.headers.get("If-None-Match"), version=__version__)
    if answer is None:
        raise Http404
    return HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))


urlpatterns = [path("<path:name>", _client_file, name="client")]
