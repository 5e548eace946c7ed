"""Cancelling: what a running task learns of it, and what looking costs."""

import time
import uuid
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import Cancelled, cancel, check_cancelled, install
from bridge.celery.cancellation import requested
from bridge.channel.transport import transport_of
from tests import events
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
    states = transport_of(channel).states(bridge.task_topic(task))
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
    eventually(lambda: events.end_of(snapshot(channel, task.id)))
    ended = snapshot(channel, task.id)
    assert (ended["state"], ended["reason"]) == ("REVOKED", "cancelled")
    assert ended["cancel_requested"] <= ended["ended_at"]
    assert cancel(task.id, app=app) is False


@pytest.mark.parametrize("state", ["PENDING", "RECEIVED", "STARTED", "RETRY", "STALLED"])
@pytest.mark.parametrize("attempt", [1, 3])
def test_it_can_be_asked_for_in_every_state(eager: tuple[Celery, Any], state: str, attempt: int) -> None:
    """Whatever the task is at, the wish is noted once and keeps neither its next state nor its end away."""
    app, channel = eager
    transport_of(channel).publish(events.make("state", "t", attempt=attempt, state=state))
    assert cancel("t", app=app)
    assert "cancel_requested" in snapshot(channel, "t")
    again = attempt + (state == "RETRY")
    for follows in ("STARTED", "SUCCESS"):
        transport_of(channel).publish(events.make("state", "t", attempt=again, state=follows))
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


@pytest.fixture
def no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apps that other tests have installed are not there."""
    monkeypatch.setattr("bridge.celery.apps._installed", weakref.WeakKeyDictionary())


def revoked_by(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tasks that are revoked through the broker of `app`."""
    revoked: list[str] = []
    monkeypatch.setattr(app.control, "revoke", lambda task_id, **_: revoked.append(task_id))
    return revoked


def elsewhere(task_id: str) -> bool:
    """Cancel a task in a thread, in which, as in a greenlet, no app is current."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(cancel, task_id).result()


def test_the_only_installed_app_is_asked_where_none_is_current(
    no_others: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a greenlet of a web server the revoke goes through its broker, not that of Celery's default app."""
    app = Celery("only", broker="memory://")
    install(app, f"memory://{uuid.uuid4().hex}")
    revoked = revoked_by(app, monkeypatch)
    assert elsewhere("t")
    assert revoked == ["t"]
    app.close()


def test_of_several_apps_the_task_s_own_has_to_be_named(
    no_others: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where none is current the error says what to do; the current one and the one named are asked."""
    apps = [Celery(name, broker="memory://") for name in ("one", "two")]
    for app in apps:
        install(app, f"memory://{uuid.uuid4().hex}")
    one, two = (revoked_by(app, monkeypatch) for app in apps)
    with pytest.raises(bridge.ConfigurationError, match="app=app"):
        elsewhere("t")
    assert cancel("current")
    assert cancel("named", app=apps[0])
    with pytest.raises(bridge.ConfigurationError, match="'bare'"):
        cancel("t", app=Celery("bare", set_as_current=False))
    assert (one, two) == (["named"], ["current"])
    for app in apps:
        app.close()


def test_outside_a_task_and_without_the_bridge() -> None:
    """There is nothing to end outside a task; an app without the bridge cannot ask."""
    check_cancelled()
    assert issubclass(Cancelled, Exception)
    with pytest.raises(bridge.ConfigurationError, match="install"):
        cancel("t", app=Celery("bare", set_as_current=False))
