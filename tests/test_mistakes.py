"""Each mistake of the installation has an error or a line in the log that names the remedy."""

import logging
import subprocess
import sys
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery
from flask import Flask

import bridge
import bridge.asgi
import bridge.flask
from bridge.celery import canvas_id, install, publish, tags
from bridge.celery.startup_log import log_where
from bridge.streams.access.keys import read_keys
from tests.cli.tools import run
from tests.servers import free_port
from tests.test_floors import ROOT

REDIS = "redis://localhost:6379/0"


def a_celery_app(**settings: Any) -> Celery:
    app = Celery("mistaken", set_as_current=False)
    app.conf.update(settings)
    return app


def a_flask_app(**config: Any) -> Flask:
    app = Flask("web")
    app.config.update(config)
    return app


def a_topic() -> bridge.Topic:
    return bridge.connect("memory://").topic("orders")


MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    # The URL.
    "postgres://": (
        lambda: bridge.connect("postgres://h/db"),
        "write postgresql://user:password@host/database",
    ),
    "no scheme": (lambda: bridge.connect("localhost:6379"), "for Redis write redis://localhost:6379/0"),
    "an unknown parameter": (lambda: bridge.connect(f"{REDIS}?sokcet=1"), "sokcet; remove it from the URL"),
    "an unknown option": (lambda: bridge.connect(REDIS, retain=5), "retain: open_backend() got"),
    "an option's old name": (lambda: bridge.connect(REDIS, retention=5), "write retention_seconds"),
    "a broker as the URL": (
        lambda: bridge.connect("amqp://h"),
        "give the bridge a URL of its own, such as redis:",
    ),
    "no URL for connect": (lambda: bridge.connect(""), f"a URL is needed, such as {REDIS}"),
    "a bad password": (lambda: bridge.connect("redis://u:p#w@h/0"), "percent-encode every character"),
    "no URL in Celery": (lambda: install(a_celery_app()), "set app.conf.bridge_url"),
    "a broker of AMQP": (
        lambda: install(a_celery_app(broker_url="amqp://h")),
        f'set app.conf.bridge_url, or call install(app, "{REDIS}")',
    ),
    "no URL in Flask": (lambda: bridge.flask.Bridge(a_flask_app()), "set app.config['BRIDGE_URL']"),
    "no URL in ASGI": (lambda: bridge.asgi.Bridge(public=True), "set the variable BRIDGE_URL"),
    # The calls.
    "text as a payload": (
        lambda: a_topic().publish("text"),  # type: ignore[arg-type]  # the mistake
        "for example payload.encode()",
    ),
    "a dict as a payload": (
        lambda: a_topic().publish({}),  # type: ignore[arg-type]  # the mistake
        "json.dumps(payload).encode()",
    ),
    "a reserved type": (lambda: publish("end"), "reserved"),
    "an id as a canvas": (lambda: canvas_id("id"), "bridge.task_topic(task_id) is the topic"),
    "no app": (
        lambda: install("app"),  # type: ignore[arg-type]  # the mistake
        "takes a Celery app, not str",
    ),
    "a level that is none": (lambda: install(a_celery_app(), REDIS, capture_logs="LOUD"), 'such as "INFO"'),
    "too many tags": (lambda: tags(*map(str, range(9))), "8"),
    "a misspelt option": (
        lambda: bridge.flask.Bridge(a_flask_app(BRIDGE_URL=REDIS, BRIDGE_NAMSPACE="x")),
        "unknown configuration BRIDGE_NAMSPACE; known are BRIDGE_URL",
    ),
    "a short key": (lambda: read_keys("short", "BRIDGE_TOKEN_KEYS"), "make one with: python -c"),
    "history without messages": (
        lambda: bridge.connect("redis+pubsub://h").topic("x").subscribe(after=bridge.BEGINNING),
        "needs a backend that keeps messages, such as redis://",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_the_error_names_the_remedy(name: str) -> None:
    """The exception says what to do instead."""
    mistake, remedy = MISTAKES[name]
    with pytest.raises((bridge.BridgeError, ValueError, TypeError)) as raised:
        mistake()
    assert remedy in str(raised.value)


COMMANDS: dict[str, tuple[tuple[str, ...], str]] = {
    "no URL": (("tasks",), "or set BRIDGE_URL"),
    "a wrong scheme": (("tasks", "postgres://h/db"), "write postgresql://"),
    "no server": (("tasks", f"redis://127.0.0.1:{free_port()}"), "did not answer"),
    "memory": (("doctor", "memory://"), "use redis://, or sqlite:///bridge.db"),
    "no database": (("migrate", REDIS), "such as postgresql:// or sqlite:///"),
    "no key": (("token", "orders"), "--key-file, or set BRIDGE_TOKEN_KEY"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_names_the_remedy(name: str) -> None:
    """The command ends with a status that is not 0, and one line that says what to do."""
    arguments, remedy = COMMANDS[name]
    result = run(*arguments)
    assert result.exit_code != 0
    assert remedy in result.output


WITHOUT = """
import sys

hidden = {"celery", "flask", "litestar", "django", "redis", "sqlalchemy", "jwt", "click"}

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in hidden:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
import bridge
from bridge import cli
from bridge.streams.access.keys import read_keys

def flask(): import bridge.flask
def celery(): import bridge.celery
def litestar(): import bridge.litestar
def redis(): bridge.connect("redis://h")
def sql(): bridge.connect("sqlite:///x.db")
def postgresql(): bridge.connect("postgresql://h/x")
def tokens(): read_keys("x" * 40, "BRIDGE_TOKEN_KEYS")

for extra in (flask, celery, litestar, redis, sql, postgresql, tokens):
    try:
        extra()
        raise SystemExit(f"{extra.__name__} works without its extra")
    except bridge.ConfigurationError as error:
        assert f"pip install 'celery-event-bridge[{extra.__name__}]'" in str(error), error
assert cli.main(["tasks"]) == 1
"""


def test_a_missing_extra_is_named() -> None:
    """Each module that needs a package says which extra brings it, in an error of the bridge."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'celery-event-bridge[cli]'" in done.stderr


def test_a_worker_of_an_app_without_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """With two apps, the log of the worker names the one that has the bridge, and what to call."""
    with_bridge, bare = Celery("shop", set_as_current=False), Celery("other", set_as_current=False)
    install(with_bridge, f"memory://{uuid.uuid4().hex}")
    with caplog.at_level(logging.WARNING, "bridge"):
        log_where(SimpleNamespace(app=bare))
    (said,) = [record.getMessage() for record in caplog.records]
    assert "the Celery app 'other', which has no bridge" in said
    assert "'shop'" in said
    assert "Call install(app)" in said


def test_a_worker_that_cannot_reach_the_bridge(caplog: pytest.LogCaptureFixture) -> None:
    """The log of the worker says where it looked, where the URL comes from, and what happens meanwhile."""
    app = Celery("shop", set_as_current=False)
    app.conf.bridge_url = f"redis://127.0.0.1:{free_port()}"
    install(app)
    with caplog.at_level(logging.WARNING, "bridge"):
        log_where(SimpleNamespace(app=app))
    assert "(from app.conf.bridge_url)" in caplog.text
    assert "Tasks run all the same" in caplog.text
