"""A Celery app whose task counts aloud, for the worker processes of the fault suite."""

import os
import time
from pathlib import Path

from celery import Celery

from bridge.celery import install, publish

app = Celery("faults", broker=os.environ["FAULTS_BROKER"], backend=os.environ["FAULTS_BROKER"])
app.conf.update(
    worker_hijack_root_logger=False,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)
install(app, os.environ["FAULTS_BRIDGE"], timeout=0.5)


@app.task
def count(total: int, pause: float = 0.0, gate: str = "", gate_at: int = 0) -> int:
    """Publish the numbers below `total`, `pause` seconds apart; before `gate_at` wait for the file `gate`."""
    for number in range(total):
        if gate and number == gate_at:
            while not Path(gate).exists():
                time.sleep(0.01)
        publish("number", {"n": number})
        time.sleep(pause)
    return total
