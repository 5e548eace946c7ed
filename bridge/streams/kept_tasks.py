"""All tasks that a backend keeps, in pages, and the workers: what the monitor reads beside streams."""

from collections.abc import Callable

# `Any` in this module: the values of a snapshot are JSON.
from typing import Any

from bridge.channel.transport import Transport
from bridge.tasks import events
from bridge.tasks.heartbeats import WORKERS, Heartbeat, reports
from bridge.tasks.snapshot import snapshot


class KeptTasks:
    """Reads what is kept. Threads and greenlets may share it."""

    def __init__(self, transport: Transport, require: Callable[[], None]) -> None:
        """`require` is called before each read, and raises `ConnectionLost` if nothing may be read yet."""
        self._transport = transport
        self._require = require

    def page(self, before: str | None, limit: int) -> tuple[list[dict[str, Any]], str | None]:
        """Return a page of snapshots without their events, the newest first, and `before` of the next page.

        Raises `ConnectionLost`, and `ValueError` for a `before` that is none.
        """
        self._require()
        page = self._transport.backend.listed(events.FEED, before, limit)
        found = [snapshot(state, events.task_of(state.topic) or state.topic) for state in page.states]
        return found, page.more

    def count(self) -> int:
        """Return about how many tasks are kept. Raises `ConnectionLost`."""
        return self._transport.backend.count_listed(events.FEED)

    def workers(self) -> list[Heartbeat]:
        """Return the last heartbeat of each worker. Raises `ConnectionLost`."""
        self._require()
        states = self._transport.states(WORKERS, 1)
        return reports(states[0].fields) if states else []
