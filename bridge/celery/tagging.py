"""The tags of a task: from its headers, from the function of `install`, and from the task that starts it."""

import logging
from collections.abc import Iterable, Mapping, Sequence

# `Any` in this module: arguments and headers of a task hold any value.
from typing import Any

from bridge.celery.apps import Installed, installed
from bridge.celery.canvas import header
from bridge.celery.canvas.header import TAGS
from bridge.celery.task_run import running_request
from bridge.tasks.tags import check_tags, joined_tags

logger = logging.getLogger("bridge.celery")


def tags(*names: str) -> dict[str, Any]:
    """Return the headers that tag a task: `task.apply_async(headers=tags("user:42", "tenant:7"))`.

    `bridge.tag_topic(name)` is the feed of the tasks with a tag. The tasks that a tagged task starts have its
    tags too, after their own. Further headers may stand beside these: `headers={**tags("user:42"), "x": 1}`.

    Raises `ValueError` unless there are 1 to 8 tags, all distinct, each a `str` of 1 to 100 printable
    characters. May be called in any thread, and without `install`.
    """
    if not names:
        raise ValueError("tags() takes at least one tag")
    return {TAGS: check_tags("tags()", names)}


def tag_message(found: Installed, name: str, headers: dict[str, Any], body: Any) -> None:
    """Write all tags of a task into the headers of its message, which is about to be sent."""
    given = header.tags_of(headers)
    chosen: list[str] = []
    if found.tags is not None and not headers.get("retries"):  # A retry has the tags of the first attempt.
        chosen = _chosen(found, name, *arguments_in(body), headers)
    request = header.current_request()
    inherited = [] if request is None else header.tags_of(request)
    _write(headers, given, joined_tags(given, chosen, inherited))


def tag_eager(task: Any, args: Any = (), kwargs: Any = None, **_: Any) -> None:
    """Write all tags of a task that runs in the process that starts it, without a message."""
    found, request = installed(task.app), task.request
    if found is None or not request.is_eager:
        return
    given, outer = header.tags_of(request), running_request()
    headers = dict(request.headers or {})
    chosen = _chosen(found, task.name, args or (), kwargs or {}, headers)
    _write(headers, given, joined_tags(given, chosen, [] if outer is None else header.tags_of(outer)))
    request.headers = headers or None


def tags_of_canvas(
    found: Installed | None, headers: Mapping[str, Any] | None, leaves: Iterable[Any]
) -> list[str]:
    """Return the tags of a canvas that is started with `headers`, and has these tasks.

    They are the tags in its headers, those that all its tasks have, and those of the running task.
    """
    given, request = header.tags_of({"headers": headers}), header.current_request()
    inherited = [] if request is None else header.tags_of(request)
    return joined_tags(given, _shared(found, leaves), inherited)


def _shared(found: Installed | None, leaves: Iterable[Any]) -> list[str]:
    """Return the tags that each task of a canvas has by itself."""
    shared: list[str] | None = None
    for leaf in leaves:
        tagged = header.tags_of(leaf.options)
        if found is not None and found.tags is not None:
            own = leaf.options.get("headers") or {}
            tagged = joined_tags(tagged, _chosen(found, leaf.task, leaf.args, leaf.kwargs, own))
        shared = tagged if shared is None else [tag for tag in shared if tag in tagged]
        if not shared:
            break
    return shared or []


def _write(headers: dict[str, Any], given: list[str], tags: list[str]) -> None:
    if tags != given:
        headers[TAGS] = tags


def _chosen(
    found: Installed, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], headers: Mapping[str, Any]
) -> list[str]:
    """Return the tags that the function of `install` chooses. An error of it is logged once."""
    if found.tags is None:
        return []
    try:
        chosen = found.tags(name, args, kwargs, headers)
        return check_tags("its result", (chosen,) if isinstance(chosen, str) else chosen or ())
    except Exception:
        if not found.tags_failed:
            found.tags_failed = True
            logger.exception(
                "the function of install(tags=...) failed for the task %s, which is sent without its tags; "
                "further errors are not logged",
                name,
                extra={"event": "tags_function_failed", "task_name": name},
            )
        return []


def arguments_in(body: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """Return the arguments in the body of a message, of either version of Celery's protocol."""
    args, kwargs = (body.get("args"), body.get("kwargs")) if isinstance(body, dict) else body[:2]
    return args or (), kwargs or {}
