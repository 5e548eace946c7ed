"""Writes into the tasks of a canvas which whole they are parts of, while Celery starts it.

Celery sends copies of the caller's signatures. Before it sends the first, it gives each copy its id, also
those that travel inside other messages; only a generator's tasks get theirs one by one. The mark is written
then. So the caller's own objects are started, and nothing is left behind in them.
"""

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from celery import chord, group
from celery.canvas import Signature, _chain

from bridge.celery.parts import HEADER, mark_of
from bridge.celery.tree import Canvas


class Start:
    """One start of a canvas."""

    def __init__(self, mark: str, *, only: Any = None, last: Any = None, last_id: Any = None) -> None:
        self.mark = mark
        # The id of the only task that is marked, if it is not all.
        self._only = only
        # What is started, if it is a group after which the whole is called. Else Celery's copy of the task or
        # group at the end gets this id.
        self._last = last
        self._last_id = last_id
        self._last_is_named = last_id is None

    def take_up(self, signature: Any, given_id: Any) -> Any:
        """Remember that `signature` is started with this canvas; return the id to give it if it has none."""
        if isinstance(signature, Canvas):
            signature.bridge_start = self
        # Celery begins at the end: the first to be given an id, or the body of it, is the one that runs last.
        if not self._last_is_named and (self._last is None or self._last is signature):
            self._last_is_named = True
            given_id = self._last_id
        if isinstance(signature, group) and given_id is not None and given_id == self._last_id:
            signature.options.setdefault("task_id", given_id)  # Celery draws another one
        return given_id

    def write(self, signature: Any) -> None:
        """Mark a task that has its id now."""
        if not isinstance(signature, Canvas) and self._only in (None, signature.options.get("task_id")):
            write_mark(signature.options, self.mark)

    def keep(self, canvas: Any, options: dict[str, Any]) -> None:
        """Have the headers of `canvas` hold the mark: it hands them to its tasks, over theirs."""
        if self._only is None:
            keep_mark(canvas, options, self.mark)


_under_way: ContextVar[Start | None] = ContextVar("bridge.celery.marks", default=None)


def write_mark(options: dict[str, Any], mark: str) -> None:
    """Write the mark into the headers of a task."""
    options["headers"] = {**(options.get("headers") or {}), HEADER: mark}


def erase_mark(options: dict[str, Any], mark: str) -> None:
    """Take the mark out of the headers of a task."""
    if mark_of(options) == mark:
        options["headers"] = {name: value for name, value in options["headers"].items() if name != HEADER}
        if not options["headers"]:
            del options["headers"]


def keep_mark(canvas: Any, options: dict[str, Any], mark: str) -> None:
    """Add the mark to the headers with which `canvas` is started with `options`, if there are any."""
    headers = options.get("headers") or canvas.options.get("headers")
    if headers and not mark_of({"headers": headers}):
        options["headers"] = {**headers, HEADER: mark}


@contextmanager
def marking(start: Start | None) -> Iterator[None]:
    """Mark the tasks that Celery sends, or puts into messages, in this block."""
    token = _under_way.set(start)
    try:
        yield
    finally:
        _under_way.reset(token)


def start_of(canvas: Any) -> Start | None:
    """Return the start under way that `canvas` belongs to, `None` if it is started by itself."""
    start = _under_way.get()
    return start if start is not None and getattr(canvas, "bridge_start", None) is start else None


def _wrap(kind: Any, method: str) -> None:
    give_id = getattr(kind, method)

    @functools.wraps(give_id)
    def wrapper(self: Any, _id: Any = None, *args: Any, **kwargs: Any) -> Any:
        start = _under_way.get()
        if start is None:
            return give_id(self, _id, *args, **kwargs)
        result = give_id(self, start.take_up(self, _id), *args, **kwargs)
        start.write(self)
        return result

    setattr(kind, method, wrapper)


for _kind in (Signature, _chain, chord):
    _wrap(_kind, "freeze")
_wrap(group, "_freeze_group_tasks")
