"""What tasks report to their canvas: failures, revokes, lost processes, progress."""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from celery import Celery, chain, chord, group

import bridge
from bridge.celery import canvas_id, install
from tests import events
from tests.celery.canvas.shapes import some
from tests.celery.canvas.watching import Watched, snapshot, worker
from tests.servers import Valkey

# A canvas, and what becomes of its parts.
FAILURES: dict[str, tuple[Callable[[Any], Any], dict[str, int]]] = {
    "a part of a group": (
        lambda t: group(t.add.s(1, 1), t.fail.s(), t.add.s(2, 2)),
        {"succeeded": 2, "failed": 1},
    ),
    "the third of five": (
        lambda t: chain(t.add.s(1, 1), t.add.s(1), t.fail.s(), t.add.s(3), t.add.s(4)),
        {"succeeded": 2, "failed": 3},
    ),
    "the header of a chord": (
        lambda t: chord([t.add.s(1, 1), t.fail.s(), t.fail.s()], t.total.s() | t.add.s(1)),
        {"succeeded": 1, "failed": 4},
    ),
    "the body of a chord": (lambda t: chord(some(t), t.fail.s()), {"succeeded": 3, "failed": 1}),
    "deep within": (
        lambda t: chain(
            t.add.s(1, 1),
            group(t.fail.s(), t.add.s(1)),
            t.total.s(),
            group(t.add.s(1), t.add.s(2)),
            t.total.s(),
        ),
        {"succeeded": 2, "failed": 5},
    ),
    "what replaces a part": (
        lambda t: group(t.swap_for_failure.s(), t.add.s(1, 1)),
        {"succeeded": 1, "failed": 1},
    ),
    "a part that is killed": (lambda t: group(t.killed.s(), t.add.s(1, 1)), {"succeeded": 1, "failed": 1}),
    "a link that is killed": (
        lambda t: chain(t.add.s(1, 1), t.killed.s(), t.add.s(1)),
        {"succeeded": 1, "failed": 2},
    ),
    "a link that no worker knows": (
        lambda t: chain(t.add.s(1, 1), unknown(t), t.add.s(1), group(t.add.s(2), t.add.s(3)), t.total.s()),
        {"succeeded": 1, "failed": 5},
    ),
    "a first link that no worker knows": (
        lambda t: chain(unknown(t), t.add.s(1), t.add.s(2)),
        {"failed": 3},
    ),
    "a task of a header that no worker knows": (
        lambda t: chord([t.add.s(1, 1), unknown(t), chain(unknown(t), t.add.s(1))], t.total.s() | t.add.s(1)),
        {"succeeded": 1, "failed": 5},
    ),
    "a body that no worker knows": (
        lambda t: chord([t.add.s(1, 1), t.add.s(2, 2)], unknown(t) | t.add.s(1)),
        {"succeeded": 2, "failed": 2},
    ),
}


def unknown(tasks: Any) -> Any:
    return tasks.app.signature("nobody.knows")


@pytest.mark.parametrize("place", FAILURES)
def test_wherever_it_fails_the_canvas_ends(tasks: Any, address: str, channel: Any, place: str) -> None:
    """What fails, and what then never runs, is counted, and the canvas has one end, FAILURE."""
    build, expected = FAILURES[place]
    result = build(tasks).apply_async()
    watched = Watched(address, canvas_id(result))
    watched.check()
    assert watched.state == "FAILURE"
    parts = Counter(snapshot(channel, canvas_id(result))["parts"])
    assert +parts == Counter(expected)


@contextmanager
def slow_worker(server: Valkey, children: int) -> Iterator[Celery]:
    """A worker whose events take 0.2 s to be sent, and an app that queues tasks for it."""
    broker = server.url("redis")[:-1] + "2"
    env = {
        "APP_BROKER": broker,
        "APP_RESULTS": broker,
        "APP_BRIDGE": server.url("redis"),
        "APP_SLOWLY": "1",
    }
    with Celery(broker=broker, backend=broker, set_as_current=False) as app, worker(children=children, **env):
        install(app, server.url("redis"))
        yield app


def test_a_killed_child_takes_no_end_of_an_earlier_task_along(
    server: Valkey, address: str, channel: Any
) -> None:
    """However long an end takes to be sent, it is out before the next task may kill its process."""
    with slow_worker(server, 1) as app:
        add, killed = (app.signature(f"tests.canvas_app.{name}") for name in ("add", "killed"))
        watched = Watched(
            address, canvas_id(chain(add.clone((1, 1)), killed, add.clone((1,)), app=app).apply_async())
        )
        watched.check()
        parts = Counter(snapshot(channel, watched.events[-1]["task"])["parts"])
        assert +parts == Counter({"succeeded": 1, "failed": 2})


def test_a_retry_overtakes_nothing_of_the_attempt_before(server: Valkey, address: str, channel: Any) -> None:
    """However long they take to be sent, the events of an attempt come before those of its retry."""
    with slow_worker(server, 2) as app:
        result = app.send_task("tests.canvas_app.second_time_lucky")
        assert Watched(address, result.id).state == "SUCCESS"
        entries = snapshot(channel, result.id)["events"]
        assert [entry["message"] for entry in entries] == ["retries: 0", "retries: 1"]


def test_a_part_that_a_killed_worker_left_is_run_again(tasks: Any, address: str, tmp_path: Path) -> None:
    """A part whose process is killed and that the broker delivers again counts once, and all goes well."""
    result = group(tasks.killed_once.s(str(tmp_path / "marker")), tasks.add.s(1, 1)).apply_async()
    watched = Watched(address, canvas_id(result))
    watched.check()
    assert watched.state == "SUCCESS"
    assert watched.percents[-1] == 100


def test_a_revoked_part_ends_the_canvas_as_revoked(tasks: Any, address: str, channel: Any) -> None:
    """A part that is revoked before it runs counts as such, and so does what was to follow it."""
    revoked = uuid.uuid4().hex
    assert tasks.app.control.revoke(revoked, reply=True)
    result = group(
        tasks.add.s(1, 1), chain(tasks.add.s(1, 1).set(task_id=revoked), tasks.add.s(1))
    ).apply_async()
    watched = Watched(address, canvas_id(result))
    watched.check()
    assert watched.state == "REVOKED"
    assert snapshot(channel, canvas_id(result))["parts"]["revoked"] == 2


# How a task may end before it starts: what is set on it.
UNSTARTED: dict[str, dict[str, Any]] = {
    "expired": {"expires": -1},
    "refused by the worker": {"headers": {"eta": "never"}},
}


@pytest.mark.parametrize("reason", UNSTARTED)
def test_what_was_to_follow_a_task_that_does_not_start_ends_too(
    tasks: Any, address: str, channel: Any, reason: str
) -> None:
    """A link that expires, or of which the worker cannot read the message, takes along the rest."""
    never = UNSTARTED[reason]
    for canvas, count in (
        (chain(tasks.add.s(1, 1), tasks.add.s(1).set(**never), tasks.add.s(1), tasks.add.s(2)), 3),
        (chord([tasks.add.s(1, 1), tasks.add.s(2, 2).set(**never)], tasks.total.s() | tasks.add.s(1)), 3),
    ):
        watched = Watched(address, canvas_id(canvas.apply_async()))
        watched.check()
        assert watched.state == "REVOKED"
        parts = snapshot(channel, watched.events[-1]["task"])["parts"]
        assert (parts["succeeded"], parts["revoked"]) == (1, count)


def test_progress_of_a_part_moves_the_canvas(tasks: Any, address: str, channel: Any) -> None:
    """The progress of a task counts. A task that begins again does not move the canvas back."""
    result = group(tasks.second_time_lucky.s()).apply_async()
    Watched(address, canvas_id(result)).check()
    history = map(events.decode, channel.topic(bridge.task_topic(canvas_id(result))).history(limit=100))
    assert [event["percent"] for event in history if event and "percent" in event] == [0, 90, 100]


def test_a_task_that_never_runs_has_an_end(tasks: Any, address: str) -> None:
    """The last task of a chain that failed, and the body of a chord whose header failed, have an end."""
    for canvas in (
        chain(tasks.fail.s(), tasks.add.s(1), tasks.add.s(2)),
        chord([tasks.fail.s()], tasks.total.s()),
    ):
        watched = Watched(address, canvas.apply_async().id)
        assert watched.state == "FAILURE"
        told = next(event for event in watched.events if "error" in event)
        assert told["error"]["type"] == "NotRun"
