"""The header that names the canvas of a task, and what else a task belongs to.

The header is in the message of each task of a canvas, also of tasks that travel inside other messages. Its
value is the number of tasks, or `?` where the number is published later, then a space and the id of the
canvas.
"""

# `Any` in this module: headers and options hold any JSON value.
from typing import Any, NamedTuple, Protocol

from celery import current_task
from celery.app.task import Context

HEADER = "bridge_canvas"


class HeaderSource(Protocol):
    """What holds the header: the request of a task, its message's headers, or its signature's options."""

    def get(self, key: str, default: Any = None, /) -> Any:
        """Return the value of `key`, or `default`."""


class Membership(NamedTuple):
    """The canvas of a task."""

    canvas_id: str
    size: int | None
    """The number of tasks, or `None` where it is published later."""


def read(source: HeaderSource) -> str | None:
    """Return the value of the header, or `None` if there is none."""
    value = source.get(HEADER) or (source.get("headers") or {}).get(HEADER)
    return value if isinstance(value, str) else None


def membership(source: HeaderSource) -> Membership | None:
    """Return the canvas of a task. Return `None` if it has none, or if its header has no meaning."""
    size, _, canvas_id = (read(source) or "").partition(" ")
    if canvas_id and size == "?":
        return Membership(canvas_id, None)
    if canvas_id and size.isdecimal() and int(size):
        return Membership(canvas_id, int(size))
    return None


def canvas_of(source: HeaderSource) -> str | None:
    """Return the id of the canvas that a task belongs to, or `None` if it belongs to none."""
    found = membership(source)
    return None if found is None else found.canvas_id


def relations(source: HeaderSource) -> dict[str, Any]:
    """Return the fields of an event that say what a task belongs to."""
    task_id, root = source.get("id"), source.get("root_id")
    return {
        "parent": source.get("parent_id"),
        "root": None if root == task_id else root,
        "group": source.get("group"),
        "index": source.get("group_index"),
        "canvas_id": canvas_of(source),
    }


def value_of(canvas_id: str, size: int | None) -> str:
    """Return the value of the header for the tasks of a canvas of `size` tasks."""
    return f"{'?' if size is None else size} {canvas_id}"


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
