"""The code of docs/browser.md, run as an application would have it."""

# `Any` in this module: the names of an application.
from typing import Annotated, Any

from django.conf import settings
from django.test import Client, override_settings
from django.urls import include, path
from fastapi import FastAPI, Query
from fastapi.testclient import TestClient
from flask import Flask, Response, request
from playwright.sync_api import expect

import bridge.asgi
import bridge.django
from bridge.flask import Bridge
from tests.browser.app import served
from tests.browser.tabs import SECONDS, Tabs
from tests.django_app import configure
from tests.markdown import block
from tests.servers import eventually

MS = 20_000
FLASK = block("docs/browser.md", '@app.get("/events")\ndef events():\n')
FASTAPI = block("docs/browser.md", '@app.get("/events", response_class')
DJANGO = block("docs/browser.md", "urlpatterns = [\n")
PAGE = block("docs/browser.md", "<!doctype html>\n")
TOKENS = block("docs/browser.md", 'import { connect } from "/bridge/bridge.js"')
ELEMENT = block("docs/browser.md", '<script type="module" src="/bridge/element.js"></script>\n<task-progress')


def test_the_route_of_flask() -> None:
    """It streams the topics that the query names, and refuses a request for none."""
    app = Flask("docs")
    app.config.update(BRIDGE_URL="memory://", BRIDGE_PUBLIC=True)
    names: dict[str, Any] = {"app": app, "streams": Bridge(app), "request": request}
    exec(FLASK, names)
    with app.test_client().get("/events?topic=a&topic=b") as answer:
        assert answer.mimetype == "text/event-stream"
    assert app.test_client().get("/events").status_code == 404


def test_the_route_of_fastapi() -> None:
    """It refuses a bad topic, and a request for none."""
    app = FastAPI()
    streams = bridge.asgi.Bridge("memory://", public=True)
    kinds = {"StreamResponse": bridge.asgi.StreamResponse, "RESPONSES": bridge.asgi.RESPONSES}
    exec(FASTAPI, {"app": app, "streams": streams, "Annotated": Annotated, "Query": Query, **kinds})
    asks = TestClient(app)
    assert asks.get("/events?topic=a%00").status_code == 404
    assert asks.get("/events").status_code == 422


def test_the_urls_of_django() -> None:
    """They stream the topics of the query, and serve the files of the client."""
    if not settings.configured:
        configure()
    names: dict[str, Any] = {
        "__name__": "urls",
        "include": include,
        "path": path,
        "stream": bridge.django.stream,
    }
    exec(DJANGO, names)
    urls = type("Urls", (), {"urlpatterns": names["urlpatterns"]})
    with override_settings(ROOT_URLCONF=urls, BRIDGE={"URL": "memory://", "PUBLIC": True}):
        answer: Any = Client().get("/events?topic=a&topic=b")
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        answer.close()
        assert Client().get("/events").status_code == 404
        assert Client().get("/bridge/bridge.js").status_code == 200


def test_the_page_the_tokens_and_the_element(chromium_tabs: Tabs) -> None:
    """The pages show their tasks, each over one stream."""

    def prepare(app: Flask, streams: Bridge) -> None:
        inline = {"Content-Security-Policy": "default-src 'self' 'unsafe-inline'"}
        pages = {"page": PAGE, "tokens": f"<script type=module>{TOKENS}\nwindow.bridge = bridge;</script>"}
        for name, text in {**pages, "element": ELEMENT}.items():
            app.add_url_rule(f"/{name}", f"docs_{name}", lambda text=text: Response(text, headers=inline))
        app.post("/token")(lambda: streams.token("orders", subject="42"))

    keys = {"BRIDGE_TOKEN_KEYS": ["a secret of thirty-two bytes or more"]}
    with served(prepare, **keys) as app:
        app.say("state", "8f1c", state="STARTED", name="work")
        page = chromium_tabs.open(f"{app.address}/page?task=8f1c")
        expect(page.locator("#words")).to_have_text("STARTED, 0 lines in the log", timeout=MS)
        expect(page.locator("task-progress [part=name]")).to_have_text("work", timeout=MS)
        assert app.asked["/events"] == 1
        page = chromium_tabs.open(f"{app.address}/element")
        expect(page.locator("task-progress [part=state]")).to_have_text("running", timeout=MS)
        page = chromium_tabs.open(f"{app.address}/tokens")
        page.evaluate("() => bridge.topic('orders').subscribe((last) => (window.last = last.data))")
        eventually(lambda: app.asked["/token"] == 1, SECONDS)
        eventually(lambda: page.evaluate("() => bridge.status.status") == "open", SECONDS)
        assert app.viewers == 3
        app.publish("orders", "one")
        eventually(lambda: page.evaluate("() => window.last") == "one", SECONDS)
