"""Whether a process with viewers finds out that no worker speaks where it listens."""

import logging
import time
import uuid
from typing import Any

import pytest

import bridge
from bridge.backends.base import States
from bridge.channel.transport import transport_of
from bridge.model.message import Message
from bridge.model.publication import Publication
from bridge.model.state import TopicState
from bridge.tasks import events
from bridge.tasks.liveness import LivenessMonitor
from bridge.tasks.missing_worker import PATIENCE, MissingWorkerCheck
from tests.celery.test_lifecycle import Watcher
from tests.servers import Valkey, eventually
from tests.serving import logged

TASK = bridge.task_topic("t1")


def opened(*told: Publication) -> States:
    """What a stream of the task opens with."""
    state = TopicState(TASK)
    for event in told:
        assert event.change is not None
        state.fields.update(event.change.fields)
    return States(TASK, [state] if told else [])


def told(state: str, topic: str = TASK) -> Message:
    return Message(events.make("state", "t1", state=state).payload, topic=topic)


@pytest.fixture
def silence() -> MissingWorkerCheck:
    return MissingWorkerCheck("redis://h/0, namespace 'n'")


def complaints(
    silence: MissingWorkerCheck, caplog: pytest.LogCaptureFixture, watched: str = TASK
) -> list[str]:
    """What is logged in a long time in which nothing happens."""
    for _ in range(3 * int(PATIENCE)):
        silence.tick(1.0, {watched})
    return [record.getMessage() for record in caplog.records if record.name == "bridge.tasks.missing_worker"]


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
def test_a_watched_task_that_no_worker_takes(
    silence: MissingWorkerCheck, caplog: pytest.LogCaptureFixture, item: Any
) -> None:
    """Logged once, with the place where nobody speaks and what is to be looked at."""
    silence.see([item])
    silence.tick(PATIENCE - 1, {TASK})
    assert not caplog.records
    (said,) = complaints(silence, caplog)
    assert all(word in said for word in ("t1", "redis://h/0, namespace 'n'", "install(app, url)", "worker"))
    silence.see([item])
    assert len(complaints(silence, caplog)) == 1
    assert not silence.waits


@pytest.mark.parametrize(
    "item",
    [opened(events.make("state", "t1", state="STARTED")), told("RECEIVED"), told("SUCCESS", bridge.FEED)],
    ids=["opened", "told", "told in the feed"],
)
def test_a_task_that_a_worker_has_taken(
    silence: MissingWorkerCheck, caplog: pytest.LogCaptureFixture, item: Any
) -> None:
    """Is no reason to complain, also if nobody had it before."""
    silence.see([opened(), item])
    assert not silence.waits
    assert complaints(silence, caplog) == []


def test_nobody_is_missed_once_heard_of(
    silence: MissingWorkerCheck, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that beats here may be busy for long; a task that nobody watches is nobody's concern."""
    silence.see([opened()])
    assert complaints(silence, caplog, watched="another") == []
    silence.see([opened()])
    silence.heard()
    silence.see([opened()])
    assert complaints(silence, caplog) == []


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> str:
    """A URL, and a process that does not wait long."""
    monkeypatch.setattr("bridge.tasks.missing_worker.PATIENCE", 1.0)
    return f"memory://{uuid.uuid4().hex}"


@pytest.mark.parametrize("namespace", ["here", "elsewhere"])
def test_only_beats_of_the_same_namespace_count(
    impatient: str, caplog: pytest.LogCaptureFixture, namespace: str
) -> None:
    """A worker that beats in another namespace is not heard of, nor another process that serves viewers."""
    watching: Any = bridge.connect(impatient, namespace="here")
    other: Any = bridge.connect(impatient, namespace=namespace)
    stalls = LivenessMonitor(transport_of(watching), lambda do, *arguments: do(*arguments))
    stalls.see([opened()])

    def found() -> bool:
        stalls.turn(lambda: {TASK})
        transport_of(watching).publish(Publication(events.WORKERS, events.beat("watcher", None, 1)))
        transport_of(other).publish(Publication(events.WORKERS, events.beat("worker", "w1@host", 1)))
        time.sleep(0.05)
        return not stalls._silence.waits

    with caplog.at_level(logging.WARNING, "bridge.tasks"):
        eventually(found)
    assert len(caplog.records) == (namespace == "elsewhere")
    for channel in (watching, other):
        channel.close()


def test_a_server_whose_worker_has_another_namespace(own_valkey: Valkey) -> None:
    """A viewer of a task that nobody tells of gets its snapshot, and the log of the server says why."""
    url = own_valkey.url("redis")
    with logged("gunicorn sync", BRIDGE_URL=url, BRIDGE_PUBLIC="true", BRIDGE_NAMESPACE="web") as (
        address,
        log,
    ):
        viewer = Watcher(address, ["t1"])
        eventually(lambda: viewer.last("t1") == "PENDING")
        eventually(lambda: "install(app, url)" in log.read_text(), within=3 * PATIENCE)
        (said,) = [line for line in log.read_text().splitlines() if "install(app, url)" in line]
        assert "namespace 'web'" in said
        assert "t1" in said
