import tasks
from django.http import JsonResponse
from django.shortcuts import render
from django.urls import include, path
from django.views.decorators.http import require_POST

from bridge import task_topic
from bridge.django import stream


def may_read(request, topic):
    return topic in request.session.get("topics", [])


@require_POST
def start(request):
    job = tasks.resize.delay(200)
    request.session["topics"] = [*request.session.get("topics", [])[-19:], task_topic(job.id)]
    return JsonResponse({"id": job.id}, status=202)


urlpatterns = [
    path("", lambda request: render(request, "index.html")),
    path("bridge/", include("bridge.django.urls")),
    path("jobs", start),
    path("events", lambda request: stream(request, *request.GET.getlist("topic"))),
]
