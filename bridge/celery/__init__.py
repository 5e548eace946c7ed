"""Celery tasks publish events: states by themselves, the rest through `progress`, `track`, `step`, `log`.

`install(app, url)` connects the bridge to Celery. Importing this package changes nothing in Celery. Events
are sent in the background: what a task calls does not wait for the bridge, and raises only for bad arguments.
The meaning of events is in `bridge.tasks`. This package does not know how they travel, and serves no viewers.
Open `wrapping.py` first: it lists what is connected to Celery, and each entry leads to one module.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.celery", "celery"):
    from bridge.celery.cancellation import Cancelled, cancel, check_cancelled
    from bridge.celery.canvas.ids import canvas_id
    from bridge.celery.installation import install
    from bridge.celery.tagging import tags
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
    "tags",
    "track",
]
