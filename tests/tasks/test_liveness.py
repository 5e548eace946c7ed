"""What the monitor of workers makes of what passes on its way to viewers, and what it publishes."""

import logging
import time
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import bridge
from bridge.backends.base import States
from bridge.channel.transport import transport_of
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.model.state import TopicState
from bridge.tasks.heartbeats import WORKERS, Heartbeat
from bridge.tasks.liveness import LivenessMonitor
from bridge.tasks.missing_worker import PATIENCE
from tests import events
from tests.celery.test_lifecycle import Watcher
from tests.servers import Valkey, eventually
from tests.serving import logged
from tests.tasks.test_workers import LIMIT, pass_time

TASK = bridge.task_topic("t1")


def opened(*told: Publication) -> States:
    """What a stream of the task opens with."""
    state = TopicState(TASK)
    for event in told:
        assert event.change is not None
        state.fields.update(event.change.fields)
    return States(TASK, [state] if told else [])


def told(state: str, topic: str = TASK, **fields: Any) -> Message:
    return Message(events.make("state", "t1", state=state, **fields).payload, topic=topic)


@pytest.fixture
def monitor() -> Iterator[LivenessMonitor]:
    with bridge.connect(f"memory://{uuid.uuid4().hex}") as channel:
        monitor = LivenessMonitor(transport_of(channel), lambda do, *arguments: do(*arguments))
        monitor.workers._patience = 0.0
        yield monitor
        monitor._publisher.close()


@pytest.mark.parametrize(
    "item",
    [
        opened(),
        opened(events.make("state", "t1", state="PENDING")),
        told("PENDING"),
        told("PENDING", bridge.FEED),
    ],
    ids=["unknown", "queued", "told", "told in the feed"],
)
def test_a_watched_task_that_no_worker_takes(monitor: LivenessMonitor, item: Any) -> None:
    """Makes it matter to hear of a worker."""
    monitor.see([item])
    assert monitor.missing.waits


@pytest.mark.parametrize(
    "item",
    [
        opened(events.make("state", "t1", state="STARTED")),
        opened(events.make("state", "t1", state="FAILURE")),
        told("RECEIVED"),
        told("SUCCESS", bridge.FEED),
    ],
    ids=["opened", "opened at its end", "told", "told in the feed"],
)
def test_a_task_that_a_worker_has_taken(monitor: LivenessMonitor, item: Any) -> None:
    """Does not matter, also if nobody had it before."""
    monitor.see([opened(), item])
    assert not monitor.missing.waits


def test_a_snapshot_tells_as_much_as_events(monitor: LivenessMonitor) -> None:
    """A viewer that comes late makes known where its task is; one that is stalled already is not told of."""
    states = []
    for task, state in (("t1", "STARTED"), ("t2", "STALLED")):
        event = events.make("state", task, state=state, process="w1", stalls_after=LIMIT)
        assert event.change is not None
        states.append(TopicState(events.task_topic(task), dict(event.change.fields)))
        assert event.payload in event.change.fields.values()
    monitor.see([States(events.FEED, states)])
    assert pass_time(monitor.workers, 2 * LIMIT) == [("t1", "STALLED")]


def test_an_event_tells_where_a_task_is(monitor: LivenessMonitor) -> None:
    """Whether the backend says the type of the event or not."""
    for kind in ("state", None):
        item = told("STARTED", process="w1", stalls_after=LIMIT)
        item.type = kind
        monitor.see([item])
        assert pass_time(monitor.workers, 2 * LIMIT) == [("t1", "STALLED")]
        monitor.see([told("SUCCESS")])
        monitor.workers.prune({TASK})
        assert not monitor.workers.workers


def test_a_viewer_of_a_tag_finds_the_stalled_tasks_of_the_tag(
    monitor: LivenessMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only they are published, to the feed of the tag too, from the snapshots and events that it carries."""
    found: list[Publication] = []
    monkeypatch.setattr(monitor._publisher, "put", found.append)
    one, two = map(bridge.tag_topic, ("one", "two"))
    about: dict[str, Any] = {"state": "STARTED", "process": "w1", "stalls_after": LIMIT}
    event = events.make("state", "read", tags=["one"], **about)
    assert event.change is not None
    monitor.see([States(one, [TopicState(event.topic, dict(event.change.fields))])])
    for task, tag in (("told", "one"), ("unwatched", "two")):
        payload = events.make("state", task, tags=[tag], canvas_id="canvas:w", **about).payload
        monitor.see([Message(payload, topic=bridge.tag_topic(tag))])
    monitor.workers.prune({one, two})
    monitor.workers.pass_time(LIMIT + 1)
    monitor.tick(lambda: {one})
    stalled = {made.topic: made for made in found if made.topic != WORKERS}
    assert stalled.keys() == {bridge.task_topic("read"), bridge.task_topic("told")}
    for task, is_listed in (("read", True), ("told", False)):
        change = stalled[bridge.task_topic(task)].change
        assert change is not None
        assert [(group.topic, group.lists > 0) for group in change.groups] == [
            (one, is_listed),
            (bridge.FEED, is_listed),
        ]
    monitor.workers.prune({one})
    assert {task for worker in monitor.workers.workers.values() for task in worker.stalled} == {
        "read",
        "told",
    }


def test_an_event_on_another_topic_is_none(monitor: LivenessMonitor) -> None:
    """An application may publish any JSON to a topic of its own."""
    monitor.see([told("STARTED", "orders", process="w1", stalls_after=LIMIT)])
    assert not monitor.workers.workers


def test_all_who_find_a_stalled_task_publish_one_message(
    monitor: LivenessMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the worker that it was with and the state it had. The tokens are the same, so it appears once."""
    second = LivenessMonitor(monitor._transport, lambda do, *arguments: do(*arguments))
    found: list[Publication] = []
    for each in (monitor, second):
        monkeypatch.setattr(each._publisher, "put", found.append)
        each.see([told("STARTED", worker="w@h", process="w1", stalls_after=LIMIT)])
        each.workers._patience = 0.0
        each.workers.pass_time(LIMIT + 1)
        each.tick(lambda: {TASK})
    one, other = (made for made in found if made.topic == TASK)
    assert one.token == other.token
    assert one.repeated
    event = events.decode(one.payload)
    assert event is not None
    assert (event["state"], event["was"], event["worker"]) == ("STALLED", "STARTED", "w@h")
    assert (event["process"], event["stalls_after"], event["attempt"]) == ("w1", LIMIT, 1)
    second._publisher.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL, and a process that does not wait long."""
    monkeypatch.setattr("bridge.tasks.missing_worker.PATIENCE", 1.0)
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("namespace", ["here", "elsewhere"])
def test_only_heartbeats_of_the_same_namespace_count(
    impatient: str, caplog: pytest.LogCaptureFixture, namespace: str
) -> None:
    """A worker in another namespace is not heard of, nor another process that serves viewers."""
    watching: Any = bridge.connect(impatient, namespace="here")
    other: Any = bridge.connect(impatient, namespace=namespace)
    monitor = LivenessMonitor(transport_of(watching), lambda do, *arguments: do(*arguments))
    monitor.see([opened()])

    def found() -> bool:
        monitor.tick(lambda: {TASK})
        transport_of(watching).publish(Publication(WORKERS, Heartbeat("watcher", None, 1).encode()))
        transport_of(other).publish(Publication(WORKERS, Heartbeat("worker", "w1@host", 1).encode()))
        time.sleep(0.05)
        return not monitor.missing.waits

    with caplog.at_level(logging.WARNING, "bridge.tasks"):
        eventually(found)
    assert len(caplog.records) == (namespace == "elsewhere")
    for channel in (watching, other):
        channel.close()


def test_a_server_whose_worker_has_another_namespace(own_valkey: Valkey) -> None:
    """A viewer of a task that nobody tells of gets its snapshot, and the log and the stream say why."""
    settings = {"BRIDGE_URL": own_valkey.url("redis"), "BRIDGE_PUBLIC": "true", "BRIDGE_NAMESPACE": "web"}
    with logged("gunicorn sync", **settings, BRIDGE_HEARTBEAT="1") as (address, log):
        viewer = Watcher(address, ["t1"])
        eventually(lambda: viewer.last("t1") == "PENDING")
        eventually(lambda: "install(app, url)" in log.read_text(), within=3 * PATIENCE)
        (said,) = [line for line in log.read_text().splitlines() if "install(app, url)" in line]
        assert "namespace 'web'" in said
        assert "t1" in said
        assert "bridge doctor" in said
        with httpx.stream("GET", f"{address}/stream?topic=task:t1", timeout=30) as response:
            assert any("no worker is heard here" in line for line in response.iter_lines())


def test_a_stalled_task_is_not_in_a_feed_that_is_off(
    monitor: LivenessMonitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the worker leaves the feed of all tasks out, its stalled tasks go to their tags only."""
    found: list[Publication] = []
    monkeypatch.setattr(monitor._publisher, "put", found.append)
    about: dict[str, Any] = {"state": "STARTED", "process": "w1", "stalls_after": LIMIT, "tags": ["one"]}
    monitor.see([Message(events.make("state", "t1", **about).payload, topic=TASK)])
    monitor.workers.heard(Heartbeat("w1", "w@host", 1, feed=False))
    monitor.workers.pass_time(LIMIT + 1)
    monitor.tick(lambda: {TASK})
    (change,) = [made.change for made in found if made.topic == TASK]
    assert change is not None
    assert [group.topic for group in change.groups] == [bridge.tag_topic("one")]
