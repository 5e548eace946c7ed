"""The URL of an application that names none, in every framework."""

import logging
import uuid
from typing import Any

import pytest
from celery import Celery
from flask import Flask

import bridge
import bridge.asgi
import bridge.flask
from bridge.celery import install
from bridge.streams.service import StreamService
from bridge.streams.settings import read_settings

GIVEN: dict[str, Any] = {"BRIDGE_PUBLIC": True}


def url_in_flask(**config: Any) -> tuple[str, str, dict[str, Any]]:
    """Return the URL, its origin and the options of the streams of an app with this configuration."""
    app = Flask("web")
    app.config.update(GIVEN | config)
    bridge.flask.Bridge(app)
    service: StreamService = app.extensions["bridge"]
    settings = service.settings
    return settings.url, settings.origin, dict(settings.channel_options)


def test_the_order_is_configuration_environment_celery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is taken only if those before it name no URL; options of the streams count before install()'s."""
    with pytest.raises(bridge.ConfigurationError, match=r"BRIDGE_URL.*bridge\.celery\.install\(app\)"):
        url_in_flask()
    app = Celery("one", set_as_current=False)
    install(app, "memory://celery", namespace="shop", timeout=1.0)
    options = {"namespace": "shop", "timeout": 1.0}
    assert url_in_flask() == ("memory://celery", "install() of the Celery app", options)
    assert url_in_flask(BRIDGE_TIMEOUT=2.0)[2] == {"namespace": "shop", "timeout": 2.0}
    monkeypatch.setenv("BRIDGE_URL", "memory://env")
    assert url_in_flask() == ("memory://env", "the variable BRIDGE_URL", {})
    assert url_in_flask(BRIDGE_URL="memory://own")[:2] == ("memory://own", "app.config['BRIDGE_URL']")


def test_two_apps_that_differ_are_refused() -> None:
    """With two Celery apps that publish at different places the streams have to name one."""
    first, second = (Celery(name, set_as_current=False) for name in ("one", "two"))
    install(first, "memory://same")
    install(second, "memory://same")
    assert url_in_flask()[0] == "memory://same"
    install(second, "memory://other")
    with pytest.raises(bridge.ConfigurationError, match="several Celery apps"):
        url_in_flask()


def test_asgi_and_django_find_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bridge.asgi.Bridge()` needs no URL, nor does `settings.BRIDGE`."""
    with pytest.raises(bridge.ConfigurationError, match=r"Bridge\(url\)"):
        bridge.asgi.Bridge(public=True)
    monkeypatch.setenv("BRIDGE_URL", f"memory://{uuid.uuid4().hex}")
    assert bridge.asgi.Bridge(public=True).stats()["viewers"] == 0
    read = read_settings({"PUBLIC": True}, prefix="", url_setting='BRIDGE["URL"]')
    assert read.origin == "the variable BRIDGE_URL"


def test_the_log_says_what_was_chosen_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """One line has the place, the namespace and the origin, and no password."""
    app = Celery("one", set_as_current=False)
    install(app, "redis://u:secret@h:1/0", namespace="shop")
    with caplog.at_level(logging.INFO, "bridge"):
        url_in_flask()
    lines = [record.getMessage() for record in caplog.records if "streams read" in record.getMessage()]
    assert lines == ["streams read redis://h:1/0, namespace 'shop' (from install() of the Celery app)"]
    assert "secret" not in caplog.text
