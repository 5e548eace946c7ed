"""Every route of the API, and every error, through Flask's test client."""

import dataclasses
import io
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

import api.config
from api.app import create_app
from api.uploads import KEEP_SECONDS
from bridge.celery import install
from worker import config
from worker.app import app as worker_app

MAX_UPLOAD_BYTES = 10_000
UNREACHABLE = "redis://127.0.0.1:1/0"

MakeClient = Callable[..., FlaskClient]


@pytest.fixture(autouse=True)
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> config.Settings:
    """The worker's settings with folders of the test's own."""
    own = dataclasses.replace(config.settings, data_dir=tmp_path / "data", digest_root=tmp_path)
    monkeypatch.setattr(config, "settings", own)
    return own


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Makes clients of applications, each with a memory bridge and a Celery app of its own."""
    made: list[Celery] = []

    def make(*, broker: str = "", overrides: dict[str, Any] | None = None) -> FlaskClient:
        """Tasks run at once in the request, unless there is a broker to leave them with."""
        url = f"memory://{uuid.uuid4().hex}"
        celery = Celery(broker=broker or "memory://")
        celery.conf.task_always_eager = not broker
        install(celery, url)
        made.append(celery)
        settings = {"BRIDGE_URL": url, "BRIDGE_PUBLIC": True, "MAX_UPLOAD_BYTES": MAX_UPLOAD_BYTES}
        return create_app({**settings, **(overrides or {})}, celery).test_client()

    yield make
    for celery in made:
        celery.close()
    worker_app.set_current()


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    return make_client()


def send_csv(client: FlaskClient, content: bytes, name: str = "file.csv", **more: str) -> TestResponse:
    return client.post("/tasks/import_csv", data={"file": (io.BytesIO(content), name), **more})


def started(response: TestResponse) -> str:
    assert response.status_code == 202, response.text
    answer = response.get_json()
    assert answer["events"] == f"/tasks/{answer['id']}/events"
    assert response.headers["Location"] == f"/tasks/{answer['id']}"
    task_id: str = answer["id"]
    return task_id


def shown(client: FlaskClient, path: str) -> Any:
    """Return the JSON that the API shows at `path`."""
    return client.get(path).get_json()


def problem(response: TestResponse, status: int) -> dict[str, Any]:
    """The members of an RFC 9457 answer."""
    assert response.status_code == status, response.text
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = json.loads(response.data)
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    return body


def uploads() -> list[Path]:
    return list(config.settings.uploads.glob("*"))


def test_uploaded_csv_is_imported(client: FlaskClient) -> None:
    """A form with a file starts the task; its snapshot has the counts, and the upload is gone."""
    task_id = started(send_csv(client, b"a,b\n1,2\n3\n", "../../My Data.csv"))
    snapshot = shown(client, f"/tasks/{task_id}")
    assert (snapshot["state"], snapshot["name"]) == ("SUCCESS", "import_csv")
    assert (snapshot["result"]["table"], snapshot["result"]["loaded"]) == ("csv_my_data", 1)
    assert snapshot["result"]["bad_rows"] == [{"row": 3, "reason": "has 1 fields, the header has 2"}]
    assert uploads() == []


def test_json_arguments(client: FlaskClient) -> None:
    """A JSON object of arguments starts a task; what is left out has its default."""
    text = started(client.post("/tasks/narrate", json={"text": "one two", "delay": 0}))
    folder = started(client.post("/tasks/digest_tree", json={}))
    assert shown(client, f"/tasks/{text}")["result"]["tokens"] == 2
    assert shown(client, f"/tasks/{folder}")["result"]["folder"] == "."


def test_form_arguments(client: FlaskClient) -> None:
    """A form without a file gives the arguments as words; numbers are read from them."""
    task_id = started(client.post("/tasks/narrate", data={"text": "hi", "delay": "0.0"}))
    assert shown(client, f"/tasks/{task_id}")["state"] == "SUCCESS"


def test_recent_tasks(client: FlaskClient) -> None:
    """The list has the snapshots of what ran, the newest first."""
    assert client.get("/tasks").json == {"tasks": []}
    ids = [started(client.post("/tasks/narrate", json={"text": "x", "delay": 0})) for _ in range(3)]
    assert [task["task"] for task in shown(client, "/tasks")["tasks"]] == ids[::-1]


def test_failed_task_has_its_error(client: FlaskClient, settings: config.Settings) -> None:
    """A task that finds its file unusable fails, and its snapshot says why."""
    settings.uploads.mkdir(parents=True)
    (settings.uploads / "bad.csv").write_text("a,a\n")
    task_id = started(client.post("/tasks/import_csv", json={"path": "bad.csv"}))
    error = shown(client, f"/tasks/{task_id}")["error"]
    assert error == {"type": "CsvError", "message": "the header names the column “a” twice"}


def test_stream_of_one_task(client: FlaskClient) -> None:
    """The events of a finished task are one snapshot and one end, and then the stream is over."""
    task_id = started(client.post("/tasks/narrate", json={"text": "x", "delay": 0}))
    response = client.get(f"/tasks/{task_id}/events")
    assert response.content_type.startswith("text/event-stream")
    assert response.text.count("event: snapshot\n") == 1
    assert response.text.count("event: end\n") == 1


def test_stream_of_several_tasks(client: FlaskClient) -> None:
    """One stream carries all tasks that the query names, each once, and ends after the last of them."""
    ids = [started(client.post("/tasks/narrate", json={"text": "x", "delay": 0})) for _ in range(2)]
    text = client.get("/events", query_string={"task": [*ids, ids[0]]}).text
    assert text.count("event: end\n") == 2
    assert all(task_id in text for task_id in ids)


def test_stream_of_all_tasks(client: FlaskClient) -> None:
    """With no task in the query the stream is the feed: it opens with the snapshots of recent tasks."""
    task_id = started(client.post("/tasks/narrate", json={"text": "x", "delay": 0}))
    response = client.get("/events", buffered=False)
    chunks = response.iter_encoded()
    text = ""
    while task_id not in text:
        text += next(chunks).decode()
    response.close()
    assert "event: snapshot\n" in text


def test_streams_need_a_decision(make_client: MakeClient) -> None:
    """Without BRIDGE_PUBLIC every stream and every state is refused, as a problem that can be read."""
    client = make_client(overrides={"BRIDGE_PUBLIC": False})
    for url in ("/events", "/events?task=abc", "/tasks/abc/events", "/tasks", "/tasks/abc"):
        assert "who may read" in problem(client.get(url), 403)["detail"]


def test_too_many_topics(client: FlaskClient) -> None:
    """One stream takes a hundred tasks and refuses more."""
    problem(client.get("/events", query_string={"task": [f"t{i}" for i in range(101)]}), 429)


def test_revoked_task_does_not_run(make_client: MakeClient) -> None:
    """A queued task is pending, and revoking it is accepted."""
    client = make_client(broker="memory://")
    task_id = started(client.post("/tasks/narrate", json={}))
    assert shown(client, f"/tasks/{task_id}")["state"] == "PENDING"
    response = client.delete(f"/tasks/{task_id}")
    assert (response.status_code, response.json) == (202, {"id": task_id})


def test_cancelling_is_told_and_needs_a_task_that_goes_on(make_client: MakeClient) -> None:
    """Asked for, it stands in the snapshot; force is 1 or 0; after the end there is nothing to cancel."""
    client = make_client(broker="memory://")
    task_id = started(client.post("/tasks/narrate", json={}))
    problem(client.delete(f"/tasks/{task_id}?terminate=please"), 422)
    assert "cancel_requested" not in shown(client, f"/tasks/{task_id}")
    assert client.delete(f"/tasks/{task_id}").status_code == 202
    assert shown(client, f"/tasks/{task_id}")["cancel_requested"] > 0
    assert client.delete(f"/tasks/{task_id}?terminate=1").status_code == 202
    assert shown(client, f"/tasks/{task_id}")["terminate"] is True
    done = make_client()
    task_id = started(done.post("/tasks/narrate", json={"text": "x", "delay": 0}))
    assert problem(done.delete(f"/tasks/{task_id}"), 409)["state"] == "SUCCESS"


@pytest.mark.parametrize("task_id", ["unknown", "a" * 156, "a%20b", "%00", "-x", "ü"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_tasks(client: FlaskClient, method: str, task_id: str) -> None:
    """An id that nobody knows, or that cannot be one, is not found."""
    problem(client.open(f"/tasks/{task_id}", method=method), 404)


def test_stream_of_impossible_id(client: FlaskClient) -> None:
    """An id that cannot be one has no stream."""
    problem(client.get("/tasks/a%20b/events"), 404)
    problem(client.get("/events?task=a%0Ab"), 404)


def test_unknown_task_name(client: FlaskClient) -> None:
    """A name that is no task is not found, whatever the body; the answer says which there are."""
    assert "narrate" in problem(client.post("/tasks/celery.backend_cleanup", json={}), 404)["detail"]


@pytest.mark.parametrize(
    ("name", "arguments", "field"),
    [
        ("narrate", {"delay": 9}, "delay"),
        ("narrate", {"delay": "soon"}, "delay"),
        ("narrate", {"text": 5}, "text"),
        ("narrate", {"text": "\ud800"}, "text"),
        ("narrate", {"speed": 1}, "speed"),
        ("digest_tree", {"folder": "../x"}, "folder"),
        ("digest_tree", {"folder": "/etc"}, "folder"),
        ("digest_tree", {"folder": "a\0"}, "folder"),
        ("import_csv", {}, "path"),
        ("import_csv", {"path": "../imports.sqlite3"}, "path"),
    ],
)
def test_wrong_arguments(client: FlaskClient, name: str, arguments: dict[str, Any], field: str) -> None:
    """Wrong arguments are refused before anything is sent, and the answer names the field."""
    body = problem(client.post(f"/tasks/{name}", json=arguments), 422)
    assert [error["field"] for error in body["errors"]] == [field]
    assert client.get("/tasks").json == {"tasks": []}


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"{", 400), (b"", 400), (b"[" * 100_000, 400), (b"\xff", 400), (b"[1]", 422), (b"null", 422)],
)
def test_wrong_json(client: FlaskClient, content: bytes, status: int) -> None:
    """A body that is no JSON object is a client's error, however deep it is nested."""
    problem(client.post("/tasks/narrate", data=content, content_type="application/json"), status)


def test_wrong_content_type(client: FlaskClient) -> None:
    """A body that is neither JSON nor a form is not taken."""
    problem(client.post("/tasks/narrate", data=b"hello", content_type="text/plain"), 415)
    problem(client.post("/tasks/narrate"), 415)


@pytest.mark.parametrize(
    "content", [b"a,b\n\xff\n", b"a\n\0\n", b"", b"a,a\n", b"<html>", b"\x89PNG\r\n\x1a\n", b'"a\n']
)
def test_upload_that_is_no_csv(client: FlaskClient, content: bytes) -> None:
    """What is no CSV is refused at upload; no file stays and no task is started."""
    body = problem(send_csv(client, content), 422)
    assert body["errors"][0]["field"] == "file"
    assert uploads() == []
    assert client.get("/tasks").json == {"tasks": []}


def test_upload_over_the_limit(client: FlaskClient) -> None:
    """A file of the limit is taken; one byte more, or much more, is too large and leaves nothing."""
    exact = b"a\n" + b"1\n" * (MAX_UPLOAD_BYTES // 2 - 1)
    started(send_csv(client, exact))
    for size in (1, 1_000_000):
        body = problem(send_csv(client, exact + b"1" * size), 413)
        assert str(MAX_UPLOAD_BYTES) in body["detail"]
    assert uploads() == []


def test_large_json(client: FlaskClient) -> None:
    """A JSON body beyond what any task takes is too large."""
    problem(client.post("/tasks/narrate", json={"text": "x" * 2_000_000}), 413)


def test_forms_that_do_not_fit(client: FlaskClient) -> None:
    """A form without its file, with two, with other fields, or a file for another task is refused."""
    empty = {"file": (io.BytesIO(b""), "")}
    second = {"file": (io.BytesIO(b"a\n"), "a.csv"), "other": (io.BytesIO(b"b\n"), "b.csv")}
    for data in ({"name": "x"}, empty, second):
        problem(client.post("/tasks/import_csv", data=data, content_type="multipart/form-data"), 422)
    problem(send_csv(client, b"a\n1\n", path="other.csv"), 422)
    problem(client.post("/tasks/narrate", data={"text": (io.BytesIO(b"x"), "x.txt")}), 422)
    assert uploads() == []


def test_upload_is_removed_when_the_broker_is_away(make_client: MakeClient) -> None:
    """With no broker the answer is 503 within seconds, and the uploaded file is not left behind."""
    client = make_client(broker=UNREACHABLE)
    before = time.monotonic()
    assert "broker" in problem(send_csv(client, b"a\n1\n"), 503)["detail"]
    assert time.monotonic() - before < 10
    assert uploads() == []


def test_forgotten_uploads_are_swept(make_client: MakeClient) -> None:
    """An upload that no task came for within a day goes when the next one arrives; a fresh one stays."""
    client = make_client(broker="memory://")
    started(send_csv(client, b"a\n1\n"))
    (forgotten,) = uploads()
    long_ago = time.time() - KEEP_SECONDS - 60
    os.utime(forgotten, (long_ago, long_ago))
    started(send_csv(client, b"a\n1\n"))
    (kept,) = uploads()
    started(send_csv(client, b"a\n1\n"))
    assert forgotten not in uploads()
    assert kept in uploads()


def test_errors_of_the_framework_are_problems(client: FlaskClient) -> None:
    """An unknown path and a wrong method answer as problems too; the latter still says what is allowed."""
    problem(client.get("/nothing"), 404)
    response = client.delete("/tasks")
    problem(response, 405)
    assert "GET" in response.headers["Allow"]


def test_unexpected_error_is_a_problem(make_client: MakeClient) -> None:
    """A fault of the server answers 500 without telling what went wrong."""
    client = make_client()

    @client.application.get("/fault")
    def fault() -> str:
        raise RuntimeError("a secret")

    assert "secret" not in json.dumps(problem(client.get("/fault"), 500))


def test_bridge_away(make_client: MakeClient) -> None:
    """Snapshots cannot be read while the bridge's backend is away: 503, and readiness says which part."""
    client = make_client(overrides={"BRIDGE_URL": "redis+pubsub://127.0.0.1:1/0", "BRIDGE_TIMEOUT": 1.0})
    for url in ("/tasks", "/tasks/abc"):
        assert "bridge" in problem(client.get(url), 503)["detail"]
    assert problem(client.get("/readyz"), 503)["unreachable"] == ["bridge"]
    assert client.get("/healthz").status_code == 200


def test_readiness(make_client: MakeClient) -> None:
    """Ready means bridge and broker can be reached; it says how streams are served; who is away is named."""
    client = make_client()
    ready = {"status": "ok", "reachable": ["bridge", "broker"], "streams": "taken over"}
    assert client.get("/readyz").json == ready
    started_id = started(client.post("/tasks/narrate", json={"text": "x", "delay": 0}))
    assert client.get(f"/tasks/{started_id}/events").text
    assert "does not show its socket" in shown(client, "/readyz")["streams"]
    assert problem(make_client(broker=UNREACHABLE).get("/readyz"), 503)["unreachable"] == ["broker"]


def test_metrics(client: FlaskClient) -> None:
    """The bridge's numbers are there as Prometheus text."""
    started_id = started(client.post("/tasks/narrate", json={"text": "x", "delay": 0}))
    assert client.get(f"/tasks/{started_id}/events").text
    response = client.get("/metrics")
    assert response.content_type.startswith("text/plain")
    assert "bridge_viewers 0.0\n" in response.text
    assert "bridge_viewers_opened_total 1.0\n" in response.text


def test_page_and_its_parts(client: FlaskClient) -> None:
    """The page and all its parts are served, under a strict policy, with nothing inline."""
    page = client.get("/")
    assert "10" in page.text
    assert "style=" not in page.text
    assert "<script>" not in page.text
    parts = ["forms.js", "started.js", "forms.css", "icon.svg", "sample/airports.csv"]
    for url in ["/", "/bridge/bridge.js", *(f"/static/{part}" for part in parts)]:
        response = client.get(url)
        assert response.status_code == 200
        policy = response.headers["Content-Security-Policy"].split("; ")
        assert {"default-src 'none'", "script-src 'self'", "base-uri 'none'"} <= set(policy)
        assert not any("unsafe" in rule or "http" in rule for rule in policy)
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        response.close()
    assert client.get("/bridge/bridge.js").mimetype == "text/javascript"


def test_settings_from_the_environment() -> None:
    """Streams are public only when the environment says so in so many words."""
    assert api.config.read({})["BRIDGE_PUBLIC"] is False
    assert api.config.read({"BRIDGE_PUBLIC": "1"})["BRIDGE_PUBLIC"] is True
    assert api.config.read({"BRIDGE_PUBLIC": "0", "MAX_UPLOAD_BYTES": ""})["MAX_UPLOAD_BYTES"] == 16 * 1024**2
