"""Groups, chains and chords, watched as wholes: in real workers, at a real SSE client."""

import functools
import gc
import os
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import httpx_sse
import pytest
from celery import Celery, chain, chord, current_app, group, signals, signature
from kombu.exceptions import OperationalError

import bridge
from bridge.celery import canvas as bridge_canvas
from bridge.celery import install, tree, whole
from bridge.celery import parts as bridge_parts
from bridge.celery.installation import installed
from bridge.channel.transport import transport_of
from bridge.tasks import events
from tests.processes import explain, running
from tests.servers import Valkey, eventually, free_port
from tests.serving import serving

SECONDS = 60


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey() as server:
        yield server


@pytest.fixture(scope="module")
def tasks(server: Valkey) -> Iterator[Any]:
    """The module of the tasks, which a prefork worker runs."""
    os.environ |= {"APP_BROKER": server.url("redis"), "APP_BRIDGE": server.url("redis")}
    import tests.canvas_app as tasks

    with worker():
        yield tasks
    gc.collect()  # results tell the server when they are dropped
    tasks.app.close()


@contextmanager
def worker(pool: str = "prefork", children: int = 2, **env: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "tests.canvas_app",
        "worker",
        "-P",
        pool,
        "-c",
        str(children),
    ]
    with running([*command, "-l", "INFO", "-n", f"{uuid.uuid4().hex}@localhost"], env=env) as log:
        eventually(lambda: " ready." in log.read_text(), SECONDS)
        yield


@pytest.fixture(scope="module")
def address(server: Valkey) -> Iterator[str]:
    with serving("gunicorn gevent", BRIDGE_URL=server.url("redis"), BRIDGE_PUBLIC="true") as address:
        yield address


@pytest.fixture(scope="module")
def channel(server: Valkey) -> Iterator[Any]:
    with bridge.connect(server.url("redis")) as channel:
        yield channel


class Watched:
    """The stream of a whole or a task up to its end."""

    def __init__(self, address: str, task_id: str) -> None:
        self.events: list[dict[str, Any]] = []
        try:
            self._watch(address, task_id)
        except BaseException:
            print(f"--- {task_id} has told", *self.events, sep="\n", file=sys.stderr)
            explain()
            raise

    def _watch(self, address: str, task_id: str) -> None:
        url = f"{address}/stream"
        with (
            httpx.Client(timeout=SECONDS, trust_env=False) as client,
            client.stream("GET", url, params={"topic": bridge.task_topic(task_id)}) as response,
        ):
            for event in httpx_sse.EventSource(response).iter_sse():
                self.events.append(event.json())

    def check(self) -> None:
        """The bar never steps back, every part is accounted for, and there is one end, at the end."""
        assert all(a <= b for a, b in pairwise(self.percents))
        assert all(sum(event["parts"].values()) == event["total"] for event in self.of("progress"))
        assert [event["type"] for event in self.events].count("end") == 1
        assert self.events[-1]["type"] == "end"

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["type"] == kind]

    @property
    def percents(self) -> list[float]:
        told = [event.get("progress") if event["type"] == "snapshot" else event for event in self.events]
        return [event["percent"] for event in told if event and "percent" in event]

    @property
    def state(self) -> str:
        return str(self.events[-1]["state"])


def snapshot(channel: Any, task_id: str) -> dict[str, Any]:
    states = transport_of(channel).states(bridge.task_topic(task_id))
    return events.snapshot(states[0] if states else None, task_id)


def some(tasks: Any, count: int = 3) -> Any:
    return group(tasks.add.s(n, n) for n in range(count))


# A canvas, and how many parts it has.
SHAPES: dict[str, tuple[Callable[[Any], Any], int]] = {
    "group": (some, 3),
    "group of one": (lambda t: group(t.add.s(1, 1)), 1),
    "chain": (lambda t: chain(t.add.s(1, 1), t.add.s(2), t.add.s(3)), 3),
    "chord": (lambda t: chord(some(t), t.total.s()), 4),
    "group then task": (lambda t: some(t) | t.total.s(), 4),
    "chord then chain": (lambda t: chord([t.add.s(1, 1)], t.total.s() | t.add.s(1)), 3),
    "chunks": (lambda t: t.add.chunks(((n, n) for n in range(20)), 5), 4),
    "starmap within": (lambda t: chain(t.add.si(1, 1), t.add.starmap([(1, 1), (2, 2)])), 2),
    "group, task, group, task": (
        lambda t: chain(some(t), t.total.s(), group(t.add.s(1), t.add.s(2)), t.total.s(), t.add.s(1)),
        8,
    ),
    "group at the end": (lambda t: chain(t.add.s(1, 1), group(t.add.s(1), t.add.s(2))), 3),
    "group of one at the end": (lambda t: chain(t.add.s(1, 1), group(t.add.s(1))), 2),
    "chains within a group": (
        lambda t: group(
            chain(t.add.s(1, 1), t.add.s(2)), chain(t.add.s(1, 1), group(t.add.s(2), t.add.s(3)))
        ),
        5,
    ),
    "a chain with a group at its end within a group": (
        lambda t: group(chain(t.add.s(1, 1), group(t.add.s(2), t.add.s(3)))),
        3,
    ),
    "chord within a group within a chain": (
        lambda t: chain(
            t.add.s(1, 1), group(t.add.s(1), chord([t.add.s(2), t.add.s(3)], t.total.s())), t.total.s()
        ),
        6,
    ),
    "groups one after another": (lambda t: some(t) | group(t.total.s(), t.total.s()) | t.total.s(), 6),
    "a task that is replaced": (lambda t: group(t.swap.s(1), t.add.s(1, 1)), 2),
    "replaced by a chain": (lambda t: chord([t.swap_for_chain.s(1), t.add.s(1, 1)], t.total.s()), 3),
    "replaced by a chain with a chord": (lambda t: chain(t.add.s(1, 1), t.swap_for_chord.s(), t.add.s(1)), 3),
    "replaced by a group": (lambda t: chain(t.add.s(1, 1), t.swap_for_group.s(), t.total.s()), 3),
    "a task that tries again": (lambda t: group(t.second_time_lucky.s(), t.halves.s(1)), 2),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_a_whole(tasks: Any, address: str, channel: Any, shape: str) -> None:
    """However it is composed: as many parts as tasks, from 0 to 100 without a step back, and one end."""
    build, size = SHAPES[shape]
    result = build(tasks).apply_async()
    watched = Watched(address, whole(result))
    watched.check()
    assert watched.state == "SUCCESS"
    final = snapshot(channel, whole(result))
    assert final["parts"] == {"waiting": 0, "running": 0, "succeeded": size, "revoked": 0, "failed": 0}
    assert final["progress"]["percent"] == 100
    assert len(final["children"]) == size


# A canvas, and what becomes of its parts.
FAILURES: dict[str, tuple[Callable[[Any], Any], dict[str, int]]] = {
    "a part of a group": (
        lambda t: group(t.add.s(1, 1), t.fail.s(), t.add.s(2, 2)),
        {"succeeded": 2, "failed": 1},
    ),
    "the third of five": (
        lambda t: chain(t.add.s(1, 1), t.add.s(1), t.fail.s(), t.add.s(3), t.add.s(4)),
        {"succeeded": 2, "failed": 3},
    ),
    "the header of a chord": (
        lambda t: chord([t.add.s(1, 1), t.fail.s(), t.fail.s()], t.total.s() | t.add.s(1)),
        {"succeeded": 1, "failed": 4},
    ),
    "the body of a chord": (lambda t: chord(some(t), t.fail.s()), {"succeeded": 3, "failed": 1}),
    "deep within": (
        lambda t: chain(
            t.add.s(1, 1),
            group(t.fail.s(), t.add.s(1)),
            t.total.s(),
            group(t.add.s(1), t.add.s(2)),
            t.total.s(),
        ),
        {"succeeded": 2, "failed": 5},
    ),
    "what replaces a part": (
        lambda t: group(t.swap_for_failure.s(), t.add.s(1, 1)),
        {"succeeded": 1, "failed": 1},
    ),
    "a part that is killed": (lambda t: group(t.killed.s(), t.add.s(1, 1)), {"succeeded": 1, "failed": 1}),
    "a link that is killed": (
        lambda t: chain(t.add.s(1, 1), t.killed.s(), t.add.s(1)),
        {"succeeded": 1, "failed": 2},
    ),
}


FAILURES |= {
    "a link that no worker knows": (
        lambda t: chain(t.add.s(1, 1), unknown(t), t.add.s(1), group(t.add.s(2), t.add.s(3)), t.total.s()),
        {"succeeded": 1, "failed": 5},
    ),
    "a first link that no worker knows": (
        lambda t: chain(unknown(t), t.add.s(1), t.add.s(2)),
        {"failed": 3},
    ),
    "a task of a header that no worker knows": (
        lambda t: chord([t.add.s(1, 1), unknown(t), chain(unknown(t), t.add.s(1))], t.total.s() | t.add.s(1)),
        {"succeeded": 1, "failed": 5},
    ),
    "a body that no worker knows": (
        lambda t: chord([t.add.s(1, 1), t.add.s(2, 2)], unknown(t) | t.add.s(1)),
        {"succeeded": 2, "failed": 2},
    ),
}


def unknown(tasks: Any) -> Any:
    return tasks.app.signature("nobody.knows")


@pytest.mark.parametrize("place", FAILURES)
def test_wherever_it_fails_the_whole_ends(tasks: Any, address: str, channel: Any, place: str) -> None:
    """What fails, and what then never runs, is counted, and the whole has one end, FAILURE."""
    build, expected = FAILURES[place]
    result = build(tasks).apply_async()
    watched = Watched(address, whole(result))
    watched.check()
    assert watched.state == "FAILURE"
    parts = Counter(snapshot(channel, whole(result))["parts"])
    assert +parts == Counter(expected)


def test_a_chord_of_a_thousand(tasks: Any, address: str) -> None:
    """1,000 tasks and one after them: the bar goes from 0 to 100 without a step back, then one end."""
    task_id = uuid.uuid4().hex
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(Watched, address, f"whole:{task_id}")
        result = chord((tasks.add.s(n, n) for n in range(1000)), tasks.total.s()).apply_async(task_id=task_id)
        watched = watching.result()
    assert whole(result) == f"whole:{task_id}"
    watched.check()
    assert (watched.percents[-1], watched.state) == (100, "SUCCESS")
    assert watched.percents[0] < 50
    steps = [event["current"] for event in watched.of("progress")]
    assert steps == sorted(steps)
    assert steps[-1] == 1001


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_wholes_in_every_pool(server: Valkey, address: str, channel: Any, tmp_path: Path, pool: str) -> None:
    """Also where the result backend cannot wait for a chord, and Celery polls: its own task is no part."""
    broker, results = server.url("redis")[:-1] + "1", f"file://{tmp_path}"
    with (
        Celery(broker=broker, backend=results, set_as_current=False) as app,
        worker(pool, APP_BROKER=broker, APP_RESULTS=results, APP_BRIDGE=server.url("redis")),
    ):
        install(app, server.url("redis"))
        add, total, fail = (app.signature(f"tests.canvas_app.{name}") for name in ("add", "total", "fail"))
        header = group([add.clone((n, n)) for n in range(3)], app=app)
        result = chain(header, total, add.clone((1,)), app=app).apply_async()
        watched = Watched(address, whole(result))
        watched.check()
        assert watched.state == "SUCCESS"
        names = Counter(
            child["name"].rpartition(".")[2] for child in snapshot(channel, whole(result))["children"]
        )
        assert names == {"add": 4, "total": 1}
        failing = chord([add.clone((1, 1)), fail], total, app=app).apply_async()
        watched = Watched(address, whole(failing))
        watched.check()
        counts = {"waiting": 0, "running": 0, "succeeded": 1, "revoked": 0, "failed": 2}
        assert snapshot(channel, whole(failing))["parts"] == counts


def test_a_killed_child_takes_no_end_of_an_earlier_task_along(
    server: Valkey, address: str, channel: Any
) -> None:
    """However long an end takes to be sent, it is out before the next task may kill its process."""
    broker = server.url("redis")[:-1] + "2"
    env = {
        "APP_BROKER": broker,
        "APP_RESULTS": broker,
        "APP_BRIDGE": server.url("redis"),
        "APP_SLOWLY": "1",
    }
    with (
        Celery(broker=broker, backend=broker, set_as_current=False) as app,
        worker(children=1, **env),
    ):
        install(app, server.url("redis"))
        add, killed = (app.signature(f"tests.canvas_app.{name}") for name in ("add", "killed"))
        watched = Watched(
            address, whole(chain(add.clone((1, 1)), killed, add.clone((1,)), app=app).apply_async())
        )
        watched.check()
        parts = Counter(snapshot(channel, watched.events[-1]["task"])["parts"])
        assert +parts == Counter({"succeeded": 1, "failed": 2})


def test_a_part_that_a_killed_worker_left_is_run_again(tasks: Any, address: str, tmp_path: Path) -> None:
    """A part whose process is killed and that the broker delivers again counts once, and all goes well."""
    result = group(tasks.killed_once.s(str(tmp_path / "marker")), tasks.add.s(1, 1)).apply_async()
    watched = Watched(address, whole(result))
    watched.check()
    assert watched.state == "SUCCESS"
    assert watched.percents[-1] == 100


def test_a_revoked_part_ends_the_whole_as_revoked(tasks: Any, address: str, channel: Any) -> None:
    """A part that is revoked before it runs counts as such, and so does what was to follow it."""
    revoked = uuid.uuid4().hex
    assert tasks.app.control.revoke(revoked, reply=True)
    result = group(
        tasks.add.s(1, 1), chain(tasks.add.s(1, 1).set(task_id=revoked), tasks.add.s(1))
    ).apply_async()
    watched = Watched(address, whole(result))
    watched.check()
    assert watched.state == "REVOKED"
    assert snapshot(channel, whole(result))["parts"]["revoked"] == 2


# How a task may end before it starts: what is set on it.
UNSTARTED: dict[str, dict[str, Any]] = {
    "expired": {"expires": -1},
    "refused by the worker": {"headers": {"eta": "never"}},
}


@pytest.mark.parametrize("reason", UNSTARTED)
def test_what_was_to_follow_a_task_that_does_not_start_ends_too(
    tasks: Any, address: str, channel: Any, reason: str
) -> None:
    """A link that expires, or of which the worker cannot read the message, takes along the rest."""
    never = UNSTARTED[reason]
    for canvas, count in (
        (chain(tasks.add.s(1, 1), tasks.add.s(1).set(**never), tasks.add.s(1), tasks.add.s(2)), 3),
        (chord([tasks.add.s(1, 1), tasks.add.s(2, 2).set(**never)], tasks.total.s() | tasks.add.s(1)), 3),
    ):
        watched = Watched(address, whole(canvas.apply_async()))
        watched.check()
        assert watched.state == "REVOKED"
        parts = snapshot(channel, watched.events[-1]["task"])["parts"]
        assert (parts["succeeded"], parts["revoked"]) == (1, count)


def test_progress_of_a_part_moves_the_whole(tasks: Any, address: str, channel: Any) -> None:
    """What a part says of itself counts; a part that begins again does not pull the bar back."""
    result = group(tasks.second_time_lucky.s()).apply_async()
    Watched(address, whole(result)).check()
    history = map(events.decode, channel.topic(bridge.task_topic(whole(result))).history(limit=100))
    assert [event["percent"] for event in history if event and "percent" in event] == [0, 90, 100]


def test_whoever_waits_for_a_task_that_never_runs_is_told(tasks: Any, address: str) -> None:
    """The last task of a chain that failed before, and the body of a chord whose header did, have an end."""
    for canvas in (
        chain(tasks.fail.s(), tasks.add.s(1), tasks.add.s(2)),
        chord([tasks.fail.s()], tasks.total.s()),
    ):
        watched = Watched(address, canvas.apply_async().id)
        assert watched.state == "FAILURE"
        told = next(event for event in watched.events if "error" in event)
        assert told["error"]["type"] == "NotRun"


def test_tasks_know_what_they_belong_to(tasks: Any, address: str, channel: Any) -> None:
    """A part tells its parent, its root, its group and place in it, and its whole."""
    result = chain(tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2)), tasks.total.s()).apply_async()
    Watched(address, whole(result))
    body = snapshot(channel, result.id)
    members = [snapshot(channel, member.id) for member in result.parent.results]
    first = snapshot(channel, result.parent.parent.id)
    assert [member["group"] for member in members] == [result.parent.id] * 2
    assert [member["index"] for member in members] == [0, 1]
    assert [member["parent"] for member in members] == [first["task"]] * 2
    assert {part["whole"] for part in (*members, body, first)} == {whole(result)}
    assert {part["root"] for part in (*members, body)} == {first["task"]}
    assert "root" not in first
    assert body["parent"] in {member["task"] for member in members}


def test_a_whole_has_its_name_before_a_part_is_sent(
    tasks: Any, address: str, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However slow the bridge and fast the first part, nobody sees a whole that does not say what it is."""
    named = []
    found: Any = installed(tasks.app)
    publish_many = found.transport.publish_many

    def slowly(*arguments: Any, **options: Any) -> int:
        time.sleep(0.1)
        return int(publish_many(*arguments, **options))

    monkeypatch.setattr(found.transport, "publish_many", slowly)

    def look(headers: dict[str, Any], **_: Any) -> None:
        named.append(snapshot(channel, str(bridge_parts.whole_of(headers))).get("canvas"))

    signals.before_task_publish.connect(look)
    try:
        result = some(tasks).apply_async()
    finally:
        signals.before_task_publish.disconnect(look)
    assert Watched(address, whole(result)).state == "SUCCESS"
    assert set(named) == {"group"}


@pytest.mark.parametrize("shape", ["group", "chain", "chord", "group at the end", "chains within a group"])
def test_the_same_canvas_started_twice_makes_two_wholes(tasks: Any, address: str, shape: str) -> None:
    """Each start is a whole of its own, and leaves the caller's tasks as they were."""
    canvas = SHAPES[shape][0](tasks)
    first_task = next(tree.leaves(canvas)).set(headers={"own": "yes"})
    before = repr([task.options for task in tree.leaves(canvas)])
    names = {whole(canvas.apply_async()) for _ in range(3)}
    assert len(names) == 3
    for name in names:
        watched = Watched(address, name)
        watched.check()
        assert watched.state == "SUCCESS"
    assert first_task.options == {"headers": {"own": "yes"}}
    assert repr([task.options for task in tree.leaves(canvas)]) == before


def test_threads_start_one_canvas_together(tasks: Any, address: str) -> None:
    """A canvas that a module keeps and several requests start at once: each start is a whole of its own."""
    canvas = chain(tasks.add.s(1, 1), tasks.add.s(1))
    barrier = threading.Barrier(8)

    def start(_: int) -> str:
        barrier.wait()
        return whole(canvas.apply_async())

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(start, range(8)))
    # Without the bridge too, Celery gives an id that one start has left on a chain to the next.
    assert len(set(names)) == 8
    for name in names:
        Watched(address, name).check()


def test_ids_and_headers_that_the_caller_gives_are_kept(tasks: Any, address: str) -> None:
    """A group, chain or chord started under an id of the caller's is the whole of that id."""
    for canvas in (
        some(tasks),
        chain(tasks.add.s(1, 1), tasks.add.s(1)),
        chord(some(tasks), tasks.total.s()),
    ):
        task_id = uuid.uuid4().hex
        result = canvas.apply_async(task_id=task_id, headers={"own": "yes"})
        assert result.id == task_id
        assert Watched(address, whole(result)).state == "SUCCESS"


@pytest.fixture
def sender() -> Iterator[tuple[Celery, Any]]:
    """An app that queues tasks which nobody runs, and the channel on which it tells of them."""
    app = Celery("sender", broker="memory://", backend="cache+memory://", set_as_current=False)
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    with bridge.connect(url) as channel:
        yield app, channel
    app.close()


def work_of(app: Celery) -> Any:
    return app.signature("work", app=app)


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


def test_no_mark_stays_where_celery_changes_the_tasks_of_the_caller(sender: tuple[Celery, Any]) -> None:
    """Also where Celery puts its own copies into a chord, each start of it is a whole of its own."""
    work = work_of(sender[0])
    canvas = chord([work, work], work, app=work.app)
    canvas.tasks = Shared(canvas.tasks)
    names = {whole(canvas.apply_async()) for _ in range(2)}
    assert all("task_id" in task.options for task in canvas.tasks)
    assert not any(bridge_parts.mark_of(task.options) for task in canvas.tasks)
    assert {snapshot(sender[1], name)["canvas"] for name in names} == {"chord"}


def dicts(count: int = 2) -> list[dict[str, Any]]:
    return [dict(signature("work")) for _ in range(count)]


# Canvases of tasks that are plain dicts, as they come from JSON.
OF_DICTS: dict[str, tuple[Callable[[Celery], Any], int]] = {
    "group": (lambda app: group(dicts(), app=app), 2),
    "chain": (lambda app: chain(*dicts(), app=app), 1),
    "chord": (lambda app: chord(dicts(), dicts(1)[0], app=app), 2),
    "chord with a group": (lambda app: chord(group(dicts(), app=app), dicts(1)[0], app=app), 2),
    "chain in a group": (lambda app: group([dict(chain(*dicts(), app=app)), *dicts(1)], app=app), 2),
    "group in a chain": (lambda app: chain(*dicts(1), dict(group(dicts(), app=app)), app=app), 1),
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
    before = current_app._get_current_object()  # type: ignore[attr-defined]
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
    """Before each task is made, as many are sent as without the bridge, or more."""
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
    """The whole is at 0 percent of what was heard of until all is sent, then of all; it ends once."""
    seen: list[dict[str, Any]] = []
    name = uuid.uuid4().hex

    def made() -> Iterator[Any]:
        for number in range(6):
            if number == 4:
                eventually(lambda: snapshot(channel, f"whole:{name}")["parts"]["succeeded"] >= 1, SECONDS)
                seen.append(snapshot(channel, f"whole:{name}"))
            yield tasks.add.s(number, number)

    result = chord(made(), tasks.total.s()).apply_async(task_id=name)
    watched = Watched(address, whole(result))
    watched.check()
    assert (seen[0]["progress"]["percent"], seen[0]["progress"]["total"] < 7) == (0, True)
    final = snapshot(channel, whole(result))
    assert (final["state"], final["progress"]["percent"]) == ("SUCCESS", 100)
    assert (final["parts"]["succeeded"], final["progress"]["total"]) == (7, 7)
    assert result.get(timeout=SECONDS) == 30


def test_a_generator_that_fails_ends_the_whole(sender: tuple[Celery, Any]) -> None:
    """The caller has the error, and whoever watches an end with it."""
    app, channel = sender

    def made() -> Iterator[Any]:
        yield from [work_of(app)] * 3
        raise LookupError("no more")

    with pytest.raises(LookupError):
        group(made(), app=app).apply_async(task_id="fails")
    found = ended(channel, "fails")
    assert (found["state"], found["error"]["type"]) == ("FAILURE", "LookupError")


def test_what_a_generator_or_a_signal_queues_is_no_part(sender: tuple[Celery, Any]) -> None:
    """Tasks and canvases that the caller's own code starts meanwhile are not of this whole."""
    app, channel = sender
    marks: dict[str, Any] = {}

    def look(sender: str, headers: dict[str, Any], **_: Any) -> None:
        marks.setdefault(sender, []).append(bridge_parts.whole_of(headers))
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


def test_headers_of_a_canvas_do_not_hide_the_whole(tasks: Any, address: str, channel: Any) -> None:
    """A canvas within another hands its own headers to its tasks, which stay parts."""
    inner = group(tasks.add.s(1), tasks.add.s(2)).set(headers={"own": "yes"})
    outer = group(
        chain(tasks.add.s(1, 1), inner), chain(tasks.add.s(1, 1), tasks.add.s(1)).set(headers={"o": 1})
    )
    watched = Watched(address, whole(outer.apply_async()))
    watched.check()
    assert watched.state == "SUCCESS"


@pytest.fixture
def eager() -> Iterator[tuple[Celery, Any]]:
    """An app that runs its tasks in this process, and the channel they publish on."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    channel = bridge.connect(url)
    yield app, channel
    channel.close()
    app.close()


def ended(channel: Any, result_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        found = snapshot(channel, result_id)
        return found if events.end_of(found) else None

    return eventually(look) or {}


def test_eager_canvases_are_wholes_too(eager: tuple[Celery, Any]) -> None:
    """In eager mode a group and a chain end as elsewhere, also a chain of which not all ran."""
    app, channel = eager

    @app.task(name="canvas 1")
    def work(*numbers: int) -> int:
        return 1 // numbers[0]

    assert ended(channel, whole(group(work.s(n) for n in (1, 2, 3)).apply_async()))["parts"]["succeeded"] == 3
    assert ended(channel, whole(chain(work.s(1), work.s()).apply_async()))["state"] == "SUCCESS"
    failing = chain(work.s(0), work.s(), work.s())
    with pytest.raises(ZeroDivisionError):
        failing.apply_async(task_id="failing")
    assert ended(channel, "whole:failing")["state"] == "FAILURE"


def test_canvases_of_other_apps_are_left_alone(eager: tuple[Celery, Any]) -> None:
    """A canvas of an app without the bridge is started as ever and told to nobody."""
    _, channel = eager
    other = Celery("other", set_as_current=False)
    other.conf.task_always_eager = True

    @other.task(name="canvas 2", bind=True)
    def work(self: Any) -> Any:
        return self.request.headers

    result = group(work.s(), app=other).apply_async()
    assert result.get() == [None]
    assert transport_of(channel).states(bridge.task_topic(result.id)) == []


def test_a_canvas_that_cannot_be_marked_is_started_all_the_same(
    eager: tuple[Celery, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An error of the bridge costs the bar, which the log says, and not the tasks."""
    app, _ = eager

    @app.task(name="canvas 3")
    def work() -> int:
        return 1

    def broken(_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(bridge_canvas.tree, "last", broken)
    assert group(work.s(), work.s()).apply_async().get() == [1, 1]
    assert "cannot be watched" in caplog.text


def test_a_canvas_that_cannot_be_started_ends() -> None:
    """With the broker out of reach the caller has the error, and whoever watches an end."""
    app = Celery("lost", broker=f"redis://127.0.0.1:{free_port()}", set_as_current=False)
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    with bridge.connect(url) as channel:
        with pytest.raises(OperationalError):
            group(app.signature("anything")).apply_async(task_id="lost", retry=False)
        lost = ended(channel, "lost")
        assert (lost["state"], lost["error"]["type"]) == ("FAILURE", "OperationalError")
        assert lost["parts"]["waiting"] == 1
    app.close()


@pytest.mark.parametrize("mark", ["", "x", "3", "3 ", "0 w", "-1 w", "٣", 5, None])
def test_a_header_that_makes_no_sense_is_no_whole(mark: Any) -> None:
    """Anybody can send a message with any header: what is no mark of ours is passed over."""
    assert bridge_parts.relations({"id": "a", "root_id": "a", "bridge_whole": mark})["whole"] is None


def test_many_threads_start_canvases(eager: tuple[Celery, Any]) -> None:
    """Canvases started by several threads at once do not get into each other's wholes."""
    app, channel = eager

    @app.task(name="canvas 4")
    def work() -> None:
        pass

    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(whole(group(work.s() for _ in range(5)).apply_async())))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(channel, name)["parts"]["succeeded"] for name in ids] == [5] * 8
