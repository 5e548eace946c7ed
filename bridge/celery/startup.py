"""What a worker logs when it starts: where its tasks publish, or that they cannot yet."""

import logging
from typing import Any

from celery import signals

from bridge.celery.installation import installed
from bridge.errors import BridgeError
from bridge.tasks.publisher import LIMIT

logger = logging.getLogger("bridge.celery")


@signals.celeryd_after_setup.connect  # the worker has set up its logging, and has not looked for its broker
def _say_where(instance: Any, **_: Any) -> None:
    found = installed(instance.app)
    if found is None:
        return
    where = found.transport.location
    try:
        found.transport.backend.ping()
    except BridgeError as error:
        logger.warning(
            "the bridge cannot be reached at %s: %s. Tasks run all the same; up to %d of their events wait "
            "in each process, and viewers see them when it is back",
            where,
            error,
            LIMIT,
        )
    else:
        logger.info("task events are published at %s", where)
