"""`install`: what it takes, and which tasks it concerns."""

import uuid
from typing import Any

import pytest
from celery import Celery, group

import bridge
from bridge.celery import canvas_id, install, log, progress, tags
from bridge.celery.apps import publisher_of
from bridge.channel.transport import transport_of
from tests.celery.workers import snapshot
from tests.servers import free_port


@pytest.mark.parametrize(("heartbeat", "stalls_after"), [(0, None), (-1, None), (5, 5), (5, 1)])
def test_heartbeats_that_cannot_be_missed_are_refused(heartbeat: float, stalls_after: float | None) -> None:
    """The limit has to leave room for at least one beat."""
    with pytest.raises(bridge.ConfigurationError, match="heartbeat"):
        install(
            Celery("x", set_as_current=False), "memory://", heartbeat=heartbeat, stalls_after=stalls_after
        )


def test_install_refuses_what_it_cannot_use() -> None:
    """A wrong URL or something that is no Celery app is refused when the app is created."""
    with pytest.raises(bridge.ConfigurationError, match="kafka"):
        install(Celery("x", set_as_current=False), "kafka://localhost")
    with pytest.raises(bridge.ConfigurationError, match="str"):
        install("app", f"redis+pubsub://127.0.0.1:{free_port()}")  # type: ignore[arg-type]  # wrong on purpose


def test_installing_twice_publishes_once(eager: tuple[Celery, Any]) -> None:
    """A second install replaces the first: each event is published once, on the second channel."""
    app, first = eager
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    second: Any = bridge.connect(url)

    @app.task(name="work 6")
    def work() -> None:
        log("hello")

    task = work.delay()
    assert len(snapshot(second, task.id)["events"]) == 1
    assert transport_of(first).states(bridge.task_topic(task.id)) == []
    second.close()


def test_tasks_of_other_apps_are_left_alone(
    eager: tuple[Celery, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A task of an app without the bridge runs as ever and publishes nothing."""
    _, channel = eager
    other = Celery("other", set_as_current=False)
    other.conf.task_always_eager = True

    @other.task(name="work 5")
    def work() -> str:
        log("hello")
        return "done"

    task = work.delay()
    assert task.get() == "done"
    assert transport_of(channel).states(bridge.task_topic(task.id)) == []


def test_a_feed_that_is_off_gets_nothing(eager: tuple[Celery, Any]) -> None:
    """With `feed=False` tasks and canvases reach their own topics and those of tags."""
    app, _ = eager
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url, feed=False)

    @app.task(name="work 7")
    def work() -> None:
        progress(1, 2)

    with bridge.connect(url) as channel:
        task = work.apply_async(headers=tags("one"))
        canvas = group(work.s(), work.s()).apply_async()
        assert snapshot(channel, task.id)["progress"]["current"] == 1
        assert snapshot(channel, canvas_id(canvas))["state"] == "SUCCESS"
        publisher = publisher_of(app)
        assert publisher is not None
        assert publisher.flush(10)
        transport = transport_of(channel)
        assert transport.states(bridge.FEED) == []
        assert len(transport.states(bridge.tag_topic("one"))) == 1
    with pytest.raises(bridge.ConfigurationError, match="feed"):
        install(app, url, feed=0)  # type: ignore[arg-type]  # wrong on purpose
