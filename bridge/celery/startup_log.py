"""What a worker logs when it starts: where its tasks publish, or that the bridge cannot be reached yet."""

import logging

# `Any` in this module: Celery hands workers of several unrelated classes to its signals.
from typing import Any

from bridge.celery.apps import installed, name_of, names_of_installed
from bridge.errors import BridgeError
from bridge.tasks.publish_queue import LIMIT

logger = logging.getLogger("bridge.celery")


def log_where(instance: Any, **_: Any) -> None:
    """Log where the tasks of a worker publish: when it has set up logging, before it asks its broker."""
    found = installed(instance.app)
    if found is None:
        others = ", ".join(names_of_installed())
        if others:
            logger.warning(
                "this worker runs the Celery app %s, which has no bridge, so nobody sees its tasks; "
                "install() was called for %s. Call install(app) for the app that the worker is started with "
                "(-A)",
                name_of(instance.app),
                others,
                extra={"event": "worker_without_bridge", "app": name_of(instance.app)},
            )
        return
    where, origin = found.transport.location, found.chosen.origin
    try:
        found.transport.backend.ping()
    except BridgeError as error:
        logger.warning(
            "the bridge cannot be reached at %s (from %s): %s. Tasks run all the same; up to %d of their "
            "events wait in each process, and viewers see them when it is back",
            where,
            origin,
            error,
            LIMIT,
            extra={
                "event": "worker_start_unreachable",
                "location": where,
                "origin": origin,
                "error": str(error),
            },
        )
    else:
        logger.info(
            "task events are published at %s (from %s)",
            where,
            origin,
            extra={"event": "worker_start", "location": where, "origin": origin},
        )
