"""Processes that the tests of canvases share, and apps without a worker."""

import gc
import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import install
from tests.celery.canvas.watching import worker
from tests.servers import Valkey
from tests.serving import serving


@pytest.fixture(scope="session")
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(scope="session")
def tasks(server: Valkey) -> Iterator[Any]:
    """The module of the tasks, which a prefork worker runs."""
    os.environ |= {"APP_BROKER": server.url("redis"), "APP_BRIDGE": server.url("redis")}
    import tests.canvas_app as tasks

    with worker():
        yield tasks
    gc.collect()  # results tell the server when they are dropped
    tasks.app.close()


@pytest.fixture(scope="session")
def address(server: Valkey) -> Iterator[str]:
    with serving("gunicorn gevent", BRIDGE_URL=server.url("redis"), BRIDGE_PUBLIC="true") as address:
        yield address


@pytest.fixture(scope="session")
def channel(server: Valkey) -> Iterator[Any]:
    with bridge.connect(server.url("redis")) as channel:
        yield channel


@pytest.fixture
def sender() -> Iterator[tuple[Celery, Any]]:
    """An app that queues tasks which no worker runs, and the channel on which it publishes."""
    app = Celery("sender", broker="memory://", backend="cache+memory://", set_as_current=False)
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    with bridge.connect(url) as channel:
        yield app, channel
    app.close()
