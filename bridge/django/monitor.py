"""The monitor in a Django project: `path("monitor/", include("bridge.django.monitor"))`.

`settings.BRIDGE` has its options: `MONITOR_CELERY`, the dotted path of the Celery app of the tasks,
`MONITOR_RUN_AGAIN` and `MONITOR_TITLE`.
"""

from functools import partial

# `Any` in this module: Django has no types.
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from bridge.django.configuration import Configured, configured
from bridge.django.deciding import deciding, remembered
from bridge.django.responses import StreamResponse
from bridge.django.views import asked_by
from bridge.monitor.http import Answer, Request
from bridge.monitor.monitor import Monitor, Rights, Step
from bridge.streams.refusal import Refusal
from bridge.streams.takeover.wsgi import close_after_response
from bridge.tasks.events import FEED

app_name = "bridge_monitor"


# The page has no token of Django's: `Monitor.route` refuses requests of other sites itself.
@csrf_exempt  # type: ignore[untyped-decorator]  # Django has no types
def _respond(request: Any, name: str = "") -> HttpResponseBase:
    current = configured()
    monitor = current.monitor
    step: Step | None = None
    try:
        asked_for = Request(
            request.method, f"/{name}", request.META.get("QUERY_STRING", ""), request.headers.get
        )
        step = monitor.route(asked_for)
        if step.answer is not None:
            return _response(step.answer)
        return _answer(current, monitor, step, request)
    except Refusal as refusal:
        response = _response(monitor.refused(step, refusal))
        if refusal.close_connection:
            if hasattr(request, "scope"):
                response.headers["Connection"] = "close"
            else:
                close_after_response(request.environ)
        return response


def _answer(current: Configured, monitor: Monitor, step: Step, request: Any) -> HttpResponseBase:
    """Return the answer that needs a permission. Raises `Refusal`."""
    service, authorize, authorize_cancel, _ = current
    asked, awaits = asked_by(request), hasattr(request, "scope")
    permission = service.authorizer.permit((FEED,), asked, deciding(authorize, request, awaits=awaits))
    if step.cancels is not None:
        may_cancel = deciding(authorize_cancel, request, awaits=awaits)
        service.authorizer.check_cancel(step.cancels, permission.claims, may_cancel)
    if not step.topics:
        rights = Rights(service.authorizer.may_cancel_some(permission.claims, authorize_cancel))
        return _response(monitor.run(step, rights))
    answer = service.answer(
        service.check_topics(step.topics),
        asked,
        permission,
        key=None if service.viewer_key is None else service.viewer_key(request),
        remember=None if authorize is None else partial(remembered, authorize, request),
        decided=(FEED,),
    )
    return StreamResponse(service, answer, request)


def _response(answer: Answer) -> HttpResponse:
    response = HttpResponse(answer.body, status=answer.status, headers=dict(answer.headers))
    # The answer says why; Django would log each one, and mail errors of the backend to the admins.
    response._has_been_logged = answer.status >= 400
    return response


urlpatterns = [path("", _respond, name="page"), path("<path:name>", _respond, name="page")]
