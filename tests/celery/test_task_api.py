"""What a task calls: `progress`, `track`, `step`, `log` and `publish`."""

import itertools
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery

from bridge.celery import log, progress, publish, step, track
from tests.celery.workers import snapshot
from tests.tasks.test_encoding import AWKWARD


def untimed(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Check that each step that ended began before; return the steps without these times."""
    assert all(step["started_at"] <= step["ended_at"] for step in steps)
    times = ("started_at", "ended_at")
    return [{name: value for name, value in step.items() if name not in times} for step in steps]


@pytest.mark.parametrize("call", ["apply", "delay"])
def test_progress_of_an_eager_task(eager: tuple[Celery, Any], call: str) -> None:
    """The last figures are there with the end, also of a task that fails within a step and a loop."""
    app, channel = eager

    @app.task(name=f"work 9 {call}")
    def work() -> None:
        with step("load"):
            for number in track(iter(range(10)), total=10, message="loading"):
                if number == 7:
                    raise ValueError("no eighth")

    found = snapshot(channel, getattr(work, call)().id)
    assert found["state"] == "FAILURE"
    assert (found["progress"]["current"], found["progress"]["total"]) == (7, 10)
    assert found["progress"]["message"] == "loading"
    assert untimed(found["steps"]) == [{"name": "load", "status": "failed"}]


def test_a_step_may_decorate_a_function(eager: tuple[Celery, Any]) -> None:
    """Each call of the function is the step, with its arguments and its result as they were."""
    app, channel = eager

    @step("double")
    def double(number: int, *, plus: int) -> int:
        return 2 * number + plus

    assert double(1, plus=1) == 3

    @app.task(name="work 13")
    def work() -> int:
        return double(20, plus=2)

    found = snapshot(channel, work.delay().id)
    assert (found["result"], untimed(found["steps"])) == (42, [{"name": "double", "status": "succeeded"}])


class Lengthless:
    """An iterable whose length raises an exception."""

    def __len__(self) -> int:
        raise RuntimeError("ask the database")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


@pytest.mark.parametrize("items", [Lengthless(), range(10**30), (n for n in range(3)), {"a": 1}, "abc"])
def test_anything_can_be_tracked(eager: tuple[Celery, Any], items: Any) -> None:
    """A length that cannot be had is an unknown total; the items come as they are."""
    app, channel = eager

    @app.task(name=f"work 15 {type(items).__name__}")
    def work() -> int:
        return len(list(itertools.islice(track(items), 3)))

    expected = len(list(itertools.islice(items, 3))) if not isinstance(items, Iterator) else 3
    assert snapshot(channel, work.delay().id)["result"] == expected


@pytest.mark.parametrize("name", AWKWARD)
def test_no_value_makes_a_helper_fail_its_task(eager: tuple[Celery, Any], name: str) -> None:
    """Whatever a task publishes or logs, it goes on, and viewers get an event for it."""
    app, channel = eager
    value = AWKWARD[name]

    @app.task(name=f"work 16 {name}")
    def work() -> None:
        publish("value", value)
        publish("values", {"in": [value], "plain": 1})
        log(value)
        progress(1, total=2, message=value)
        next(iter(track([1], message=value)))

    found = snapshot(channel, work.delay().id)
    assert found["state"] == "SUCCESS"
    assert [event["type"] for event in found["events"]] == ["value", "values", "log"]
    assert found["events"][1]["data"]["plain"] == 1
    assert isinstance(found["progress"]["message"], str)


def test_lone_surrogates_are_replaced(eager: tuple[Celery, Any]) -> None:
    """Such as a file name has that is no UTF-8: in the name of a step, a message, a type, a key."""
    app, channel = eager

    @app.task(name="work 17 \udcff")
    def work() -> None:
        with step("caf\udce9.csv"):
            log("\ud800")
            publish("type\ud800", {"\ud800": "\udfff"})

    found = snapshot(channel, work.apply(task_id="id \udcff").id)
    assert found["name"] == "work 17 \ufffd"
    assert untimed(found["steps"]) == [{"name": "caf\ufffd.csv", "status": "succeeded"}]
    assert [(event["type"], event.get("message", event.get("data"))) for event in found["events"][1:3]] == [
        ("log", "\ufffd"),
        ("type\ufffd", {"\ufffd": "\ufffd"}),
    ]


def test_outside_a_task_the_helpers_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Called outside any task, they log at debug level that there is nothing to publish."""
    with caplog.at_level(logging.DEBUG, "bridge.celery"):
        progress(1)
        log("hello")
        publish("preview", {})
        assert list(track([1, 2])) == [1, 2]
        with step("parse"):
            pass
    assert len(caplog.records) == 5
