"""The code of docs/access.md runs and does what the page says."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import install
from bridge.channel.transport import transport_of
from tests import events
from tests.markdown import block
from tests.tokens import SECRET


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Runs the application of the page, on a memory channel, and yields its names."""
    url = f"memory://{uuid.uuid4().hex}"
    monkeypatch.setenv("SECRET_KEY", "a test")
    monkeypatch.setenv("BRIDGE_TOKEN_KEY", SECRET)
    names: dict[str, Any] = {"__name__": "web", "bridge_url": url}
    exec(block("docs/access.md", "import os\n").replace("redis://localhost:6379/0", url), names)
    exec(block("docs/access.md", "@streams.authorize\n"), names)
    exec(block("docs/access.md", "from bridge.celery import cancel\n"), names)
    exec(block("docs/access.md", '@app.post("/logout")\n'), names)
    yield names
    with names["app"].app_context():
        names["streams"].channel.close()


def status(client: Any, path: str, token: str | None = None, method: str = "GET") -> int:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with client.open(path, method=method, headers=headers) as response:
        found: int = response.status_code
        return found


def test_the_application_gives_tokens_and_streams(names: dict[str, Any]) -> None:
    """A logged-in user gets a token for one job; without one the function decides."""
    client = names["app"].test_client()
    assert status(client, "/jobs/t1/token") == 401
    assert status(client, "/jobs/t1/events") == 403
    with client.session_transaction() as session:
        session["user"] = "ann"
    token = client.get("/jobs/t1/token").text
    assert status(client, "/jobs/t1/events", token) == 200
    assert status(client, "/jobs/t2/events", token) == 403
    assert status(client, "/jobs/t1/events", token[:-4]) == 401
    with client.session_transaction() as session:
        session["topics"] = ["task:t1"]
    assert status(client, "/jobs/t1/events") == 200


def test_only_who_may_cancels(names: dict[str, Any]) -> None:
    """Neither a stranger nor a token for reading does."""
    celery = Celery(broker="memory://", set_as_current=False)
    install(celery, names["bridge_url"])
    celery.set_current()
    client = names["app"].test_client()
    with names["app"].app_context():
        transport_of(names["streams"].channel).publish(events.make("state", "t1", state="STARTED"))
        reading, both = (names["streams"].token("task:t1", may=may) for may in ("read", ("read", "cancel")))
    assert status(client, "/jobs/t1", method="DELETE") == 403
    assert status(client, "/jobs/t1", reading, method="DELETE") == 403
    assert client.delete("/jobs/t1", headers={"Authorization": f"Bearer {both}"}).json == {"cancelled": True}


def test_who_logs_out_has_no_token_any_more(names: dict[str, Any]) -> None:
    """The tokens that the user was given are refused, and the next one counts."""
    client = names["app"].test_client()
    tokens = []
    for answers in ([200], [401, 200]):
        with client.session_transaction() as session:
            session["user"] = "ann"
        tokens.append(client.get("/jobs/t1/token").text)
        assert [status(client, "/jobs/t1/events", token) for token in tokens] == answers
        assert client.post("/logout").json == {"revoked": True}
    assert [status(client, "/jobs/t1/events", token) for token in tokens] == [401, 401]


def test_a_token_of_another_program_counts(names: dict[str, Any]) -> None:
    """It has the claims of the page, and is for the topic of one task."""
    issuer: dict[str, Any] = {}
    exec(block("docs/access.md", "import time\n"), issuer)
    token = issuer["token"](SECRET, "t1", "ann")
    client = names["app"].test_client()
    assert status(client, "/jobs/t1/events", token) == 200
    assert status(client, "/jobs/t2/events", token) == 403
    assert bridge.task_topic("t1") == "task:t1"
