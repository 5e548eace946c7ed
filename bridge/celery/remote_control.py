"""The remote control command of the bridge, which every worker with the bridge has."""

import importlib

# `Any` in this module: Celery hands its own objects to a command.
from typing import Any

from bridge.celery.apps import installed
from bridge.celery.canvas import cancelling
from bridge.celery.main_process import requests_in_hand


def register(**_: Any) -> None:
    """Add the command to those of Celery. Called when a worker starts."""
    control: Any = importlib.import_module("celery.worker.control")  # a web process does not load it
    arguments = [("canvas_id", str), ("terminate", bool)]
    control.control_command(name=cancelling.COMMAND, args=arguments)(_cancel_canvas)


def _cancel_canvas(state: Any, canvas_id: str, terminate: bool = False, **_: Any) -> dict[str, str]:
    """Cancel the parts of a canvas that this worker has, and those that it receives later."""
    cancelling.remember(canvas_id)
    found = installed(state.app)
    count = 0
    if found is not None:
        pool = state.consumer.pool
        for request in requests_in_hand():
            count += cancelling.cancel_part(found, request, canvas_id, terminate=bool(terminate), pool=pool)
    return {"ok": f"{count} tasks of {canvas_id} are here"}
