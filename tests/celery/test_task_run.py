"""The task that runs here: threads, tasks within tasks, attempts, steps."""

import logging
import threading
from typing import Any

import pytest
from celery import Celery

from bridge.celery import log, progress, publish, step, track
from tests.celery.workers import snapshot


def test_progress_in_a_thread_without_context_is_of_the_only_task(eager: tuple[Celery, Any]) -> None:
    """The thread's figures are shown in the step that the task is in; its own steps are within it."""
    app, channel = eager

    def elsewhere() -> None:
        progress(1, 2, "elsewhere")
        with step("inner"):
            log("hello")

    @app.task(name="work 8")
    def work() -> None:
        with step("outer"):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert list(track([1, 2])) == [1, 2]

    found = snapshot(channel, work.delay().id)
    assert [step["status"] for step in found["steps"]] == ["succeeded", "succeeded"]
    assert [step.get("path") for step in found["steps"]] == [["outer", "inner"], None]


def test_an_eager_task_within_a_task_has_its_own_progress(eager: tuple[Celery, Any]) -> None:
    """The events of the inner task are its own, and the outer task continues where it was."""
    app, channel = eager

    @app.task(name="work 10")
    def inner() -> None:
        with step("inner"):
            progress(1, total=4)

    @app.task(name="work 11")
    def outer() -> str:
        with step("outer"):
            progress(1, total=2)
            called: str = inner.delay().id
            progress(2, total=2)
        return called

    found = snapshot(channel, outer.delay().id)
    own = snapshot(channel, found["result"])
    assert [step["name"] for step in found["steps"]] == ["outer"]
    assert [step["name"] for step in own["steps"]] == ["inner"]


def test_a_second_attempt_begins_anew(eager: tuple[Celery, Any]) -> None:
    """After a retry neither the bar nor the steps of the first attempt are there."""
    app, channel = eager

    @app.task(name="work 12", bind=True, max_retries=1)
    def work(self: Any) -> None:
        if self.request.retries == 0:
            with step("first"):
                progress(9, total=10)
            raise self.retry(countdown=0)
        progress(1, total=10)

    found = snapshot(channel, work.delay().id)
    assert (found["attempt"], found["progress"]["percent"], found["steps"]) == (2, 10.0, [])
    (first,) = found["attempts"]
    assert first["attempt"] == 1
    assert first["started_at"] <= first["ended_at"] <= found["started_at"]


def test_steps_without_end_are_bounded(eager: tuple[Celery, Any]) -> None:
    """Of very many steps the snapshot has the last hundred, and those that are not over."""
    app, channel = eager

    @app.task(name="work 14")
    def work() -> None:
        with step("around"):
            for number in range(300):
                with step(f"number {number}"):
                    pass

    steps = snapshot(channel, work.delay().id)["steps"]
    assert len(steps) == 100
    assert (steps[-1]["name"], steps[-1]["status"]) == ("around", "succeeded")
    assert "started_at" in steps[-1]
    assert steps[-2]["name"] == "number 299"


def test_a_task_called_by_a_task_publishes_for_its_caller(eager: tuple[Celery, Any]) -> None:
    """A task called as a function within a task publishes under the id of the one that runs."""
    app, channel = eager

    @app.task(name="work 2")
    def inner() -> None:
        log("inner")

    @app.task(name="work 3")
    def outer() -> None:
        inner()
        log("outer")

    found = snapshot(channel, outer.delay().id)
    assert [event["message"] for event in found["events"]] == ["inner", "outer"]


def test_a_process_that_can_start_no_thread_runs_its_tasks(
    eager: tuple[Celery, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be published, for whatever reason, is logged once in a task; the task goes on."""
    app, _ = eager

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    @app.task(name="work 18")
    def work() -> str:
        for number in range(10):
            publish("number", number)
            log("hello")
            progress(number)
        with step("parse"):
            return "done"

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with caplog.at_level(logging.ERROR, "bridge.celery"):
        assert work.delay().get() == "done"
    assert len([record for record in caplog.records if record.name == "bridge.celery"]) == 1
