"""Fixtures of the tests of `bridge.celery`."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import install


@pytest.fixture
def eager() -> Iterator[tuple[Celery, Any]]:
    """An app that runs its tasks in this process, and the channel they publish on."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    channel = bridge.connect(url)
    yield app, channel
    channel.close()
    app.close()
