"""`celery -A app bridge`, `flask bridge` and `manage.py bridge` find the bridge of the application."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.bin.celery import celery as celery_command
from click.testing import CliRunner, Result
from flask import Flask
from flask.cli import FlaskGroup

import bridge
from bridge.celery import install
from bridge.flask import Bridge
from bridge.streams.access.keys import read_keys
from bridge.streams.access.tokens import Tokens
from tests.celery.workers import worker
from tests.cli.tools import SECONDS, run, say
from tests.processes import ROOT
from tests.servers import Valkey

SECRET = "s" * 32

DJANGO = f"""
import os

ALLOWED_HOSTS = ["*"]
INSTALLED_APPS = ["bridge.django"]
SECRET_KEY = "x"
BRIDGE = {{"URL": os.environ["URL"], "PUBLIC": True, "NAMESPACE": "shop", "TOKEN_KEYS": "{SECRET}"}}
"""


def command(*words: str, env: dict[str, str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    """Run a module of Python as a command."""
    return subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def test_celery_follows_a_task_of_a_real_worker(own_valkey: Valkey) -> None:
    """`celery -A app bridge tail ID` exits with the status of the task, and `doctor` hears the worker."""
    url = own_valkey.url("redis")
    with worker(url, url, "solo") as started:
        failed, _ = started.run("fail")
        env = {"APP_BROKER": url, "APP_BRIDGE": url}
        followed = command("celery", "-A", "tests.celery_app", "bridge", "tail", failed, env=env)
        assert followed.returncode == 4, followed.stderr
        *_, end = map(json.loads, followed.stdout.splitlines())
        assert (end["type"], end["state"]) == ("end", "FAILURE")
        looked = command("celery", "-A", "tests.celery_app", "bridge", "doctor", env=env)
        assert "publishes here" in looked.stdout
        assert looked.returncode == 0, looked.stdout + looked.stderr
        silent = run("doctor", url, "--namespace", "elsewhere", "--wait", "0.3")
        assert silent.exit_code == 1
        assert "no worker was heard in the namespace 'elsewhere'" in silent.stdout
        assert "in other namespaces: 'bridge'" in silent.stdout


def celery_bridge(app: Celery, *arguments: str) -> Result:
    """Run `celery -A app bridge` in this process."""
    given: list[Any] = ["-A", app, "bridge", *arguments]  # Celery's option also takes an app
    return CliRunner().invoke(celery_command, given)


def test_celery_says_that_an_app_has_no_bridge() -> None:
    """Without `install()` the error names it; with a URL the command works."""
    app = Celery("bare", set_as_current=False)
    for arguments, status in ((("stats",), 1), (("stats", "memory://"), 0)):
        done = celery_bridge(app, *arguments)
        assert done.exit_code == status, done.output
    done = celery_bridge(app, "stats")
    assert "the Celery app 'bare' has no bridge" in done.stderr
    assert "bridge.celery.install(app)" in done.stderr


def test_celery_takes_the_options_of_install() -> None:
    """The namespace and the URL are those of `install()`."""
    url, app = f"memory://{uuid.uuid4().hex}", Celery("with", set_as_current=False)
    install(app, url, namespace="shop")
    with bridge.connect(url, namespace="shop") as channel:
        channel.topic("orders").publish(b"1")
        done = celery_bridge(app, "topics")
    assert done.stdout == '{"topic":"orders"}\n'


def test_flask_finds_the_url_and_the_keys() -> None:
    """`flask bridge` reads what the app reads, and its tokens are those of the app."""
    url, app = f"memory://{uuid.uuid4().hex}", Flask("web")
    group = FlaskGroup(create_app=lambda: app)
    without = CliRunner().invoke(group, ["bridge", "topics"])
    assert (without.exit_code, "call bridge.flask.Bridge(app)" in without.stderr) == (1, True)
    app.config.update(BRIDGE_URL=url, BRIDGE_NAMESPACE="shop", BRIDGE_TOKEN_KEYS=SECRET)
    Bridge(app)
    with bridge.connect(url, namespace="shop") as channel:
        channel.topic("orders").publish(b"1")
        assert CliRunner().invoke(group, ["bridge", "topics"]).stdout == '{"topic":"orders"}\n'
    check(CliRunner().invoke(group, ["bridge", "token", "orders", "--subject", "42"]).stdout, "shop")


def test_django_finds_the_url_and_the_keys(tmp_path: Path) -> None:
    """`manage.py bridge` reads what the streams read; its tokens, its help and its statuses are the same."""
    (tmp_path / "project.py").write_text(DJANGO)
    url = f"sqlite:///{tmp_path}/bridge.db"
    env = {"URL": url, "DJANGO_SETTINGS_MODULE": "project", "PYTHONPATH": str(tmp_path)}
    with bridge.connect(url, namespace="shop") as channel:
        say(channel, "t1", ("state", {"state": "REVOKED"}))
    followed = command("django", "bridge", "tail", "t1", folder=tmp_path, env=env)
    assert (followed.returncode, '"REVOKED"' in followed.stdout) == (3, True), followed.stderr
    check(
        command("django", "bridge", "token", "orders", "--subject", "42", folder=tmp_path, env=env).stdout,
        "shop",
    )


def test_a_token_needs_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key comes from a file or the environment, and without one the error names both."""
    (tmp_path / "key").write_text(f"{SECRET}\n")
    arguments: tuple[Any, ...] = ("token", "orders", "--subject", "42", "--namespace", "shop")
    check(run(*arguments, "--key-file", str(tmp_path / "key")).stdout, "shop")
    without = run(*arguments)
    assert without.exit_code == 1
    assert "--key-file, or set BRIDGE_TOKEN_KEY" in without.stderr
    monkeypatch.setenv("BRIDGE_TOKEN_KEY", SECRET)
    check(run(*arguments).stdout, "shop")
    assert "at least one topic, prefix or tag" in run("token").stderr


def check(token: str, namespace: str) -> None:
    """Fail unless `token` lets 42 read orders."""
    tokens = Tokens(read_keys(SECRET, "KEYS"), None, audience=f"celery-event-bridge:{namespace}")
    claims = tokens.verify(token.strip())
    assert claims.scope.covers("orders")
    assert claims.subject == "42"
