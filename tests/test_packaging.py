"""What is published, and what is pinned."""

import os
import re
import subprocess
import tomllib
import zipfile
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.environments import NAME, ROOT, SECONDS, build_wheel, environment
from tests.readme import events_of_a_job
from tests.servers import Postgres, Valkey

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ROUND_TRIP = """
import sys, bridge

for url in sys.argv[1:]:
    with bridge.connect(url) as channel:
        topic = channel.topic("orders")
        with topic.as_subscriber().subscribe() as subscription:
            topic.as_producer().publish(b"one")
            assert subscription.receive(timeout=10) == b"one"
"""

CELERY = """
from celery import Celery
from celery.contrib.testing.worker import start_worker
import bridge
from bridge.celery import install, track

app = Celery(broker="memory://", backend="cache+memory://")
install(app, "memory://")

@app.task
def count(pages):
    return sum(1 for page in track(range(pages)))

with start_worker(app, perform_ping_check=False, shutdown_timeout=30):
    assert count.delay(5).get(timeout=30) == 5
"""

FLASK = """
from flask import Flask
from bridge.flask import Bridge

app = Flask("web")
app.config.update(BRIDGE_URL="memory://", BRIDGE_PUBLIC=True)
streams = Bridge(app)
app.get("/events")(lambda: streams.stream("orders"))
response = app.test_client().get("/events")
assert response.mimetype == "text/event-stream"
assert next(response.iter_encoded()).startswith(b"retry:")
response.close()
"""

DJANGO = """
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    BRIDGE={"URL": "memory://", "PUBLIC": True},
    INSTALLED_APPS=["bridge.django"],
    ROOT_URLCONF="__main__",
)

import django
from bridge.django import stream
from django.core.checks import run_checks
from django.test import Client
from django.urls import path

django.setup()
urlpatterns = [path("events", lambda request: stream(request, "orders"))]
assert run_checks() == []
response = Client().get("/events")
assert response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
assert next(iter(response.streaming_content)).startswith(b"retry:")
response.close()
"""

LITESTAR = """
import asyncio, bridge
from bridge.litestar import BridgeChannelsBackend
from litestar.channels import ChannelsPlugin

async def main():
    backend = BridgeChannelsBackend(bridge.connect("memory://"))
    await backend.on_startup()
    await backend.subscribe(["news"])
    await backend.publish(b"one", ["news"])
    assert await anext(backend.stream_events()) == ("news", b"one")
    await backend.on_shutdown()

asyncio.run(main())
"""

SQLSPEC = """
from bridge import ConfigurationError
from bridge.sqlspec import connect

try:
    connect(None)
except ConfigurationError as error:
    assert "SQLSpec's event channel is needed" in str(error)
"""

TOKENS = """
from bridge.streams.access.keys import read_keys
from bridge.streams.access.tokens import Tokens, make_scope
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
for key in ("s" * 32, pem):
    tokens = Tokens(read_keys(key, "KEYS"), None, audience="us")
    token = tokens.sign(make_scope(["orders"], None, None, "read"), expires=60, subject=None)
    assert tokens.verify(token).scope.covers("orders")
"""

CLI = """
import subprocess, sys

def bridge(*arguments):
    command = [sys.executable, "-m", "bridge.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)

assert bridge("--version").stdout.startswith("celery-event-bridge, version ")
assert "only a database has tables" in bridge("migrate", "memory://").stderr
"""

PROMETHEUS = """
from bridge.asgi import Bridge
from bridge.prometheus import collector
from prometheus_client import REGISTRY, generate_latest

REGISTRY.register(collector(Bridge("memory://", public=True)))
assert b"bridge_viewers 0.0" in generate_latest()
"""

OPENTELEMETRY = """
import bridge
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, use_span

parent = NonRecordingSpan(SpanContext(1, 1, is_remote=False))
with bridge.connect("memory://") as channel, use_span(parent):
    topic = channel.topic("orders")
    topic.publish(b"one")
    assert topic.as_subscriber().history() == [b"one"]
"""

MONITOR = """
import re, subprocess, sys
from urllib.request import urlopen

command = [sys.executable, "-m", "bridge.cli", "monitor", "memory://", "--port", "0"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
    address = process.stdout.readline().split()[-1]
    page = urlopen(address, timeout=30).read().decode()
    for path in re.findall('(?:src|href)="(files/[^"]*)"', page):
        assert urlopen(address + path, timeout=30).status == 200
    assert "main.js" in page
    process.terminate()
"""

SMOKE = {
    "": (ROUND_TRIP, "memory://"),
    "redis": (ROUND_TRIP, "{redis}", "{redis_pubsub}"),
    "celery": (CELERY,),
    "flask": (FLASK,),
    "django": (DJANGO,),
    "litestar": (LITESTAR,),
    "sql": (ROUND_TRIP, "{sqlite}"),
    "postgresql": (ROUND_TRIP, "{postgresql}", "{sqlite}"),
    "sqlspec": (SQLSPEC,),
    "tokens": (TOKENS,),
    "cli": (CLI,),
    "prometheus": (PROMETHEUS,),
    "opentelemetry": (OPENTELEMETRY,),
    "monitor": (MONITOR,),
}
"""What each extra is for: a script that needs it and nothing else, and its arguments."""


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture
def wheel(wheel_file: Path) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(wheel_file) as wheel:
        yield wheel


@pytest.fixture
def urls(valkey: Valkey, postgres: Postgres, tmp_path: Path) -> dict[str, str]:
    return {
        "redis": valkey.url("redis"),
        "redis_pubsub": valkey.url("redis+pubsub"),
        "sqlite": f"sqlite:///{tmp_path}/bridge.db",
        "postgresql": postgres.url(),
    }


def test_every_extra_is_installed_below() -> None:
    """Each extra has a script below; `all` is installed with all of them."""
    assert set(SMOKE) - {""} == set(PROJECT["optional-dependencies"]) - {"all"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("extra", SMOKE)
def test_an_extra_alone_brings_all_it_needs(
    extra: str, wheel_file: Path, urls: dict[str, str], tmp_path: Path
) -> None:
    """In an environment with that extra alone, in the newest versions, what it is for works."""
    with environment(wheel_file, f"{NAME}[{extra}]" if extra else NAME) as python:
        run(python, *SMOKE[extra], urls=urls, folder=tmp_path)


@pytest.mark.timeout(300)
def test_all_extras_go_together(
    wheel_file: Path, urls: dict[str, str], own_valkey: Valkey, tmp_path: Path
) -> None:
    """In one environment with every extra each of them works, and so does the README's code."""
    extras = ",".join(PROJECT["optional-dependencies"])
    with environment(wheel_file, f"{NAME}[{extras}]") as python:
        for script in SMOKE.values():
            run(python, *script, urls=urls, folder=tmp_path)
        assert events_of_a_job(python, tmp_path, own_valkey.port)[-1] == "end"


def run(python: Path, script: str, *arguments: str, urls: dict[str, str], folder: Path) -> None:
    command: list[str | Path] = [python, "-c", script, *(argument.format(**urls) for argument in arguments)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr


def test_wheel_holds_all_of_bridge_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The wheel is the library, typed and with its browser module, and nothing else."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bridge").rglob("*") if path.is_file()}
    metadata = {
        name for name in wheel.namelist() if re.match(r"celery_event_bridge-[\w.]+\.dist-info/", name)
    }
    assert set(wheel.namelist()) - metadata == {name for name in files if "__pycache__" not in name}
    assert {"bridge/py.typed", "bridge/backends/redis/lua/append.lua"} <= files


def test_wheel_names_extras_and_no_requirement_without_one(wheel: zipfile.ZipFile) -> None:
    """Whatever the library needs from outside is behind an extra."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "celery-event-bridge"
    assert {"redis", "celery", "flask", "sql", "postgresql", "all"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    assert all("extra ==" in requirement for requirement in metadata.get_all("Requires-Dist", []))


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(pairs), "constraints.txt holds name==version lines only"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs if pair}


def wanted() -> list[Requirement]:
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines += [line for line in (ROOT / name).read_text().splitlines() if re.match(r"\w", line)]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    """Every requirement is pinned, to a version within its own bounds."""
    assert requirement.specifier.contains(pinned()[canonicalize_name(requirement.name)])
