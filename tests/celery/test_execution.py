"""States of tasks that run, in real worker processes and in eager mode."""

import uuid
from typing import Any

import pytest
from celery import Celery
from celery.app.task import Context
from celery.signals import task_retry

import bridge
from bridge.celery import install, log, progress
from bridge.celery.apps import installed
from bridge.channel.transport import transport_of
from tests import events
from tests.celery.workers import POOLS, SECONDS, Worker, snapshot, worker
from tests.servers import Valkey, eventually


def _check_captured(channel: Any, celery: Worker) -> None:
    """A task that knows nothing of the bridge shows its progress, its own event and what it logs."""
    task, _ = celery.run("legacy")
    found = snapshot(channel, task)
    assert found["state"] == "SUCCESS"
    assert [(each["type"], each.get("message")) for each in found["events"]] == [
        ("log", "packing boxes"),
        ("log", "only one left"),
        ("task-shipped", None),
    ]
    assert found["events"][2]["data"] == {"parcel": 7}
    assert [each["level"] for each in found["events"][:2]] == ["info", "warning"]
    assert (found["progress"]["current"], found["progress"]["total"]) == (3, 4)


@pytest.mark.parametrize("pool", POOLS)
def test_every_end_is_published_in_every_pool(own_valkey: Valkey, pool: str) -> None:
    """In each pool the states are published by themselves, events are kept, and every task has its end."""
    channel = bridge.connect(own_valkey.url("redis+pubsub"))
    with worker(own_valkey.url("redis"), own_valkey.url("redis+pubsub"), pool) as celery:
        added, result = celery.run("add", 1, 2)
        assert result == 3
        found = snapshot(channel, added)
        assert (found["state"], found["result"], found["attempt"]) == ("SUCCESS", 3, 1)
        assert found["name"] == "tests.celery_app.add"
        assert found["worker"].endswith("@localhost")
        assert found["started_at"] <= found["ended_at"]

        failed, _ = celery.run("fail")
        found = snapshot(channel, failed)
        assert found["state"] == "FAILURE"
        assert found["error"] == {"type": "ValueError", "message": "no such file"}

        talked, _ = celery.run("chatty", 10)
        found = snapshot(channel, talked)
        assert found["progress"]["current"] == 9
        assert found["progress"]["percent"] == 90.0
        assert [event["type"] for event in found["events"]] == ["log", "preview"]

        retried, _ = celery.run("second_time_lucky")
        found = snapshot(channel, retried)
        assert (found["state"], found["attempt"], found["result"]) == ("SUCCESS", 2, 1)

        for name in ("custom", "shared"):
            task, _ = celery.run(name)
            assert [event["message"] for event in snapshot(channel, task)["events"]] == [name]

        _check_captured(channel, celery)

        awkward, _ = celery.run("unprintable")
        assert snapshot(channel, awkward)["error"]["type"] == "Unprintable"

        measured, result = celery.run("measured", 1000)
        assert result == sum(range(1000))
        found = snapshot(channel, measured)
        assert (found["progress"]["percent"], found["progress"].get("step")) == (100.0, None)
        done = [(step["name"], step["status"]) for step in found["steps"]]
        assert done == [("load", "succeeded"), ("save", "succeeded")]

        threaded, _ = celery.run("in_a_plain_thread")
        messages = [event["message"] for event in snapshot(channel, threaded)["events"]]
        one_at_a_time = pool in ("prefork", "solo")
        assert messages == (["from a plain thread"] if one_at_a_time else []) + ["from the task"]
    channel.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_waits_for_its_next_attempt_shows_why_and_until_when(
    own_valkey: Valkey, pool: str
) -> None:
    """From the retry until the attempt begins, though the worker has received it long before."""
    channel: Any = bridge.connect(own_valkey.url("redis"))
    with worker(own_valkey.url("redis"), own_valkey.url("redis"), pool) as celery:
        task = celery.app.send_task("tests.celery_app.later", [3.0]).id

        def waits() -> dict[str, Any] | None:
            states = transport_of(channel).states(bridge.task_topic(task))
            found = events.snapshot(states[0], task) if states else {}
            return found if found.get("attempt") == 2 and "reason" in found else None

        found = eventually(waits, SECONDS)
        assert found is not None
        assert found["state"] == "RECEIVED"
        assert found["reason"] == "not yet"
        assert found["error"] == {"type": "ConnectionError", "message": "not yet"}
        assert 2.5 < found["retry_at"] - found["started_at"] < 4
        ended = snapshot(channel, task)
    assert (ended["state"], ended["result"], ended["attempt"]) == ("SUCCESS", 1, 2)
    assert not {"reason", "error", "retry_at"} & ended.keys()
    assert ended["first_started_at"] == found["started_at"]
    assert ended["ended_at"] - ended["first_started_at"] >= 2.5
    assert ended["started_at"] >= found["retry_at"] - 0.5
    channel.close()


def test_a_traceback_is_published_only_where_it_is_allowed() -> None:
    """By default a failure has type and message, with `tracebacks=True` also the traceback."""
    told = {}
    for allowed in (False, True):
        url = f"memory://{uuid.uuid4().hex}"
        app = Celery("traced", set_as_current=False)
        app.conf.task_always_eager = True
        install(app, url, tracebacks=allowed)

        @app.task(name="work 7", shared=False)
        def work() -> None:
            raise ValueError("no")

        channel = bridge.connect(url)
        told[allowed] = snapshot(channel, work.delay().id)["error"]
        channel.close()
        app.close()
    assert told[False] == {"type": "ValueError", "message": "no"}
    assert 'raise ValueError("no")' in told[True]["traceback"]


def test_eager_tasks_publish_too(eager: tuple[Celery, Any]) -> None:
    """In eager mode the same events are published, under the task's own id."""
    app, channel = eager

    @app.task(name="work 1")
    def work() -> str:
        progress(1, total=2, message="half")
        log("hello")
        return "done"

    task = work.delay()
    found = snapshot(channel, task.id)
    assert (found["state"], found["result"], found["progress"]["message"]) == ("SUCCESS", "done", "half")
    assert [event["message"] for event in found["events"]] == ["hello"]


def test_a_task_that_its_worker_stops_and_the_broker_delivers_again(eager: tuple[Celery, Any]) -> None:
    """Celery signals a retry without a reason; the task is queued if it is acknowledged late."""
    app, channel = eager

    @app.task(name="work 22", acks_late=True)
    def work() -> None:
        """It does not run."""

    request = Context(id="stopped", retries=0, hostname="w1")
    task_retry.send(sender=work, request=request, einfo=None)
    installation = installed(app)
    assert installation is not None
    installation.publisher.flush(5)
    (state,) = transport_of(channel).states(bridge.task_topic("stopped"))
    found = events.snapshot(state, "stopped")
    assert (found["state"], found["reason"]) == ("PENDING", "requeued")
    transport_of(channel).publish(events.make("state", "stopped", state="STARTED", redelivered=True))
    (state,) = transport_of(channel).states(bridge.task_topic("stopped"))
    assert events.snapshot(state, "stopped")["state"] == "STARTED"
