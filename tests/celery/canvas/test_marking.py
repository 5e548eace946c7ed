"""Tasks get the header when Celery gives them their ids; the caller's own canvas is started."""

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest
from celery import Celery, chain, chord, group, signals

from bridge.celery import canvas_id
from bridge.celery.canvas import header
from tests.celery.canvas.watching import snapshot, work_of
from tests.servers import eventually

# What a caller may have replaced in a canvas, and what Celery calls when it starts.
INSTANCES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "group": (lambda work: group(work, work, app=work.app), "_apply_tasks"),
    "chain": (lambda work: chain(work, work, app=work.app), "run"),
    "chord": (lambda work: chord([work, work], work, app=work.app), "run"),
}


@pytest.mark.parametrize("kind", INSTANCES)
def test_the_canvas_itself_is_started(sender: tuple[Celery, Any], kind: str) -> None:
    """What a caller has set or replaced on a canvas holds when it starts, as without the bridge."""
    build, method = INSTANCES[kind]
    canvas = build(work_of(sender[0]))
    canvas.note = "kept"
    with patch.object(
        type(canvas), method, autospec=True, side_effect=getattr(type(canvas), method)
    ) as called:
        canvas.apply_async()
    started = [call.args[0] for call in called.call_args_list]
    assert [each.note for each in started if each is canvas] == ["kept"]


@pytest.mark.parametrize("kind", ["chain", "chord"])
def test_celery_is_given_what_the_caller_gave(sender: tuple[Celery, Any], kind: str) -> None:
    """A chord or chain is run with the caller's arguments and options, and no others."""
    build, method = INSTANCES[kind]
    seen = []
    for bare in (True, False):
        app = (
            Celery(broker="memory://", backend="cache+memory://", set_as_current=False) if bare else sender[0]
        )
        canvas = build(work_of(app))
        with patch.object(canvas, method) as called:
            canvas.apply_async(countdown=3)
        call = called.call_args
        seen.append((call.args[2:], {name: value for name, value in call.kwargs.items() if name != "app"}))
    assert seen[0] == seen[1]


class Shared(list[Any]):
    """A header that Celery does not copy when a chord starts, as in Celery 5.4."""

    def __getitem__(self, index: Any) -> Any:
        return self if isinstance(index, slice) else super().__getitem__(index)


def test_no_header_stays_where_celery_changes_the_tasks_of_the_caller(sender: tuple[Celery, Any]) -> None:
    """Also where Celery puts its own copies into a chord, each start of it has its own id."""
    work = work_of(sender[0])
    canvas: Any = chord([work, work], work, app=work.app)
    canvas.tasks = Shared(canvas.tasks)
    names = {canvas_id(canvas.apply_async()) for _ in range(2)}
    assert all("task_id" in task.options for task in canvas.tasks)
    assert not any(header.read(task.options) for task in canvas.tasks)
    assert {snapshot(sender[1], name)["canvas"] for name in names} == {"chord"}


def test_what_a_generator_or_a_signal_queues_is_no_part(sender: tuple[Celery, Any]) -> None:
    """Tasks and canvases that the caller's own code starts meanwhile do not belong to this canvas."""
    app, channel = sender
    marks: dict[str, Any] = {}

    def look(sender: str, headers: dict[str, Any], **_: Any) -> None:
        marks.setdefault(sender, []).append(header.belonging(headers).get("canvas_id"))
        if sender == "work":
            app.send_task("audit")

    def made() -> Iterator[Any]:
        for _ in range(3):
            app.signature("alone", app=app).apply_async()
            group([app.signature("other", app=app)], app=app).apply_async(task_id="another")
            yield work_of(app)

    signals.before_task_publish.connect(look)
    try:
        group(made(), app=app).apply_async(task_id="mine")
    finally:
        signals.before_task_publish.disconnect(look)
    assert marks == {"work": ["mine"] * 3, "audit": [None] * 3, "alone": [None] * 3, "other": ["another"] * 3}
    assert eventually(lambda: snapshot(channel, "mine")["parts"]["waiting"] == 3)
