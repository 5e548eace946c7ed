"""A Celery app whose states are kept for a short time only, for the worker processes of the tests."""

import os
import time
from pathlib import Path
from typing import Any

from celery import Celery

from bridge.celery import install
from bridge.model import state

RETENTION = 1.0


def make_app(broker: str, bridge_url: str, namespace: str) -> Celery:
    """The app of a worker and of who queues its tasks."""
    app = Celery("retention", broker=broker, set_as_current=False)
    app.conf.broker_transport_options = {"global_keyprefix": namespace}
    options: dict[str, Any] = {"retention_seconds": RETENTION, "namespace": namespace}
    install(app, bridge_url, heartbeat=0.2, stalls_after=2.0, **options)
    app.task(name="wait")(wait)
    return app


def wait(file: str) -> None:
    """Say nothing until the file is there."""
    while not Path(file).exists():
        time.sleep(0.01)


if "RETENTION_BROKER" in os.environ:
    state.UNENDED_SECONDS = float(os.environ["RETENTION_UNENDED"])
    names = ("RETENTION_BROKER", "RETENTION_BRIDGE", "RETENTION_NAMESPACE")
    app = make_app(*(os.environ[name] for name in names))
