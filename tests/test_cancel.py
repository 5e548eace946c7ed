"""Cancelling: what a running task learns of it, and what looking costs."""

import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge import events
from bridge.celery import Cancelled, cancel, check_cancelled, install
from bridge.celery.cancel import requested
from tests.servers import Valkey, eventually


@pytest.fixture
def eager() -> Iterator[tuple[Celery, Any]]:
    """An app that runs its tasks in this process, and the channel they publish on."""
    app = Celery("eager", set_as_current=False, broker="memory://")
    app.conf.task_always_eager = True
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    channel = bridge.connect(url)
    yield app, channel
    channel.close()
    app.close()


def snapshot(channel: Any, task: str) -> dict[str, Any]:
    states = channel.states(bridge.task_topic(task))
    return events.snapshot(states[0] if states else None, task)


def test_a_task_ends_where_it_looks(eager: tuple[Celery, Any]) -> None:
    """Asked to end while it runs, it ends as REVOKED at its next look, and cannot be cancelled again."""
    app, channel = eager

    @app.task(name="cancel 1", bind=True)
    def work(self: Any) -> None:
        check_cancelled()
        assert cancel(self.request.id, app=app)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            check_cancelled()

    task = work.delay()
    whole = eventually(lambda: (found := snapshot(channel, task.id)) and events.end_of(found) and found)
    assert (whole["state"], whole["reason"]) == ("REVOKED", "cancelled")
    assert whole["cancel_requested"] <= whole["ended_at"]
    assert cancel(task.id, app=app) is False


@pytest.mark.parametrize("state", ["PENDING", "RECEIVED", "STARTED", "RETRY", "STALLED"])
@pytest.mark.parametrize("attempt", [1, 3])
def test_it_can_be_asked_for_in_every_state(eager: tuple[Celery, Any], state: str, attempt: int) -> None:
    """Whatever the task is at, the wish is noted once and keeps neither its next state nor its end away."""
    app, channel = eager
    channel.publish(bridge.task_topic("t"), *events.make("state", "t", attempt=attempt, state=state))
    assert cancel("t", app=app)
    assert "cancel_requested" in snapshot(channel, "t")
    again = attempt + (state == "RETRY")
    for follows in ("STARTED", "SUCCESS"):
        channel.publish(bridge.task_topic("t"), *events.make("state", "t", attempt=again, state=follows))
        assert snapshot(channel, "t")["state"] == follows


def test_a_look_costs_next_to_nothing(eager: tuple[Celery, Any]) -> None:
    """Between two looks at the bridge an answer takes a few microseconds at the very most."""
    requested("t")
    began = time.perf_counter()
    for _ in range(10_000):
        requested("t")
    assert (time.perf_counter() - began) / 10_000 < 5e-6


def test_with_the_bridge_down_nobody_has_asked() -> None:
    """A task that looks while the bridge is away goes on, and hardly waits."""
    server = Valkey().start()
    app = Celery("down", set_as_current=False)
    app.conf.task_always_eager = True
    install(app, server.url("redis"), timeout=0.5)

    @app.task(name="cancel 2")
    def work() -> float:
        server.kill()
        began = time.monotonic()
        for _ in range(1000):
            check_cancelled()
        return time.monotonic() - began

    assert work.delay().get() < 2
    server.stop()
    app.close()


def test_outside_a_task_and_without_the_bridge() -> None:
    """There is nothing to end outside a task; an app without the bridge cannot ask."""
    check_cancelled()
    assert issubclass(Cancelled, Exception)
    with pytest.raises(bridge.ConfigurationError, match="install"):
        cancel("t", app=Celery("bare", set_as_current=False))
