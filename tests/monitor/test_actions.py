"""With a real worker the buttons of the monitor work, and the worker says what it runs."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from celery import Celery, group
from flask import Flask
from flask.testing import FlaskClient

from bridge.celery import canvas_id, install
from bridge.flask import Bridge
from tests.celery.workers import SECONDS, worker
from tests.servers import Valkey, eventually

PARTS = 8
"""More than a worker with one process takes from its queue at once."""


class Stage(NamedTuple):
    """A worker, who queues its tasks, and a viewer of the monitor who may cancel."""

    app: Celery
    viewer: FlaskClient

    def send(self, name: str, *args: object) -> str:
        """Queue a task; return its id."""
        return str(self.app.send_task(f"tests.celery_app.{name}", args).id)

    def task(self, task_id: str) -> dict[str, Any]:
        """Return what the monitor knows of a task."""
        return dict(self.viewer.get(f"/monitor/api/tasks/{task_id}").get_json())

    def await_state(self, task_id: str, state: str) -> dict[str, Any]:
        """Wait until a task is in a state; return what is known of it then."""
        eventually(
            lambda: self.task(task_id).get("state") == state,
            SECONDS,
            f"the task is not {state}",
        )
        return self.task(task_id)


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Valkey() as server:
        url = server.url("redis")
        with worker(url, url) as celery:
            install(celery.app, url, arguments=True)
            app = Flask(__name__)
            app.config.update(BRIDGE_URL=url, BRIDGE_PUBLIC=True)
            streams = Bridge(app)
            streams.authorize_cancel(lambda task_id: True)
            streams.monitor(app, "/monitor", celery=celery.app, run_again=True)
            with app.test_client() as viewer:
                yield Stage(celery.app, viewer)
            with app.app_context():
                streams.channel.close()


def test_a_task_is_run_again_with_its_arguments(stage: Stage) -> None:
    """The copy has a new id and the same arguments, and gives the same result."""
    first = stage.send("add", 2, 3)
    assert stage.await_state(first, "SUCCESS")["args"] == [2, 3]
    answer = stage.viewer.post(f"/monitor/api/tasks/{first}/run-again")
    assert answer.status_code == 202
    copy = answer.get_json()["id"]
    assert copy != first
    assert stage.await_state(copy, "SUCCESS")["result"] == 5


def test_past_attempts_and_times_are_known(stage: Stage) -> None:
    """A retried task has its first attempt with times and reason, and when it was received."""
    # A worker publishes that it has received a task in the background: one that ends at once may be ahead.
    found = stage.await_state(stage.send("later", 2), "SUCCESS")
    (first,) = found["attempts"]
    assert first["attempt"] == 1
    assert first["started_at"] <= first["ended_at"] <= found["started_at"]
    assert first["error"]["type"] == "ConnectionError"
    assert found["queued_at"] <= found["received_at"] <= found["ended_at"]


def test_a_running_task_and_all_of_a_group_are_cancelled(stage: Stage) -> None:
    """One request ends the part that runs, those that the worker has, and those that wait at the broker."""
    single = stage.send("until_cancelled")
    stage.await_state(single, "STARTED")
    assert stage.viewer.delete(f"/monitor/api/tasks/{single}").status_code == 202
    stage.await_state(single, "REVOKED")
    assert stage.viewer.delete(f"/monitor/api/tasks/{single}").status_code == 409
    part = stage.app.signature("tests.celery_app.until_cancelled")
    whole = canvas_id(group([part] * PARTS, app=stage.app).apply_async())
    assert whole is not None
    stage.await_state(whole, "STARTED")
    assert stage.viewer.delete(f"/monitor/api/tasks/{whole}").status_code == 202
    ended = stage.await_state(whole, "REVOKED")
    assert ended["parts"]["revoked"] == PARTS
    assert ended["cancel_requested"]


def test_the_worker_says_what_it_runs_and_what_has_ended(stage: Stage) -> None:
    """It is alive, names the task that runs, and counts successes and failures, but no retry."""

    def listed() -> dict[str, Any]:
        (found,) = stage.viewer.get("/monitor/api/workers").get_json()["workers"]
        return dict(found)

    # A heartbeat may be seconds old. One that names this task has counted all tasks before it.
    running = stage.send("until_cancelled")
    eventually(lambda: [task["task"] for task in listed()["running"]] == [running], SECONDS)
    before = listed()
    stage.viewer.delete(f"/monitor/api/tasks/{running}")
    stage.await_state(running, "REVOKED")
    stage.await_state(stage.send("add", 1, 1), "SUCCESS")
    stage.await_state(stage.send("second_time_lucky"), "SUCCESS")
    stage.await_state(stage.send("fail"), "FAILURE")
    running = stage.send("until_cancelled")
    eventually(lambda: [task["task"] for task in listed()["running"]] == [running], SECONDS)
    found = listed()
    assert found["alive"] is True
    assert found["running"][0]["name"] == "tests.celery_app.until_cancelled"
    assert found["since"] < found["running"][0]["started_at"] <= found["last_seen"]
    assert (found["succeeded"] - before["succeeded"], found["failed"] - before["failed"]) == (2, 1)
    stage.viewer.delete(f"/monitor/api/tasks/{running}")
    stage.await_state(running, "REVOKED")
