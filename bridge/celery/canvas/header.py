"""The headers that name the canvas of a task and its tags, and what else a task belongs to.

`HEADER` is in the message of each task of a canvas, also of tasks that travel inside other messages. Its
value is the number of tasks, or `?` where the number is published later; then the tags of the canvas, each
after a comma and quoted as in a URL; then a space and the id of the canvas. `TAGS` is a list of the tags of
the task. Both may come from any producer.
"""

import logging
import threading
from collections.abc import Iterable

# `Any` in this module: headers and options hold any JSON value.
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote, unquote

from celery import current_task
from celery.app.task import Context

from bridge.tasks.tags import MAX_TAGS, joined_tags, read_tags

logger = logging.getLogger("bridge.celery")

HEADER = "bridge_canvas"

TAGS = "bridge_tags"

_bad_tags = threading.Event()
"""Whether this process has logged that the tags in a header cannot be used."""


class HeaderSource(Protocol):
    """What holds the header: the request of a task, its message's headers, or its signature's options."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the value of `key`, or `default`."""


class Membership(NamedTuple):
    """The canvas of a task."""

    canvas_id: str
    size: int | None
    """The number of tasks, or `None` where it is published later."""
    tags: list[str]
    """The tags of the canvas."""


def _lookup(source: HeaderSource, name: str) -> Any:
    """Return the value of a header, or `None` if there is none."""
    value = source.get(name)
    if value is None:
        headers = source.get("headers")
        value = headers.get(name) if isinstance(headers, dict) else None
    return value


def read(source: HeaderSource) -> str | None:
    """Return the value of the header, or `None` if there is none."""
    value = _lookup(source, HEADER)
    return value if isinstance(value, str) else None


def tags_of(source: HeaderSource) -> list[str]:
    """Return the tags of a task. What is no tag is left out, and logged once."""
    value = _lookup(source, TAGS)
    if value is None:
        return []
    found = read_tags(value)
    if not (isinstance(value, list | tuple) and len(found) == len(value)) and not _bad_tags.is_set():
        _bad_tags.set()
        logger.warning(
            "the task %s has a header %r that is no list of at most 8 tags, each a str of 1 to 100 printable "
            "characters; the rest is ignored. Use bridge.celery.tags() to make it. This is logged once",
            source.get("id"), TAGS,
            extra={"event": "bad_tags_header", "task": source.get("id")},
        )  # fmt: skip
    return found


def membership(source: HeaderSource) -> Membership | None:
    """Return the canvas of a task. Return `None` if it has none, or if its header has no meaning."""
    value = read(source)
    if value is None:
        return None
    about, _, canvas_id = value.partition(" ")
    size, *quoted = about.split(",", MAX_TAGS)
    tags = read_tags(list(map(unquote, quoted)))
    if canvas_id and size == "?":
        return Membership(canvas_id, None, tags)
    if canvas_id and size.isdecimal() and int(size):
        return Membership(canvas_id, int(size), tags)
    return None


def belonging(source: HeaderSource, more: HeaderSource | None = None) -> dict[str, Any]:
    """Return the fields of each event of a task that say where it is seen: its canvas and its tags.

    The task also has the tags of `more`, if given.
    """
    tags, canvas = tags_of(source), membership(source)
    if more is not None:
        tags = joined_tags(tags, tags_of(more))
    if canvas is None:
        return {"tags": tags} if tags else {}
    return {
        "canvas_id": canvas.canvas_id,
        "tags": tags or None,
        "own_tags": [tag for tag in tags if tag not in canvas.tags],
    }


def relations(source: HeaderSource) -> dict[str, Any]:
    """Return the fields of an event that say how a task was started."""
    task_id, root = source.get("id"), source.get("root_id")
    return {
        "parent": source.get("parent_id"),
        "root": None if root == task_id else root,
        "group": source.get("group"),
        "index": source.get("group_index"),
    }


def value_of(canvas_id: str, size: int | None, tags: Iterable[str] = ()) -> str:
    """Return the value of the header for the tasks of a canvas, which has `size` tasks and `tags`."""
    quoted = "".join(f",{quote(tag)}" for tag in tags)
    return f"{'?' if size is None else size}{quoted} {canvas_id}"


def write(options: dict[str, Any], value: str) -> None:
    """Write the header into the options of a task."""
    options["headers"] = {**(options.get("headers") or {}), HEADER: value}


def erase(options: dict[str, Any], value: str) -> None:
    """Remove the header from the options of a task, if it has this value."""
    if read(options) == value:
        options["headers"] = {name: held for name, held in options["headers"].items() if name != HEADER}
        if not options["headers"]:
            del options["headers"]


def add_to_headers(canvas: Any, options: dict[str, Any], value: str) -> None:
    """Add the header to the headers of a canvas, if it has any. They replace the headers of its tasks."""
    headers = options.get("headers") or canvas.options.get("headers")
    if headers and not read({"headers": headers}):
        options["headers"] = {**headers, HEADER: value}


def inherit(name: str, headers: dict[str, Any]) -> None:
    """Have the message that replaces the running task belong to the canvas of that task.

    The task that waits for the header of a chord, where the result backend cannot, has the headers of the
    body. It belongs to no canvas.
    """
    if name == "celery.chord_unlock":
        headers.pop(HEADER, None)
    request = current_request()
    if request is not None and HEADER not in headers and headers.get("id") == request.id:
        value = read(request)
        if value is not None:
            headers[HEADER] = value


def current_request() -> Context | None:
    """Return the request of the task that runs in this thread, or `None` if none does."""
    request = current_task.request if current_task else None
    return request if request is not None and request.id else None
