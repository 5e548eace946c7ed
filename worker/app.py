"""The Celery application. A worker starts with `celery -A worker.app worker`."""

from pathlib import Path

from celery import Celery

from bridge.celery import install
from worker.config import settings

app = Celery(
    "worker",
    broker=settings.broker_url,
    backend=settings.result_backend,
    include=["worker.tasks"],
)
for name, value in settings.broker_options.items():
    if "folder" in name:
        Path(value).mkdir(parents=True, exist_ok=True)
app.conf.update(
    broker_transport_options=settings.broker_options,
    broker_connection_retry_on_startup=True,
    # The bridge delivers results to viewers, so a result backend is optional.
    task_ignore_result=settings.result_backend is None,
)
install(app, settings.bridge_url)
