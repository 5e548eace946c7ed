"""`bridge.aio.watch`: a task as typed objects, with the promises of a stream."""

import asyncio
import gc
import json
import threading
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import bridge
from bridge import aio
from bridge.aio.watching import QUEUE_BYTES
from bridge.backends.base import Item
from bridge.channel.transport import transport_of
from bridge.model.message import Message
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder
from bridge.tasks import canvas
from bridge.tasks.typed import typed_events
from tests import events
from tests.aio.test_subscription import run, settle
from tests.celery.workers import worker
from tests.conftest import Connect
from tests.servers import Valkey, eventually

TASK = bridge.task_topic("t1")
some_backends = pytest.mark.parametrize("url", ["memory", "redis", "sqlite", "redis+pubsub"], indirect=True)
replaying = pytest.mark.parametrize("url", ["memory", "redis", "sqlite"], indirect=True)

in_memory = pytest.mark.parametrize("url", ["memory"], indirect=True)

Watching = AsyncGenerator[aio.Event | aio.Reset, None]


def say(channel: Any, kind: str, task: str = "t1", **fields: Any) -> None:
    transport_of(channel).publish(events.make(kind, task, **fields))


def stats(channel: Any) -> dict[str, int]:
    return transport_of(channel).hub.stats()


async def rest(watching: Watching) -> list[aio.Event | aio.Reset]:
    """Return what comes until the iterator stops."""
    return [event async for event in watching]


def types(seen: list[aio.Event | aio.Reset]) -> list[str]:
    return [event.type for event in seen]


@some_backends
def test_a_task_from_its_snapshot_to_its_end(channel: bridge.BroadcastChannel) -> None:
    """One snapshot with all that was before, then every event as its own class, one end, and it stops."""

    async def work() -> None:
        say(channel, "state", state="STARTED", name="ingest")
        say(channel, "step", name="parse", status="started")
        say(channel, "log", level="info", message="before")
        watching = aio.watch(channel, "t1")
        snapshot = await anext(watching)
        assert isinstance(snapshot, aio.Snapshot)
        assert (snapshot.task, snapshot.state, snapshot.name) == ("t1", "STARTED", "ingest")
        assert [type(event) for event in snapshot.events] == [aio.Step, aio.Log]
        say(channel, "progress", current=1, total=2)
        say(channel, "log", level="info", message="after")
        say(channel, "preview", data={"rows": 3})
        say(channel, "cancel_requested", terminate=True)
        say(channel, "state", state="SUCCESS", result=[1])
        progress, log, custom, request, state, end = await rest(watching)
        assert isinstance(progress, aio.Progress)
        assert (progress.current, progress.total) == (1, 2)
        assert isinstance(log, aio.Log)
        assert log.message == "after"
        assert isinstance(custom, aio.Custom)
        assert (custom.type, custom.data) == ("preview", {"rows": 3})
        assert isinstance(request, aio.CancelRequested)
        assert isinstance(state, aio.State)
        assert (state.state, state.result) == ("SUCCESS", [1])
        assert isinstance(end, aio.End)
        assert (end.task, end.state, end.at) == ("t1", "SUCCESS", state.at)
        assert stats(channel)["subscriptions"] == 0

    run(work())


@some_backends
def test_an_unknown_task_is_pending_and_an_ended_one_has_its_end(channel: bridge.BroadcastChannel) -> None:
    """Nobody waits for a task that has ended, and a task may be watched before it is queued."""

    async def work() -> None:
        early = aio.watch(channel, "t1")
        first = await anext(early)
        assert isinstance(first, aio.Snapshot)
        assert (first.state, first.events) == ("PENDING", ())
        say(channel, "state", state="FAILURE", error={"type": "ValueError", "message": "no"})
        assert types(await rest(early)) == ["state", "end"]
        snapshot, end = await rest(aio.watch(channel, "t1"))
        assert isinstance(snapshot, aio.Snapshot)
        assert snapshot.error == {"type": "ValueError", "message": "no"}
        assert isinstance(end, aio.End)
        assert end.state == "FAILURE"

    run(work())


@replaying
def test_it_continues_after_any_event(channel: bridge.BroadcastChannel) -> None:
    """With the id of an event come those that follow it; the state before the end begins again."""

    async def work() -> None:
        say(channel, "log", level="info", message="one")
        watching = aio.watch(channel, "t1")
        seen = [await anext(watching)]
        for number in range(3):
            say(channel, "log", level="info", message=str(number))
        say(channel, "state", state="SUCCESS")
        seen += await rest(watching)
        assert types(seen) == ["snapshot", "log", "log", "log", "state", "end"]
        for place, event in enumerate(seen[:4], 1):
            assert await rest(aio.watch(channel, "t1", after=event.id)) == seen[place:]
        assert seen[4].id is None
        assert await rest(aio.watch(channel, "t1", after=seen[5].id)) == []
        assert types(await rest(aio.watch(channel, "t1", bridge.BEGINNING))) == ["log"] * 4 + ["state", "end"]

    run(work())


@replaying
def test_a_position_that_is_lost_gives_a_reset(connect: Connect) -> None:
    """What cannot be continued begins again: a reset, then a snapshot."""
    channel, another = connect(retention_messages=5), connect(retention_messages=5)

    async def work() -> None:
        watching = aio.watch(channel, "t1")
        first = await anext(watching)
        await watching.aclose()
        for number in range(20):
            say(channel, "log", level="info", message=str(number))
        say(channel, "state", state="SUCCESS")
        reset, snapshot, end = await rest(aio.watch(another, "t1", after=first.id))
        assert isinstance(reset, aio.Reset)
        assert reset.task == "t1"
        assert isinstance(snapshot, aio.Snapshot)
        assert len(snapshot.events) == 20
        assert isinstance(end, aio.End)

    run(work())


@in_memory
def test_a_bad_argument_is_refused_by_the_call_itself(channel: bridge.BroadcastChannel) -> None:
    """Neither an id that is none nor an object that is no channel gets as far as an iteration."""
    for task_id in ("", "x" * 255, "a\nb", 7, None):
        with pytest.raises(ValueError, match="must"):
            aio.watch(channel, task_id)  # type: ignore[arg-type]  # wrong on purpose
    for after in ("yesterday", "", 7):
        with pytest.raises(ValueError, match="cursor"):
            aio.watch(channel, "t1", after)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="channel"):
        aio.watch("redis://", "t1")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("url", ["redis+pubsub"], indirect=True)
def test_without_replay_no_event_can_be_continued(channel: bridge.BroadcastChannel) -> None:
    """Events have no id there, and an id of another backend is refused in the call."""

    async def work() -> None:
        watching = aio.watch(channel, "t1")
        assert (await anext(watching)).id is None
        await watching.aclose()

    run(work())
    with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
        aio.watch(channel, "t1", after="0a-1-1")


@some_backends
def test_a_canvas_is_watched_like_a_task(channel: bridge.BroadcastChannel) -> None:
    """Its parts are in the events, and the end of the last one is its end."""

    async def work() -> None:
        watching = aio.watch(channel, "canvas:w")
        await anext(watching)
        for state in ("STARTED", "SUCCESS"):
            transport_of(channel).publish(canvas.make("canvas:w", 1, "a", state))
        seen = await rest(watching)
        assert types(seen) == ["state", "progress", "progress", "state", "end"]
        assert isinstance(seen[2], aio.Progress)
        assert (seen[2].percent, seen[2].parts and seen[2].parts["succeeded"]) == (100, 1)
        snapshot, end = await rest(aio.watch(channel, "canvas:w"))
        assert isinstance(snapshot, aio.Snapshot)
        assert snapshot.children is not None
        assert isinstance(end, aio.End)

    run(work())


@some_backends
def test_what_is_no_task_event_is_a_custom_event(channel: bridge.BroadcastChannel) -> None:
    """Anyone may publish to the topic of a task. It is not dropped, and it ends nothing."""
    fake = {"v": 1, "type": "state", "task": "t1", "at": 1, "state": "SUCCESS"}
    sent: list[tuple[bytes, str | None, str, Any]] = [
        (b'{"rows":3}', "note", "note", {"rows": 3}),
        (b"h\xffllo", None, "message", "h\ufffdllo"),
        (json.dumps(fake).encode(), "note", "note", fake),
        (json.dumps({**fake, "type": "end"}).encode(), None, "message", {**fake, "type": "end"}),
    ]

    async def work() -> None:
        async with aclosing(aio.watch(channel, "t1")) as watching:
            await anext(watching)
            for payload, event_type, *_ in sent:
                await aio.publish(channel.topic(TASK), payload, type=event_type)
            for _, _, *expected in sent:
                event = await anext(watching)
                assert isinstance(event, aio.Custom)
                assert [event.type, event.data] == expected

    run(work())


@some_backends
def test_cancelling_breaking_and_closing_leave_nothing_behind(channel: bridge.BroadcastChannel) -> None:
    """However an iteration ends, its reader leaves the hub, and what it held is garbage."""

    async def watch_for_ever() -> None:
        async for _ in aio.watch(channel, "t1"):
            pass

    async def work() -> None:
        threads = threading.active_count()
        watchers = [asyncio.create_task(watch_for_ever()) for _ in range(100)]
        await settle(lambda: stats(channel)["subscriptions"] >= 100)
        assert threading.active_count() <= threads + 3, "a thread for each watcher"
        for task in watchers:
            task.cancel()
        assert all(
            isinstance(error, asyncio.CancelledError)
            for error in await asyncio.gather(*watchers, return_exceptions=True)
        )
        async for _ in aio.watch(channel, "t1"):
            break
        async with aclosing(aio.watch(channel, "t1")) as watching:
            await anext(watching)
        aio.watch(channel, "t1")
        gc.collect()
        await settle(lambda: stats(channel)["subscriptions"] == 0)

    run(work())


@replaying
def test_closing_the_channel_stops_the_iteration(channel: bridge.BroadcastChannel) -> None:
    """It ends without an End, and a new one is refused."""

    async def work() -> None:
        watching = aio.watch(channel, "t1")
        await anext(watching)
        channel.close()
        assert await rest(watching) == []
        with pytest.raises(bridge.SubscriptionClosed):
            await anext(aio.watch(channel, "t1"))

    run(work())


@some_backends
def test_a_slow_watcher_takes_bounded_memory_and_loses_no_end(channel: bridge.BroadcastChannel) -> None:
    """Twenty megabytes wait in the backend and not in the process; then all of it comes, or a snapshot."""
    text = "x" * 100_000

    async def work() -> None:
        watching = aio.watch(channel, "t1")
        seen = [await anext(watching)]
        reader = next(iter(transport_of(channel).hub._topics.readers()))
        for number in range(200):
            say(channel, "preview", data={"number": number, "text": text})
        say(channel, "state", state="SUCCESS")
        await asyncio.to_thread(eventually, lambda: stats(channel)["slow_consumers"] == 1)
        assert reader._bytes < QUEUE_BYTES + 200_000  # type: ignore[attr-defined]  # nothing public shows it
        seen += await rest(watching)
        numbers = [event.data["number"] for event in seen if isinstance(event, aio.Custom)]
        if transport_of(channel).backend.replays:
            assert numbers == list(range(200))
            assert types(seen)[-2:] == ["state", "end"]
        else:
            assert numbers == list(range(len(numbers)))
            assert types(seen)[-3:] == ["reset", "snapshot", "end"]
        assert types(seen).count("end") == 1

    run(work())


def test_an_outage_only_delays_events() -> None:
    """With the server killed and started again, every event comes once, and one end."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url("redis")) as channel:
            watching = aio.watch(channel, "t1")
            seen = [await anext(watching)]
            say(channel, "log", level="info", message="0")
            seen.append(await anext(watching))
            waiting = asyncio.ensure_future(anext(watching))
            await asyncio.to_thread(valkey.kill)
            await settle(lambda: stats(channel)["connections_lost"] == 1)
            await asyncio.to_thread(valkey.start)
            say(channel, "log", level="info", message="1")
            say(channel, "state", state="SUCCESS")
            seen += [await waiting, *await rest(watching)]
            assert types(seen) == ["snapshot", "log", "log", "state", "end"]

    with Valkey.durable() as valkey:
        run(work(valkey))


def test_a_watcher_may_come_before_the_server() -> None:
    """A backend that cannot be reached yet is waited for."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url("redis"), timeout=1) as channel:
            await asyncio.to_thread(valkey.kill)
            waiting = asyncio.ensure_future(anext(aio.watch(channel, "t1")))
            await settle(lambda: transport_of(channel).hub.last_error is not None)
            await asyncio.to_thread(valkey.start)
            assert isinstance(await waiting, aio.Snapshot)

    with Valkey.durable() as valkey:
        run(work(valkey))


@in_memory
def test_the_json_is_that_of_a_stream(channel: bridge.BroadcastChannel) -> None:
    """What `to_json` returns is the data of the stream's events, so one client reads both."""
    say(channel, "state", state="STARTED", name="ingest")
    say(channel, "step", name="parse", status="started")
    say(channel, "progress", current=1, total=2)
    page = transport_of(channel).backend.states(TASK)
    items: list[Item] = [
        page,
        *(
            Message(publication.payload, topic=TASK, type=publication.type)
            for publication in (
                events.make("preview", "t1", data=[None, "größe"]),
                events.make("state", "t1", state="SUCCESS", result={"a": None}),
            )
        ),
    ]
    encoder = Encoder([TASK], Cursor(), with_ids=False)
    frames = [frame for item in items for frame in encoder.frames(item)]
    sent = [json.loads(frame.partition(b"data: ")[2]) for frame in frames]
    typed = [json.loads(aio.to_json(event)) for item in items for event in typed_events(item, "t1")]
    for found in (*sent, *typed):
        found.pop("at")  # that of a snapshot is the time at which it was made
    assert typed == sent


@some_backends
def test_a_task_whose_worker_vanishes_is_stalled(channel: bridge.BroadcastChannel) -> None:
    """A process without streams notices it too; then one that left has neither timer nor thread."""

    def publishers() -> int:
        return sum(thread.name == "bridge-publisher" for thread in threading.enumerate())

    async def work() -> None:
        before = publishers()
        say(channel, "state", state="STARTED", process="p1", stalls_after=0.2)
        async with (
            aclosing(aio.watch(channel, "t1")) as watching,
            aclosing(aio.watch(channel, "t2")) as other,
        ):
            await anext(other)
            await anext(watching)
            stalled = await anext(watching)
            assert isinstance(stalled, aio.State)
            assert (stalled.state, stalled.was) == ("STALLED", "STARTED")
            assert publishers() == before + 1
        assert stats(channel)["subscriptions"] == 0
        await settle(lambda: publishers() == before)

    run(work())


@pytest.fixture
def broker(valkey: Valkey) -> str:
    """A database of the server for Celery's messages."""
    return valkey.url("redis").rsplit("/", 1)[0] + "/5"


@pytest.mark.parametrize("backend", ["redis", "sqlite"])
def test_a_task_of_a_worker(valkey: Valkey, broker: str, backend: str, tmp_path: Path) -> None:
    """From the queue to the end everything that the task says comes, in order."""
    url = valkey.url("redis") if backend == "redis" else f"sqlite:///{tmp_path}/bridge.db"

    with worker(broker, url, "solo") as running, bridge.connect(url) as channel:

        async def work() -> None:
            task_id = uuid.uuid4().hex
            watching = aio.watch(channel, task_id)
            assert (await anext(watching)).type == "snapshot"
            running.app.send_task("tests.celery_app.chatty", (3,), task_id=task_id)
            seen = await rest(watching)
            assert {"progress", "log", "preview"} <= set(types(seen))
            states = [event.state for event in seen if isinstance(event, aio.State)]
            assert states[-2:] == ["STARTED", "SUCCESS"]
            assert types(seen)[-2:] == ["state", "end"]

        run(work())
