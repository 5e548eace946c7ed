from importlib.resources import files

import tasks
from django.http import FileResponse, JsonResponse
from django.shortcuts import render
from django.urls import path
from django.views.decorators.http import require_POST

from bridge import task_topic
from bridge.django import stream

CLIENT = files("bridge") / "static" / "bridge.js"


def may_read(request, topic):
    return topic in request.session.get("topics", [])


@require_POST
def start(request):
    job = tasks.resize.delay(200)
    request.session["topics"] = [*request.session.get("topics", [])[-19:], task_topic(job.id)]
    return JsonResponse({"id": job.id}, status=202)


urlpatterns = [
    path("", lambda request: render(request, "index.html")),
    path("bridge/bridge.js", lambda request: FileResponse(CLIENT.open("rb"))),
    path("jobs", start),
    path("jobs/<task_id>/events", lambda request, task_id: stream(request, task_topic(task_id))),
]
