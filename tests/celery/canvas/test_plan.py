"""The id and the size of a canvas: started again, under the caller's ids, from JSON, from generators."""

import functools
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals, signature
from celery._state import get_current_app

from bridge.celery import canvas_id, install
from bridge.celery.canvas import tree
from tests.celery.canvas.shapes import SHAPES, some
from tests.celery.canvas.watching import SECONDS, Watched, snapshot, work_of
from tests.servers import Valkey, eventually


@pytest.mark.parametrize("shape", ["group", "chain", "chord", "group at the end", "chains within a group"])
def test_the_same_canvas_started_twice_has_two_ids(tasks: Any, address: str, shape: str) -> None:
    """Each start has an id and a topic of its own, and leaves the caller's tasks as they were."""
    canvas = SHAPES[shape][0](tasks)
    first_task = next(tree.leaves(canvas)).set(headers={"own": "yes"})
    before = repr([task.options for task in tree.leaves(canvas)])
    names = {canvas_id(canvas.apply_async()) for _ in range(3)}
    assert len(names) == 3
    for name in names:
        watched = Watched(address, name)
        watched.check()
        assert watched.state == "SUCCESS"
    assert first_task.options == {"headers": {"own": "yes"}}
    assert repr([task.options for task in tree.leaves(canvas)]) == before


def test_threads_start_one_canvas_together(tasks: Any, address: str) -> None:
    """A canvas that a module keeps and several requests start at once: each start has its own id."""
    canvas = chain(tasks.add.s(1, 1), tasks.add.s(1))
    barrier = threading.Barrier(8)

    def start(_: int) -> str:
        barrier.wait()
        return canvas_id(canvas.apply_async())

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(start, range(8)))
    # Without the bridge too, Celery gives an id that one start has left on a chain to the next.
    assert len(set(names)) == 8
    for name in names:
        Watched(address, name).check()


def test_ids_and_headers_that_the_caller_gives_are_kept(tasks: Any, address: str) -> None:
    """A group, chain or chord started under an id of the caller's is watched under that id."""
    for canvas in (
        some(tasks),
        chain(tasks.add.s(1, 1), tasks.add.s(1)),
        chord(some(tasks), tasks.total.s()),
    ):
        task_id = uuid.uuid4().hex
        result = canvas.apply_async(task_id=task_id, headers={"own": "yes"})
        assert result.id == task_id
        assert Watched(address, canvas_id(result)).state == "SUCCESS"


def as_dict(canvas: Any) -> Any:
    """Return a canvas as a dict. Celery takes one in place of a signature, but its types do not say so."""
    return dict(canvas)


def dicts(count: int = 2) -> list[Any]:
    return [as_dict(signature("work")) for _ in range(count)]


# Canvases of tasks that are plain dicts, as they come from JSON.
OF_DICTS: dict[str, tuple[Callable[[Celery], Any], int]] = {
    "group": (lambda app: group(dicts(), app=app), 2),
    "chain": (lambda app: chain(*dicts(), app=app), 1),
    "chord": (lambda app: chord(dicts(), dicts(1)[0], app=app), 2),
    "chord with a group": (lambda app: chord(group(dicts(), app=app), dicts(1)[0], app=app), 2),
    "chain in a group": (lambda app: group([as_dict(chain(*dicts(), app=app)), *dicts(1)], app=app), 2),
    "group in a chain": (lambda app: chain(*dicts(1), as_dict(group(dicts(), app=app)), app=app), 1),
}


@pytest.mark.parametrize("shape", OF_DICTS)
def test_a_canvas_goes_to_the_broker_of_its_own_app(server: Valkey, shape: str) -> None:
    """Tasks that were JSON are queued by the app of the canvas, whichever app is current."""
    build, queued = OF_DICTS[shape]
    mine, current = (
        Celery(
            name, broker=server.url("redis")[:-1] + number, backend="cache+memory://", set_as_current=False
        )
        for name, number in (("mine", "7"), ("current", "8"))
    )
    for app in (mine, current):
        app.conf.task_default_queue = f"queue-{uuid.uuid4().hex}"
    install(mine, f"memory://{uuid.uuid4().hex}")
    before = get_current_app()
    current.set_current()
    try:
        build(mine).apply_async()
    finally:
        before.set_current()
    with (
        mine.connection_for_read() as connection,
        connection.SimpleQueue(mine.conf.task_default_queue) as queue,
    ):
        assert queue.qsize() == queued
    for app in (mine, current):
        app.close()


# A canvas whose tasks a generator makes, one by one.
GENERATED: dict[str, Callable[[Any, Any, Celery], Any]] = {
    "group": lambda made, work, app: group(made, app=app),
    "chord": lambda made, work, app: chord(made, work, app=app),
    "chord of a group": lambda made, work, app: chord(group(made, app=app), work, app=app),
    "header of a chain": lambda made, work, app: chain(group(made, app=app), work),
    "body given at the start": lambda made, work, app: functools.partial(chord(made, app=app), work),
}


@pytest.mark.parametrize("shape", GENERATED)
def test_a_generator_is_read_no_earlier_than_celery_reads_it(server: Valkey, shape: str) -> None:
    """Before each task is created, as many are sent as without the bridge, or more."""
    sent_before: list[list[int]] = []
    for with_bridge in (False, True):
        app = Celery(broker="memory://", backend=server.url("redis"), set_as_current=False)
        if with_bridge:
            install(app, f"memory://{uuid.uuid4().hex}")
        ids: list[str] = []
        counts: list[int] = []

        def made(app: Celery = app, ids: list[str] = ids, counts: list[int] = counts) -> Iterator[Any]:
            for number in range(6):
                counts.append(len(ids))
                yield app.signature("work", args=(number,), app=app)

        def sent(headers: dict[str, Any], ids: list[str] = ids, **_: Any) -> None:
            ids.append(headers["id"])

        signals.before_task_publish.connect(sent)
        try:
            canvas = GENERATED[shape](made(), work_of(app), app)
            canvas() if isinstance(canvas, functools.partial) else canvas.apply_async()
        finally:
            signals.before_task_publish.disconnect(sent)
        sent_before.append(counts)
        app.close()
    without, with_ = sent_before
    assert all(a <= b for a, b in zip(without, with_, strict=True))
    assert shape == "header of a chain" or without[5] > 0


def test_a_generator_that_waits_for_its_first_task(tasks: Any, address: str, channel: Any) -> None:
    """The canvas is at 0 percent until all tasks are sent. Then it counts all of them, and ends once."""
    seen: list[dict[str, Any]] = []
    name = uuid.uuid4().hex

    def made() -> Iterator[Any]:
        for number in range(6):
            if number == 4:
                eventually(lambda: snapshot(channel, f"canvas:{name}")["parts"]["succeeded"] >= 1, SECONDS)
                seen.append(snapshot(channel, f"canvas:{name}"))
            yield tasks.add.s(number, number)

    result = chord(made(), tasks.total.s()).apply_async(task_id=name)
    watched = Watched(address, canvas_id(result))
    watched.check()
    assert (seen[0]["progress"]["percent"], seen[0]["progress"]["total"] < 7) == (0, True)
    final = snapshot(channel, canvas_id(result))
    assert (final["state"], final["progress"]["percent"]) == ("SUCCESS", 100)
    assert (final["parts"]["succeeded"], final["progress"]["total"]) == (7, 7)
    assert result.get(timeout=SECONDS) == 30
