"""What the monitor lists: a page of all tasks that are kept."""

import json
import time

# `Any` in this module: the members of a snapshot are JSON.
from typing import Any

from bridge.monitor.http import Problem, Request
from bridge.streams.service import StreamService

MOST_ROWS = 1000
"""Rows of a page at most. A page has fewer if they are large."""

COUNT_EVERY = 2.0
"""Seconds between two counts of all tasks."""

_LEFT_OUT = ("type", "v", "events", "omitted", "steps", "attempts", "children", "args", "kwargs")
"""Members of a snapshot that a row lacks. The page of the task reads them."""

_LONGEST_RESULT = 200
"""Characters of JSON of a result that a row has."""


def read_limit(request: Request) -> int:
    """Return how many rows a request asks for. Raises `Problem` (422)."""
    text = request.query.get("limit", ["500"])[-1]
    limit = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not limit:
        raise Problem(422, "limit must be a whole number above zero.")
    return min(limit, MOST_ROWS)


class Listing:
    """The tasks of one application in pages. Threads may share it."""

    def __init__(self, service: StreamService) -> None:
        self._tasks = service.kept_tasks
        self._total = (0, -COUNT_EVERY)  # the number of tasks, and when they were counted

    def page(self, limit: int, before: str | None) -> dict[str, Any]:
        """Return a page of all tasks that are kept, the newest first, and what names the next page.

        Raises `Problem` (422) for a `before` that names none, and `ConnectionLost`.
        """
        try:
            snapshots, following = self._tasks.page(before, limit)
        except ValueError:
            raise Problem(422, "before must be the value of next in another answer.") from None
        rows = [_row(snapshot) for snapshot in snapshots]
        return {"tasks": rows, "next": following, "total": self._count()}

    def _count(self) -> int:
        """Return how many tasks there are. A database counts all of them, so not for each page."""
        total, at = self._total
        now = time.monotonic()
        if now - at >= COUNT_EVERY:
            total = self._tasks.count()
            self._total = (total, now)
        return total


def _row(snapshot: dict[str, Any]) -> dict[str, Any]:
    """Return what a list shows of a task."""
    row = {name: value for name, value in snapshot.items() if name not in _LEFT_OUT}
    if "result" in row and len(json.dumps(row["result"])) > _LONGEST_RESULT:
        del row["result"]
    if isinstance(row.get("error"), dict):
        row["error"] = {name: value for name, value in row["error"].items() if name != "traceback"}
    return row
