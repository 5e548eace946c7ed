"""Which channel `install(app)` takes without a URL."""

import pathlib
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import install
from bridge.celery.apps import installed
from bridge.celery.choosing import choose_url

SENTINELS = "sentinel://:pw@a:26379/2;sentinel://:pw@b:26380/2"


def app_with(**settings: Any) -> Celery:
    app = Celery("chosen", set_as_current=False)
    app.conf.update(settings)
    return app


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"bridge_url": "memory://x", "broker_url": "redis://h/1"}, "memory://x"),
        ({"broker_url": "redis://:pw@h:6379/1"}, "redis://:pw@h:6379/1"),
        ({"broker_url": ["rediss://h/1", "redis://other"]}, "rediss://h/1"),
        ({"broker_url": "amqp://", "broker_write_url": "redis://h/1"}, "redis://h/1"),
        (
            {"broker_url": SENTINELS, "broker_transport_options": {"master_name": "main"}},
            "redis+sentinel://:pw@a:26379,b:26380/main/2",
        ),
        ({"broker_url": "sqla+sqlite:///celery.db"}, "sqlite:///celery.db"),
        ({"broker_url": "sqla+postgresql+psycopg2://u:p@h/db"}, "postgresql://u:p@h/db"),
        ({"broker_url": "sqlalchemy+mysql+pymysql://u@h/db"}, "sql+mysql+pymysql://u@h/db"),
    ],
)
def test_the_configuration_counts_before_the_broker(settings: dict[str, Any], url: str) -> None:
    """`app.conf.bridge_url`, else a broker that carries the bridge too, as a URL of the bridge."""
    chosen = choose_url(app_with(**settings))
    assert chosen.url == url
    assert ("broker" in chosen.origin.partition(";")[0]) == ("bridge_url" not in settings)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "this app has no broker yet"),
        (
            {"broker_url": "amqp://u:secret@h//"},
            r"broker of this app \(amqp://\) cannot carry the bridge",
        ),
        ({"broker_url": "memory://"}, r"\(memory://\) cannot carry the bridge"),
        ({"broker_url": "sentinel://a:26379"}, "no master_name"),
        ({"broker_url": "redis://h", "broker_use_ssl": {"ssl_cert_reqs": None}}, "rediss://"),
    ],
)
def test_a_broker_that_cannot_carry_the_bridge_is_refused(settings: dict[str, Any], says: str) -> None:
    """The error says why, and where to set a URL, and has no password."""
    with pytest.raises(bridge.ConfigurationError, match=says) as refused:
        install(app_with(**settings))
    assert "app.conf.bridge_url" in str(refused.value)
    assert "secret" not in str(refused.value)


def test_the_environment_counts_before_the_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """With BRIDGE_URL the worker and the web process agree, also if only one of them has a broker."""
    monkeypatch.setenv("BRIDGE_URL", "memory://env")
    chosen = choose_url(app_with(broker_url="redis://h"))
    assert (chosen.url, chosen.origin) == ("memory://env", "the variable BRIDGE_URL")
    assert choose_url(app_with(bridge_url="memory://conf")).url == "memory://conf"


def test_settings_with_a_prefix_count(tmp_path: pathlib.Path) -> None:
    """As in Django, CELERY_BRIDGE_URL is `bridge_url`; options of install() are kept."""

    class Settings:
        CELERY_BRIDGE_URL = f"sqlite:///{tmp_path}/bridge.db"

    app = Celery("chosen", set_as_current=False)
    app.config_from_object(Settings, namespace="CELERY")
    install(app, namespace="shop")
    found = installed(app)
    assert found is not None
    assert found.chosen.url == Settings.CELERY_BRIDGE_URL
    assert found.chosen.options == {"namespace": "shop"}
    assert Settings.CELERY_BRIDGE_URL not in repr(found.chosen)
