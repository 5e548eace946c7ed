"""PENDING: the process that queues a task publishes it, for its own app only."""

import uuid
import weakref
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from celery import Celery, group
from celery._state import _tls  # type: ignore[attr-defined]  # not in its types
from celery.signals import after_task_publish, before_task_publish
from kombu.exceptions import OperationalError

import bridge
from bridge.celery import install
from bridge.channel.transport import transport_of
from tests import events
from tests.servers import Valkey, eventually, free_port


def test_a_queued_task_is_pending(own_valkey: Valkey) -> None:
    """A task that no worker has taken shows as PENDING, with its name, as soon as apply_async returns."""
    channel: Any = bridge.connect(own_valkey.url("redis+pubsub"))
    app = Celery("queueing", broker=own_valkey.url("redis"))
    install(app, own_valkey.url("redis+pubsub"))
    sent = app.send_task("anything")
    (state,) = transport_of(channel).states(bridge.task_topic(sent.id))
    found = events.snapshot(state, sent.id)
    assert (found["state"], found["name"]) == ("PENDING", "anything")
    assert "queued_at" in found
    channel.close()
    app.close()


def test_what_the_broker_refuses_is_not_queued() -> None:
    """A task that could not be queued shows nowhere: PENDING is published when the broker has taken it."""
    url = f"memory://{uuid.uuid4().hex}"
    app = Celery("refused", broker=f"redis://127.0.0.1:{free_port()}", set_as_current=False)
    install(app, url)
    channel: Any = bridge.connect(url)
    with pytest.raises(OperationalError):
        app.send_task("anything", task_id="t1", retry=False)
    assert transport_of(channel).states(bridge.task_topic("t1")) == []
    channel.close()
    app.close()


def test_each_of_several_apps_publishes_on_its_own_channel() -> None:
    """Of two apps with the bridge the one that queues a task publishes it, whichever app is current."""
    channels: list[Any] = []
    apps = []
    for name in ("one", "two"):
        url = f"memory://{uuid.uuid4().hex}"
        app = Celery(name, broker="memory://", set_as_current=name == "one")
        install(app, url)

        @app.task(name=f"task of {name}", shared=False)
        def work() -> None:
            """It is only queued."""

        channels.append(bridge.connect(url))
        apps.append(app)
    sent = apps[1].send_task("task of two")
    topic = bridge.task_topic(sent.id)
    assert [len(transport_of(channel).states(topic)) for channel in channels] == [0, 1]
    for thing in (*channels, *apps):
        thing.close()


@pytest.fixture
def two_apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Celery, Celery, Any, dict[str, set[str]]]]:
    """An app with the bridge, one without, the channel, and what headers of the bridge each task gets."""
    monkeypatch.setattr("bridge.celery.apps._installed", weakref.WeakKeyDictionary())
    url = f"memory://{uuid.uuid4().hex}"
    noted: dict[str, set[str]] = {}
    bridged, bare = (
        Celery(name, broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
        for name in ("bridged", "bare")
    )
    install(bridged, url)

    def note(sender: str, headers: dict[str, Any], **_: Any) -> None:
        noted[sender] = {name for name in headers if name.startswith("bridge")}

    after_task_publish.connect(note)
    channel = bridge.connect(url)
    yield bridged, bare, channel, noted
    after_task_publish.disconnect(note)
    for thing in (channel, bridged, bare):
        thing.close()


def tasks_in_feed(channel: Any) -> set[str]:
    """The tasks that the feed knows."""
    return {events.task_of(state.topic) or "" for state in transport_of(channel).states(bridge.FEED)}


@pytest.mark.parametrize("current", ["bridged", "bare", None])
def test_tasks_of_an_app_without_the_bridge_are_no_concern_of_it(
    two_apps: tuple[Celery, Celery, Any, dict[str, set[str]]], current: str | None
) -> None:
    """Whichever app is current, its messages have no header of ours and it is not in the other's feed."""
    bridged, bare, channel, headers = two_apps
    before = _tls.current_app
    for app in (bridged, bare):
        if app.main == current:
            app.set_current()

    @bare.task(name="bare task", shared=False)
    def work() -> None:
        """It is only queued."""

    try:
        sent = [bare.send_task("bare"), work.delay(), work.apply_async(countdown=5), group([work.s()] * 2)()]
        assert len(sent) == 4
        bridged.send_task("bridged", task_id="known")
        eventually(lambda: "known" in tasks_in_feed(channel))
    finally:
        _tls.current_app = before
    assert tasks_in_feed(channel) == {"known"}
    assert headers.pop("bridged") == {"bridge_queued_at"}
    assert not any(headers.values())


def test_a_task_that_is_sent_while_another_app_sends_one(
    two_apps: tuple[Celery, Celery, Any, dict[str, set[str]]],
) -> None:
    """A handler of Celery's signals that sends a task of another app does not mix them up."""
    bridged, bare, channel, headers = two_apps

    def send_more(sender: str, **_: Any) -> None:
        if sender == "bridged":
            bare.send_task("bare", task_id="unknown")
            bridged.send_task("inner", task_id="inner")

    before_task_publish.connect(send_more)
    try:
        bridged.send_task("bridged", task_id="known")
    finally:
        before_task_publish.disconnect(send_more)
    eventually(lambda: "known" in tasks_in_feed(channel))
    assert tasks_in_feed(channel) == {"known", "inner"}
    assert headers == {"bridged": {"bridge_queued_at"}, "inner": {"bridge_queued_at"}, "bare": set()}


def test_an_installed_app_still_lets_its_send_task_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of a subclass, and a function or a mock that is put into the class later, are called."""

    class Own(Celery):
        called = 0

        def send_task(self, *args: Any, **kwargs: Any) -> Any:
            Own.called += 1
            return super().send_task(*args, **kwargs)

    app = Own("own", broker="memory://", set_as_current=False)
    install(app, f"memory://{uuid.uuid4().hex}")
    install(app, f"memory://{uuid.uuid4().hex}")
    app.send_task("anything")
    assert Own.called == 1
    monkeypatch.setattr(Own, "send_task", lambda *_, **__: "patched")
    assert app.send_task("anything") == "patched"
    with mock.patch.object(Own, "send_task") as mocked:
        app.send_task("anything", countdown=10)
    mocked.assert_called_once_with("anything", countdown=10)
    app.close()


def test_many_tasks_in_a_row_are_published_in_the_background(own_valkey: Valkey) -> None:
    """A process that queues a thousand tasks does not wait for each PENDING. All are sent soon."""
    url = own_valkey.url("redis")
    app = Celery("many", broker="memory://", set_as_current=False)
    install(app, url)
    sent = [app.send_task("anything").id for _ in range(1000)]
    channel: Any = bridge.connect(url)
    eventually(lambda: transport_of(channel).states(bridge.task_topic(sent[-1])))
    assert {state.topic for state in transport_of(channel).states(bridge.FEED)} == {
        *map(bridge.task_topic, sent)
    }
    channel.close()
    app.close()
