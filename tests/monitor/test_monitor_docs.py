"""The code of docs/monitor.md runs, and mounts the monitor as the page says."""

import subprocess
import sys
import uuid
from typing import Any

import httpx
import pytest
from flask import Flask
from starlette.routing import Mount

from tests.markdown import block
from tests.nginx import Nginx
from tests.processes import running
from tests.servers import Valkey, eventually
from tests.sse_clients import SECONDS

URL = "redis://localhost:6379/0"


@pytest.fixture
def flask_app() -> Flask:
    names: dict[str, Any] = {"__name__": "web"}
    text = block("docs/monitor.md", "from bridge.flask import Bridge\n")
    exec(text.replace(URL, f"memory://{uuid.uuid4().hex}"), names)
    app: Flask = names["app"]
    return app


def test_flask_shows_it_to_operators_only(flask_app: Flask) -> None:
    """A stranger gets 403 and a page with advice; an operator gets the monitor."""
    with flask_app.test_client() as client:
        assert client.get("/monitor/").status_code == 403
        with client.session_transaction() as session:
            session["role"] = "operator"
        assert client.get("/monitor/").status_code == 200


def test_fastapi_has_the_routes() -> None:
    """The application of the page has the monitor mounted, and not in its OpenAPI document."""
    names: dict[str, Any] = {"__name__": "web"}
    text = block("docs/monitor.md", "from bridge.asgi import Bridge\n")
    exec(text.replace(URL, f"memory://{uuid.uuid4().hex}"), names)
    app = names["app"]
    assert any(isinstance(route, Mount) and route.path == "/monitor" for route in app.router.routes)
    assert not any("monitor" in path for path in app.openapi()["paths"])


def test_django_finds_the_urls() -> None:
    """The URLs of the page can be resolved in a project of their own."""
    script = """
from django.conf import settings
settings.configure(BRIDGE={"URL": "memory://", "PUBLIC": True}, ROOT_URLCONF="__main__", ALLOWED_HOSTS=["*"])
import django; django.setup()
%s
from django.test import Client
assert Client().get("/monitor/").status_code == 200
assert Client().get("/monitor/api/tasks").json()["total"] == 0
"""
    code = script % block("docs/monitor.md", "from django.urls import include, path\n")
    subprocess.run([sys.executable, "-c", code], check=True, timeout=SECONDS)


def test_it_runs_alone_behind_nginx(valkey: Valkey) -> None:
    """The command of the page, behind its nginx: page and files come through below the prefix."""
    _, command = block("docs/monitor.md", "pip install 'celery-event-bridge[redis,monitor]'\n").splitlines()
    words = command.replace(URL, valkey.url("redis")).split()[1:]
    with running([sys.executable, "-m", "bridge.cli", *words, "--port", "0"]) as log:
        eventually(lambda: "http://" in log.read_text(), SECONDS)
        address = log.read_text().split()[-1].rstrip("/")
        text = block("docs/monitor.md", "location /monitor/ {\n").replace("http://127.0.0.1:8000", address)
        with Nginx(text) as nginx:
            url = f"{nginx.addresses[0]}/monitor/"
            answer = httpx.get(url, trust_env=False, verify=False, timeout=SECONDS)
            assert answer.status_code == 200
            assert "bridge-monitor" in answer.text
