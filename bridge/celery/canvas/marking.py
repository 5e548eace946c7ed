"""Writes the header of a canvas into its tasks while Celery starts the canvas.

Celery sends copies of the caller's signatures. Before it sends the first, it gives each copy its id, also
those that travel inside other messages. Only the tasks of a generator get their ids one by one. The header is
written at that moment. So the caller's own objects are started, and no header stays in them.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

# `Any` in this module: Celery's signatures hold what the caller puts into them, and their classes share no
# types.
from typing import Any

from celery import chord, group
from celery.canvas import Signature, _chain

from bridge.celery.canvas import header
from bridge.celery.canvas.tree import CANVAS_CLASSES


class CanvasStart:
    """One start of a canvas: which of its tasks get the header, and which id the last of them gets."""

    def __init__(
        self, value: str, *, only: str | None = None, last: Any = None, last_id: str | None = None
    ) -> None:
        self.value = value
        # The id of the only task that gets the header. `None`: all tasks get it.
        self._only = only
        # The group that is started, if the canvas has its id. Otherwise the id goes to Celery's copy of the
        # last task or group.
        self._last = last
        self._last_id = last_id
        self._last_has_id = last_id is None

    def adopt(self, signature: Any, given_id: str | None) -> str | None:
        """Note that `signature` is started with this canvas. Return the id to give it if it has none."""
        if isinstance(signature, CANVAS_CLASSES):
            signature.bridge_start = self
        # Celery begins at the end: the first signature that is given an id, or the body of it, runs last.
        if not self._last_has_id and (self._last is None or self._last is signature):
            self._last_has_id = True
            given_id = self._last_id
        if isinstance(signature, group) and given_id is not None and given_id == self._last_id:
            signature.options.setdefault("task_id", given_id)  # Celery would draw another one.
        return given_id

    def write_header(self, signature: Any) -> None:
        """Write the header into a task that has its id now."""
        is_task = not isinstance(signature, CANVAS_CLASSES)
        if is_task and self._only in (None, signature.options.get("task_id")):
            header.write(signature.options, self.value)

    def add_to_headers(self, canvas: Any, options: dict[str, Any]) -> None:
        """Add the header to the headers of an inner canvas, which Celery writes over those of its tasks."""
        if self._only is None:
            header.add_to_headers(canvas, options, self.value)


_under_way: ContextVar[CanvasStart | None] = ContextVar("bridge.celery.canvas.start", default=None)


@contextmanager
def marking(start: CanvasStart | None) -> Iterator[None]:
    """Write the header of `start` into the tasks that Celery sends, or puts into messages, in this block."""
    token = _under_way.set(start)
    try:
        yield
    finally:
        _under_way.reset(token)


def start_of(canvas: Any) -> CanvasStart | None:
    """Return the start under way that `canvas` belongs to, or `None` if it is started by itself."""
    start = _under_way.get()
    return start if start is not None and getattr(canvas, "bridge_start", None) is start else None


def wrap_id_methods() -> None:
    """Wrap the methods with which Celery gives the signatures of a canvas their ids."""
    for kind in (Signature, _chain, chord):
        _wrap(kind, "freeze")
    _wrap(group, "_freeze_group_tasks")


def _wrap(kind: type[Any], method: str) -> None:
    give_id: Callable[..., Any] = getattr(kind, method)

    @functools.wraps(give_id)
    def wrapper(self: Any, _id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        start = _under_way.get()
        if start is None:
            return give_id(self, _id, *args, **kwargs)
        result = give_id(self, start.adopt(self, _id), *args, **kwargs)
        start.write_header(self)
        return result

    setattr(kind, method, wrapper)
