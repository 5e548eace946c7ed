"""Celery tasks speak: lifecycle events by themselves, the rest through `progress`, `track`, `step`, `log`
and `publish`.

Nothing here fails or stalls a task: events leave through an outbox, and only bad arguments raise.
"""

from bridge.errors import needs_extra

with needs_extra("bridge.celery", "celery"):
    # Their signal handlers serve every installed app.
    from bridge.celery import children, heartbeat, lifecycle, startup
    from bridge.celery.cancellation import Cancelled, cancel, check_cancelled
    from bridge.celery.canvas import canvas_id
    from bridge.celery.helpers import log, progress, publish, step, track
    from bridge.celery.installation import install

__all__ = [
    "Cancelled",
    "cancel",
    "canvas_id",
    "check_cancelled",
    "children",
    "heartbeat",
    "install",
    "lifecycle",
    "log",
    "progress",
    "publish",
    "startup",
    "step",
    "track",
]
