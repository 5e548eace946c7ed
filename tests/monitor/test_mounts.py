"""In every framework the monitor answers the same: its page, files, stream, JSON, and refusals."""

import html
import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from bridge.monitor import files
from tests.servers import Valkey
from tests.sites import Kind, Site, site
from tests.sse_clients import SECONDS

KINDS = (
    Kind("flask", "gunicorn gthread"),
    Kind("fastapi", "uvicorn --http httptools --loop uvloop"),
    Kind("plain", "uvicorn --http h11 --loop asyncio"),
    Kind("django", "gunicorn gthread"),
    Kind("django", "uvicorn asgi"),
)
NOWHERE = "there-is-no-such-task"


@pytest.fixture(scope="module", params=KINDS, ids=str)
def served(request: pytest.FixtureRequest, valkey: Valkey) -> Iterator[Site]:
    """An application with the monitor at /monitor."""
    with site(request.param, valkey, {}) as found:
        yield found


def ask(served: Site, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """Return the answer to a request for what is below /monitor. No redirect is followed."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    url = f"{served.address}/monitor{path}"
    return httpx.request(method, url, headers=named, trust_env=False, verify=False, timeout=SECONDS)


def settings_in(page: str) -> dict[str, Any]:
    """Return the settings that a page carries."""
    found = re.search(r'<meta name="bridge-monitor" content="([^"]*)">', page)
    assert found is not None, page
    settings: dict[str, Any] = json.loads(html.unescape(found[1]))
    return settings


def test_the_path_without_a_slash_leads_to_the_page(served: Site) -> None:
    """`/monitor?view=workers` leads to `/monitor/?view=workers` of the same site."""
    answer = ask(served, "?view=workers")
    assert answer.status_code in (301, 307, 308)
    assert httpx.URL(f"{served.address}/monitor").join(answer.headers["Location"]) == httpx.URL(
        f"{served.address}/monitor/?view=workers"
    )


def test_the_page_runs_only_its_own_files(served: Site) -> None:
    """The page has a strict policy, cannot be framed, and carries its settings without any markup."""
    answer = ask(served, "/?view=list")
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    for rule in ("default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"):
        assert rule in policy.split("; ")
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "<Tasks>" not in answer.text
    settings = settings_in(answer.text)
    assert settings["title"] == "<Tasks>"
    assert settings["heartbeat"] == 15
    assert settings["files"] == f"files/{files.version()}"
    assert (settings["canCancel"], settings["canRunAgain"]) == (False, False)


def test_files_are_kept_and_lead_to_each_other(served: Site) -> None:
    """The client is beside the page as in the package, is kept for a year, and asked for again only once."""
    path = f"/files/{files.version()}/static/bridge.js"
    answer = ask(served, path)
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in answer.headers["Cache-Control"]
    assert ask(served, path, If_None_Match=answer.headers["ETag"]).status_code == 304
    assert "immutable" not in ask(served, "/files/0/static/bridge.js").headers["Cache-Control"]


@pytest.mark.parametrize(
    "path",
    ["monitor/monitor.py", "../../pyproject.toml", "%2e%2e/%2e%2e/pyproject.toml", "static/../errors.py", ""],
)
def test_nothing_else_is_served(served: Site, path: str) -> None:
    """A path that is not that of a listed file is answered 404, however it is written."""
    url = httpx.URL(served.address, raw_path=f"/monitor/files/1/{path}".encode())
    assert httpx.get(url, trust_env=False, verify=False, timeout=SECONDS).status_code == 404


def test_the_stream_carries_tasks_and_no_topic_of_the_application(served: Site) -> None:
    """`events` streams the feed, and tasks by their ids; another topic is answered 404."""
    task = uuid.uuid4().hex
    served.say(task, "state", state="STARTED", attempt=1, name="a task")
    served.say(task, "state", state="SUCCESS", attempt=1, name="a task")
    answer = ask(served, f"/events?task={task}")
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert [line for line in answer.text.split("\n") if line.startswith("event:")] == [
        "event: snapshot",
        "event: end",
    ]
    url = f"{served.address}/monitor/events"
    with httpx.stream("GET", url, trust_env=False, verify=False, timeout=SECONDS) as stream:
        assert stream.status_code == 200
        assert any(task in line for line in stream.iter_lines())
    assert ask(served, "/events?topic=orders").status_code == 404


def test_tasks_are_listed_and_read(served: Site) -> None:
    """A row has the fields of the snapshot without its events; the task itself has all."""
    task = uuid.uuid4().hex
    served.say(task, "state", state="STARTED", attempt=1, name="a task", worker="w@h")
    served.say(task, "log", level="info", message="a line")
    listed = ask(served, "/api/tasks?limit=5").json()
    row = next(row for row in listed["tasks"] if row["task"] == task)
    assert (row["state"], row["name"], row["worker"]) == ("STARTED", "a task", "w@h")
    assert "events" not in row
    whole = ask(served, f"/api/tasks/{task}").json()
    assert [event["message"] for event in whole["events"]] == ["a line"]
    assert ask(served, f"/api/tasks/{NOWHERE}").status_code == 404
    assert ask(served, "/api/workers").status_code == 200


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "limit=", "limit=1e3"])
def test_a_bad_page_is_refused_in_words(served: Site, query: str) -> None:
    """A limit that is no whole number above zero is answered 422 with a reason."""
    answer = ask(served, f"/api/tasks?{query}")
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, "application/problem+json")
    assert "limit" in answer.json()["detail"]


def test_who_may_not_read_the_feed_sees_nothing(served: Site) -> None:
    """Page, stream and JSON are refused with 403; the page says what to do, the others as problem+json."""
    page = ask(served, "/?as=nobody")
    assert page.status_code == 403
    assert "permission to read the topic" in page.text
    assert "bridge-monitor" not in page.text
    for path in ("/api/tasks", f"/api/tasks/{NOWHERE}", "/api/workers", "/events"):
        refused = ask(served, f"{path}?as=nobody")
        assert (refused.status_code, refused.headers["Content-Type"]) == (403, "application/problem+json")


def test_a_page_of_another_site_changes_nothing(served: Site) -> None:
    """Requests that another site makes a browser send are refused before the right to cancel is asked."""
    for headers in ({"Sec_Fetch_Site": "cross-site"}, {"Origin": "https://evil.example"}):
        for method, path in (("DELETE", ""), ("POST", "/run-again")):
            refused = ask(served, f"/api/tasks/{NOWHERE}{path}?as=operator", method, **headers)
            assert refused.status_code == 403
            assert "other sites" in refused.json()["detail"]


def test_cancelling_is_a_right_of_its_own(served: Site) -> None:
    """Who may only read is answered 403; who may cancel learns that the task is not known."""
    assert ask(served, f"/api/tasks/{NOWHERE}", "DELETE").status_code == 403
    own = httpx.URL(served.address).netloc.decode()
    allowed = ask(served, f"/api/tasks/{NOWHERE}?as=operator", "DELETE", Origin=f"http://{own}")
    assert allowed.status_code == 404
    assert "known" in allowed.json()["detail"]


def test_running_again_is_off_by_default(served: Site) -> None:
    """Without `run_again=True` the answer to the request is 403, and says what to set."""
    refused = ask(served, f"/api/tasks/{NOWHERE}/run-again?as=operator", "POST")
    assert refused.status_code == 403
    assert "run_again=True" in refused.json()["detail"]


def test_what_does_not_exist_is_answered_in_words(served: Site) -> None:
    """Unknown paths and methods have answers of the monitor, not of a server that failed."""
    assert ask(served, "/api/nothing").status_code == 404
    assert ask(served, "/nothing").status_code == 404
    assert ask(served, "/api/workers", "DELETE").status_code == 405
    assert served.faults() == []
