"""Other sites in a user's browser cannot start or cancel a task (CSRF), or read (DNS rebinding)."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

import api.config
from api.app import create_app
from bridge.celery import install
from tests.chromium import chromium

MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def make_client() -> Iterator[MakeClient]:
    """Makes clients of the example application, whose tasks are queued in memory and never run."""
    made: list[Celery] = []

    def make(overrides: dict[str, Any] | None = None) -> FlaskClient:
        url = f"memory://{uuid.uuid4().hex}"
        celery = Celery(broker="memory://", set_as_current=False)
        install(celery, url)
        made.append(celery)
        settings = {"BRIDGE_URL": url, "BRIDGE_PUBLIC": True}
        return create_app({**settings, **(overrides or {})}, celery).test_client()

    yield make
    for celery in made:
        celery.close()


@pytest.fixture
def client(make_client: MakeClient) -> FlaskClient:
    return make_client()


def refused(response: TestResponse, status: int) -> str:
    """Check the answer, and return what it says."""
    assert response.status_code == status, response.text
    assert response.is_json
    told: str = response.get_json()["detail"]
    return told


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_sites_cannot_start_or_revoke(client: FlaskClient, site: str) -> None:
    """A browser that says the request comes from another site is refused; reading is not a danger."""
    headers = {"Sec-Fetch-Site": site}
    refused(client.post("/tasks/narrate", json={}, headers=headers), 403)
    refused(client.delete("/tasks/abc", headers=headers), 403)
    assert client.get("/tasks", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://evil.example:80",
        "http://localhost:8000",
        "http://localhost.evil.example",
        "http://evil-localhost",
        "http://notlocalhost",
        "http://user@localhost",
        "null",
        "",
        "localhost",
        "://",
    ],
)
def test_over_plain_http_the_origin_must_be_the_host(client: FlaskClient, origin: str) -> None:
    """Browsers that send no Sec-Fetch-Site are refused unless their Origin is the host they asked."""
    headers = {"Origin": origin}
    assert "other sites" in refused(client.post("/tasks/narrate", json={}, headers=headers), 403)
    refused(client.post("/tasks/narrate", data={"text": "x"}, headers=headers), 403)
    refused(client.delete("/tasks/abc", headers=headers), 403)
    assert client.get("/tasks", headers=headers).json == {"tasks": []}


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost", "http://localhost"),
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("localhost:8000", "http://LOCALHOST:8000"),
        ("localhost", "https://localhost"),
    ],
)
def test_the_page_itself_may_start_over_plain_http(client: FlaskClient, host: str, origin: str) -> None:
    """An Origin of the same host and port is the page itself, also behind a proxy that encrypts."""
    headers = {"Host": host, "Origin": origin}
    assert client.post("/tasks/narrate", json={"text": "x", "delay": 0}, headers=headers).status_code == 202


@pytest.mark.parametrize("path", ["/", "/tasks", "/events", "/metrics", "/nothing"])
@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "10.0.0.1"])
def test_a_name_that_was_led_here_reads_nothing(client: FlaskClient, host: str, path: str) -> None:
    """DNS rebinding: a page whose name comes to mean this machine is answered 400, whatever it asks for."""
    headers = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    assert "TRUSTED_HOSTS" in refused(client.get(path, headers=headers), 400)
    refused(client.post("/tasks/narrate", json={}, headers=headers), 400)
    assert client.get("/tasks").json == {"tasks": []}


@contextmanager
def serving(app: Flask) -> Iterator[int]:
    """Serve an app in this process; yield the port."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_browser_over_plain_http(make_client: MakeClient) -> None:
    """In Chromium the page starts a task, a form of another site does not, and a name led here is refused."""
    client = make_client(overrides={"TRUSTED_HOSTS": ["localhost", "app.example"]})
    other = Flask("other")
    led_here = "--host-resolver-rules=MAP app.example 127.0.0.1, MAP evil.example 127.0.0.1"
    with serving(client.application) as port, serving(other) as other_port, chromium(led_here) as browser:
        target = f"http://app.example:{port}"

        @other.get("/")
        def form() -> str:
            return f"<form method=post action={target}/tasks/narrate><input name=text value=x></form>"

        page = browser.new_page()
        page.goto(f"http://evil.example:{other_port}/")
        with page.expect_navigation() as answered:
            page.evaluate("document.forms[0].submit()")
        assert answered.value.status == 403
        assert client.get("/tasks").json == {"tasks": []}
        refused = page.goto(f"http://evil.example:{port}/")
        assert refused is not None
        assert refused.status == 400
        page.goto(target)
        started = page.evaluate(
            """fetch("/tasks/narrate", {
                method: "POST",
                body: '{"text": "x", "delay": 0}',
                headers: {"Content-Type": "application/json"},
            }).then((response) => response.status)"""
        )
        assert started == 202


def test_names_for_others_are_set_in_the_environment(make_client: MakeClient) -> None:
    """TRUSTED_HOSTS adds names to those of this machine; with a dot before it all under a name."""
    for given in ("", " , "):
        assert api.config.read({"TRUSTED_HOSTS": given})["TRUSTED_HOSTS"] == ["localhost", "127.0.0.1"]
    hosts = api.config.read({"TRUSTED_HOSTS": "example.com, .example.org"})["TRUSTED_HOSTS"]
    client = make_client(overrides={"TRUSTED_HOSTS": hosts})
    for host in ("example.com", "example.com:8000", "a.example.org", "localhost:8000", "127.0.0.1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200
    assert client.get("/healthz", headers={"Host": "a.example.com"}).status_code == 400


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_own_page_may_start(client: FlaskClient, site: str) -> None:
    """Requests of the page itself and of the person at the browser are taken."""
    text = {"text": "x", "delay": 0}
    assert client.post("/tasks/narrate", json=text, headers={"Sec-Fetch-Site": site}).status_code == 202
