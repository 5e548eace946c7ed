"""The routes that start, read, watch and cancel tasks."""

import re
from pathlib import Path, PurePath

# `Any` in this module: the values of JSON objects, and of form fields before they are checked.
from typing import Any

from celery import Celery
from flask import Blueprint, Response, current_app, jsonify, request, url_for
from pydantic import ValidationError
from werkzeug.exceptions import BadRequest
from werkzeug.urls import iri_to_uri

from api.extensions import bridge
from api.problems import Problem
from api.uploads import refused, save_csv
from bridge import FEED, task_topic
from bridge.celery import cancel
from bridge.streams import same_site
from bridge.streams.refusal import Refusal
from worker import config
from worker.arguments import BY_TASK, problems

MAX_JSON_BYTES = 1024 * 1024

TASK_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,154}")
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")

blueprint = Blueprint("tasks", __name__)


@blueprint.before_request
def refuse_other_sites() -> None:
    """Refuse requests that a page of another site makes (CSRF). Programs do not send these headers."""
    try:
        same_site.refuse_other_sites(
            request.method,
            sec_fetch_site=request.headers.get("Sec-Fetch-Site"),
            origin=request.headers.get("Origin"),
            host=request.headers.get("Host", ""),
        )
    except Refusal as refusal:
        raise Problem(refusal.status, refusal.detail) from None


@blueprint.post("/tasks/<name>")
def start(name: str) -> Response:
    model = BY_TASK.get(name)
    if model is None:
        raise Problem(404, f"There is no task with this name. The tasks are {', '.join(BY_TASK)}.")
    values, upload = _sent(name)
    try:
        arguments = model.model_validate(values)
        result = _celery().tasks[name].apply_async(kwargs=arguments.model_dump(mode="json"))
    except BaseException as error:
        if upload:
            upload.unlink(missing_ok=True)
        if isinstance(error, ValidationError):
            raise Problem(422, "The arguments are not valid.", errors=problems(error)) from None
        raise
    events = url_for("tasks.events_of_one", task_id=result.id)
    response = jsonify(id=result.id, name=name, events=events)
    response.status_code = 202
    response.headers["Location"] = iri_to_uri(url_for("tasks.one", task_id=result.id))
    return response


@blueprint.get("/tasks")
def recent() -> Response:
    return jsonify(tasks=bridge.tasks())


@blueprint.get("/tasks/<task_id>")
def one(task_id: str) -> Response:
    return jsonify(_known(task_id))


@blueprint.get("/tasks/<task_id>/events")
def events_of_one(task_id: str) -> Response:
    return bridge.stream(_topic(task_id))


@blueprint.get("/events")
def events() -> Response:
    """Stream the topics and tasks that the query names, or all tasks if it names none."""
    tasks = [_topic(task_id) for task_id in request.args.getlist("task")]
    return bridge.stream(*([*request.args.getlist("topic"), *tasks] or [FEED]))


@bridge.authorize_cancel
def may_cancel(task_id: str) -> bool:
    """Return whether this request may cancel a task: in the demo, which has no users, everyone may."""
    return current_app.config["BRIDGE_PUBLIC"] is True


@blueprint.delete("/tasks/<task_id>")
def cancel_one(task_id: str) -> Response:
    """Ask for a task to be cancelled, with `?terminate=1` by force. Its end, REVOKED, confirms it later."""
    force = request.args.get("terminate", "0")
    if force not in ("0", "1"):
        raise Problem(422, "terminate must be 1 or 0.")
    _topic(task_id)
    bridge.check_cancel(task_id)
    _known(task_id)
    asked = cancel(task_id, terminate=force == "1", app=_celery())
    if not asked:
        raise Problem(409, "The task has already ended.", state=_known(task_id)["state"])
    response = jsonify(id=task_id)
    response.status_code = 202
    return response


def _celery() -> Celery:
    celery: Celery = current_app.extensions["celery"]
    return celery


def _known(task_id: str) -> dict[str, Any]:
    _topic(task_id)
    snapshot = bridge.task(task_id)
    if snapshot is None:
        raise Problem(404, "No task with this id is known. It may have expired.")
    return snapshot


def _topic(task_id: str) -> str:
    if not TASK_ID.fullmatch(task_id):
        raise Problem(404, "This is not a task id.")
    return task_topic(task_id)


def _sent(name: str) -> tuple[dict[str, Any], Path | None]:
    """Return the arguments in the request, and the uploaded file if there is one."""
    if request.mimetype in FORMS:
        return _form(name)
    if request.is_json:
        return _json(), None
    raise Problem(415, "Send a JSON object or a form.")


def _json() -> dict[str, Any]:
    request.max_content_length = MAX_JSON_BYTES
    try:
        values = request.get_json()
    except (BadRequest, RecursionError):
        raise Problem(400, "The body is not valid JSON.") from None
    if not isinstance(values, dict):
        raise Problem(422, "The arguments must be a JSON object.", errors=[])
    return values


def _form(name: str) -> tuple[dict[str, Any], Path | None]:
    values: dict[str, Any] = request.form.to_dict()
    files = {field: file for field, file in request.files.items() if file.filename}
    if name != "import_csv":
        if files:
            raise refused(next(iter(files)), "this task does not accept a file")
        return values, None
    file = files.pop("file", None)
    if file is None or files or values:
        raise refused("file", "send one CSV file in the field “file” and no other fields")
    upload = save_csv(file, config.settings.uploads, current_app.config["MAX_UPLOAD_BYTES"])
    return {"path": upload.name, "name": PurePath(file.filename or "").name[-255:]}, upload
