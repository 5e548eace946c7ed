"""Celery tasks publish events: states by themselves, the rest through `progress`, `track`, `step`, `log`.

`install(app, url)` connects the bridge to Celery. Importing this package changes nothing in Celery. Events
are sent in the background: no function that a task calls fails or waits because of the bridge, except for bad
arguments. What the events mean is in `bridge.tasks`, and this package does not know how they travel. Open
`wrapping.py` first: it lists what is connected to Celery, and each entry leads to one module.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.celery", "celery"):
    from bridge.celery.cancellation import Cancelled, cancel, check_cancelled
    from bridge.celery.canvas.ids import canvas_id
    from bridge.celery.installation import install
    from bridge.celery.task_api import log, progress, publish, step, track

__all__ = [
    "Cancelled",
    "cancel",
    "canvas_id",
    "check_cancelled",
    "install",
    "log",
    "progress",
    "publish",
    "step",
    "track",
]
