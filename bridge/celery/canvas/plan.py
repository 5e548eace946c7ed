"""Decides, when a canvas is started, under which id its tasks are watched, and how many there are."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

# `Any` in this module: Celery's signatures hold what the caller puts into them, and their classes share no
# types.
from typing import Any

from celery import Celery, chord
from celery.canvas import _chain
from celery.local import Proxy
from celery.utils import uuid

from bridge.celery.apps import installed
from bridge.celery.canvas import header, tree
from bridge.celery.canvas.ids import id_of_canvas
from bridge.celery.canvas.marking import CanvasStart, start_of
from bridge.celery.tagging import tags_of_canvas

STARTS_AT_ONCE = 100
"""Starts of one chain that may be under way together."""


@dataclass
class Plan:
    """How a canvas is started."""

    canvas: Any
    kwargs: Any
    options: dict[str, Any]
    body: Any = None
    """The body that a chord is started with, if it is not its own."""
    start: CanvasStart | None = None
    """Which tasks get the header while Celery starts the canvas, if any."""
    canvas_id: str | None = None
    """The id of the canvas. `None`: its tasks belong to another canvas."""
    size: int | None = None
    """The number of tasks. `None`: a generator may make more."""
    tags: list[str] = field(default_factory=list)
    """The tags of the canvas, once it has an id."""

    def __post_init__(self) -> None:
        if isinstance(self.canvas, chord):
            self.body = (self.kwargs or {}).get("body")
        self.app = app_of(self.canvas)

    @property
    def is_eager(self) -> bool:
        """Whether the tasks run in this process while the canvas is started."""
        return bool(self.app.conf.task_always_eager)

    def leaves(self, *, unroll: bool = False) -> Iterator[Any]:
        """Yield the tasks. Unless `unroll`, read only the first two tasks of a generator."""
        return tree.leaves(self.canvas, self.app, body=self.body, unroll=unroll)

    def prepare(self) -> None:
        """Find out which canvas the tasks belong to. Give this canvas an id if they belong to none yet.

        They already belong to one if this canvas is inside another one, is what remains of another one, or
        replaces a task of another one.
        """
        outer, request = start_of(self.canvas), header.current_request()
        if outer is not None:
            outer.add_to_headers(self.canvas, self.options)
            self.start = outer
            return
        own = header.read(request) if request is not None else None
        if request is not None and own is not None and self._has_task(request.id):
            self.start = CanvasStart(own, only=request.id)
            return
        values = [header.read(task.options) for task in self.leaves()]
        if any(values):
            if all(values):
                header.add_to_headers(self.canvas, self.options, str(values[0]))
            return
        self._begin()

    def count(self) -> int:
        """Read all tasks of a generator, and set and return the number of tasks."""
        self.size = sum(1 for _ in self.leaves(unroll=True))
        return self.size

    def _has_task(self, task_id: str | None) -> bool:
        return any(task.options.get("task_id") == task_id for task in self.leaves())

    def _begin(self) -> None:
        """Give this canvas an id, and have its tasks get the header."""
        canvas, options = self.canvas, self.options
        if self.is_eager or not tree.is_open(canvas, self.app, body=self.body):
            self.count()
        last = tree.last(self.body or canvas, self.app)
        last_id = last.options.get("task_id") or options.get("task_id") or self._given_id() or uuid()
        self.canvas_id = id_of_canvas(last, last_id)
        if last is canvas:
            options["task_id"] = last_id
        if isinstance(canvas, _chain):
            _drawn_for(canvas).append(last_id)
        headers = options.get("headers") or canvas.options.get("headers")
        self.tags = tags_of_canvas(installed(self.app), headers, self.leaves())
        value = header.value_of(self.canvas_id, self.size, self.tags)
        header.add_to_headers(canvas, options, value)
        if self.is_eager:
            self._copy(value, last_id)
        else:
            self.start = CanvasStart(value, last=canvas if last is canvas else None, last_id=last_id)

    def _given_id(self) -> Any:
        """Return the id that the caller has set on the canvas itself."""
        given = self.canvas.options.get("task_id")
        if isinstance(self.canvas, _chain) and given in _drawn_for(self.canvas):
            # Celery leaves the id of the last task on the chain, and would give it to this start too.
            given = self.options["task_id"] = uuid()
        return given

    def _copy(self, value: str, last_id: str) -> None:
        """Have a copy with headers started instead: in eager mode tasks get their ids when they run."""

        def write(signature: Any) -> None:
            if signature.options.get("headers") or not isinstance(signature, tree.CANVAS_CLASSES):
                header.write(signature.options, value)

        original = self.canvas
        if self.body is not None:
            original = original.clone()
            original.kwargs["body"] = self.body
        self.canvas = tree.copied(original, write, self.app)
        tree.last(self.canvas, self.app).options["task_id"] = last_id
        if self.body is not None:
            self.kwargs = {**self.kwargs, "body": self.canvas.body}

    def erase_headers(self) -> None:
        """Erase the header from the caller's tasks. Some versions of Celery put copies into the canvas."""
        if self.canvas_id is not None and self.start is not None:
            for task in self.leaves():
                header.erase(task.options, self.start.value)


def app_of(canvas: Any) -> Celery:
    """Return the app that starts `canvas`."""
    app: Any = canvas.app
    found: Celery = app._get_current_object() if isinstance(app, Proxy) else app
    return found


def _drawn_for(canvas: Any) -> "deque[str]":
    """Return the ids that earlier starts of a chain have drawn."""
    drawn: deque[str] = canvas.__dict__.setdefault("bridge_drawn", deque(maxlen=STARTS_AT_ONCE))
    return drawn
