"""Groups, chains and chords, watched under one id: in real workers, at a real SSE client."""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group, signals
from kombu.exceptions import OperationalError

import bridge
from bridge.celery import canvas_id, install, tags
from bridge.celery.apps import installed
from bridge.celery.canvas import header, tree
from bridge.channel.transport import transport_of
from tests import events
from tests.celery.canvas.shapes import SHAPES, some
from tests.celery.canvas.watching import Watched, ended, snapshot, work_of, worker
from tests.servers import Valkey, free_port


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_is_watched_as_one(tasks: Any, address: str, channel: Any, shape: str) -> None:
    """However it is composed: as many parts as tasks, from 0 to 100 without a step back, and one end."""
    build, size = SHAPES[shape]
    result = build(tasks).apply_async()
    watched = Watched(address, canvas_id(result))
    watched.check()
    assert watched.state == "SUCCESS"
    final = snapshot(channel, canvas_id(result))
    assert final["parts"] == {"waiting": 0, "running": 0, "succeeded": size, "revoked": 0, "failed": 0}
    assert final["progress"]["percent"] == 100
    assert len(final["children"]) == size


def listed(channel: Any, tag: str) -> set[str | None]:
    """The tasks that the feed of a tag lists."""
    return {events.task_of(state.topic) for state in transport_of(channel).states(bridge.tag_topic(tag))}


def told(channel: Any, subscription: Any, feed: str) -> list[dict[str, Any]]:
    """What a feed has told since it was subscribed to."""
    channel.topic(feed).publish(b"sentinel")
    found = []
    while (message := subscription.receive(timeout=60)) != b"sentinel":
        found.append(events.decoded(message))
    return found


def test_a_canvas_of_every_shape_is_in_the_feed_of_its_tag(tasks: Any, channel: Any) -> None:
    """Each event of the canvas and of its parts is; the canvas is listed there, and no part of it."""
    failing = {
        "chain that fails": (lambda t: chain(t.add.s(1, 1), t.fail.s(), t.add.s(1)), 3),
        "chord that fails": (lambda t: chord([t.add.s(1, 1), t.fail.s()], t.total.s()), 3),
    }
    shapes = {**SHAPES, **failing}
    with channel.topic(bridge.FEED).subscribe() as feed:
        canvases = {
            shape: canvas_id(build(tasks).apply_async(headers=tags(f"tag of {shape}", "shared")))
            for shape, (build, _) in shapes.items()
        }
        for canvas in canvases.values():
            ended(channel, canvas)
        everything = told(channel, feed, bridge.FEED)
    assert listed(channel, "shared") >= set(canvases.values())
    for shape, canvas in canvases.items():
        topic = bridge.tag_topic(f"tag of {shape}")
        tagged = [events.decoded(message) for message in channel.topic(topic).history(limit=1000)]
        # A task that is replaced starts tasks that are no parts of the canvas, but have its tags.
        own, of_tag = (
            [event for event in told if canvas in (event["task"], event.get("canvas_id"))]
            for told in (everything, tagged)
        )
        assert of_tag == own, shape
        parts = {event["task"] for event in own} - {canvas}
        assert listed(channel, f"tag of {shape}") & {canvas, *parts} == {canvas}, shape
        assert snapshot(channel, canvas)["tags"] == [f"tag of {shape}", "shared"]


def test_a_canvas_has_the_tags_of_the_task_that_starts_it(tasks: Any, channel: Any) -> None:
    """So a person's feed shows all that a request of the person has set off."""
    started = tasks.start_group.apply_async((3,), headers=tags("who"))
    canvas = started.get(timeout=60)
    assert ended(channel, canvas)["state"] == "SUCCESS"
    assert listed(channel, "who") == {started.id, canvas}


def test_a_canvas_has_the_tags_that_all_its_tasks_have(tasks: Any, channel: Any) -> None:
    """A tag of some tasks only is not that of the canvas, whose events name them all: its feed lists them."""
    mine, other = (tasks.add.s(1, 1).set(headers=tags(name, "team")) for name in ("mine", "other"))
    result: Any = group(mine, other).apply_async()
    assert ended(channel, canvas_id(result))["tags"] == ["team"]
    assert listed(channel, "team") == {canvas_id(result)}
    assert listed(channel, "mine") == {result.results[0].id}
    assert listed(channel, "other") == {result.results[1].id}
    for message in channel.topic(bridge.tag_topic("mine")).history(limit=100):
        assert events.decoded(message)["task"] == result.results[0].id


def test_a_chord_of_a_thousand(tasks: Any, address: str) -> None:
    """1,000 tasks and one after them: the bar goes from 0 to 100 without a step back, then one end."""
    task_id = uuid.uuid4().hex
    with ThreadPoolExecutor() as pool:
        watching = pool.submit(Watched, address, f"canvas:{task_id}")
        result = chord((tasks.add.s(n, n) for n in range(1000)), tasks.total.s()).apply_async(task_id=task_id)
        watched = watching.result()
    assert canvas_id(result) == f"canvas:{task_id}"
    watched.check()
    assert (watched.percents[-1], watched.state) == (100, "SUCCESS")
    assert watched.percents[0] < 50
    steps = [event["current"] for event in watched.of("progress")]
    assert steps == sorted(steps)
    assert steps[-1] == 1001


@pytest.mark.parametrize("pool", ["threads", "gevent", "solo"])
def test_canvases_in_every_pool(
    server: Valkey, address: str, channel: Any, tmp_path: Path, pool: str
) -> None:
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
        watched = Watched(address, canvas_id(result))
        watched.check()
        assert watched.state == "SUCCESS"
        names = Counter(
            child["name"].rpartition(".")[2] for child in snapshot(channel, canvas_id(result))["children"]
        )
        assert names == {"add": 4, "total": 1}
        failing = chord([add.clone((1, 1)), fail], total, app=app).apply_async()
        watched = Watched(address, canvas_id(failing))
        watched.check()
        counts = {"waiting": 0, "running": 0, "succeeded": 1, "revoked": 0, "failed": 2}
        assert snapshot(channel, canvas_id(failing))["parts"] == counts


def test_a_canvas_has_its_name_before_a_part_is_sent(
    tasks: Any, address: str, channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a slow bridge and a fast first task, the canvas has its name before the task is sent."""
    named = []
    found: Any = installed(tasks.app)
    publish_many = found.transport.publish_many

    def slowly(*arguments: Any, **options: Any) -> int:
        time.sleep(0.1)
        return int(publish_many(*arguments, **options))

    monkeypatch.setattr(found.transport, "publish_many", slowly)

    def look(headers: dict[str, Any], **_: Any) -> None:
        named.append(snapshot(channel, header.belonging(headers)["canvas_id"]).get("canvas"))

    signals.before_task_publish.connect(look)
    try:
        result = some(tasks).apply_async()
    finally:
        signals.before_task_publish.disconnect(look)
    assert Watched(address, canvas_id(result)).state == "SUCCESS"
    assert set(named) == {"group"}


def test_a_generator_that_fails_ends_the_canvas(sender: tuple[Celery, Any]) -> None:
    """The caller gets the error, and viewers get an end with it."""
    app, channel = sender

    def made() -> Iterator[Any]:
        yield from [work_of(app)] * 3
        raise LookupError("no more")

    with pytest.raises(LookupError):
        group(made(), app=app).apply_async(task_id="fails")
    found = ended(channel, "fails")
    assert (found["state"], found["error"]["type"]) == ("FAILURE", "LookupError")


def test_eager_canvases_are_watched_too(eager: tuple[Celery, Any]) -> None:
    """In eager mode a group and a chain end as elsewhere, also a chain of which not all ran."""
    app, channel = eager

    @app.task(name="canvas 1")
    def work(*numbers: int) -> int:
        return 1 // numbers[0]

    assert (
        ended(channel, canvas_id(group(work.s(n) for n in (1, 2, 3)).apply_async()))["parts"]["succeeded"]
        == 3
    )
    assert ended(channel, canvas_id(chain(work.s(1), work.s()).apply_async()))["state"] == "SUCCESS"
    failing = chain(work.s(0), work.s(), work.s())
    with pytest.raises(ZeroDivisionError):
        failing.apply_async(task_id="failing")
    assert ended(channel, "canvas:failing")["state"] == "FAILURE"


def test_canvases_of_other_apps_are_left_alone(eager: tuple[Celery, Any]) -> None:
    """A canvas of an app without the bridge is started as before, and publishes nothing."""
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
    """After an error of the bridge, which is logged, the tasks run without a common progress."""
    app, _ = eager

    @app.task(name="canvas 3")
    def work() -> int:
        return 1

    def broken(_: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(tree, "last", broken)
    assert group(work.s(), work.s()).apply_async().get() == [1, 1]
    assert "cannot be watched" in caplog.text


def test_a_canvas_that_cannot_be_started_ends() -> None:
    """With the broker out of reach the caller gets the error, and viewers get an end."""
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


def test_many_threads_start_canvases(eager: tuple[Celery, Any]) -> None:
    """Canvases started by several threads at once do not get into each other's counts."""
    app, channel = eager

    @app.task(name="canvas 4")
    def work() -> None:
        pass

    ids: list[str] = []
    threads = [
        threading.Thread(
            target=lambda: ids.append(canvas_id(group(work.s() for _ in range(5)).apply_async()))
        )
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(channel, name)["parts"]["succeeded"] for name in ids] == [5] * 8
