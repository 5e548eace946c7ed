"""The examples of docs/guide.md work as they stand. tests/conformance runs the nginx block."""

import json
import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy
from celery import Celery, chord, signals
from celery.contrib.testing.worker import start_worker
from sqlspec.adapters.psycopg import PsycopgSyncConfig
from sqlspec.extensions.events import SyncEventChannel
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as connect_websocket

import bridge
import bridge.sqlspec
from bridge.celery import install
from bridge.celery.apps import installed
from bridge.channel.transport import transport_of
from tests import events as task_events
from tests import readme
from tests.markdown import block
from tests.processes import running
from tests.servers import Postgres, Valkey, eventually, free_port

SECONDS = 30


@pytest.fixture
def url() -> str:
    return f"memory://{uuid.uuid4().hex}"


@pytest.fixture
def app(url: str) -> Iterator[Celery]:
    """An app whose worker, in this process, is to be started by the test."""
    with Celery(broker="memory://", backend="cache+memory://", set_as_current=False) as app:
        install(app, url)
        # Otherwise Celery sets the level of the root logger, for all tests that follow.
        signals.setup_logging.connect(leave_logging_alone)
        yield app
        signals.setup_logging.disconnect(leave_logging_alone)


def leave_logging_alone(**_: object) -> None:
    """Stand in for the set-up of logging."""


def run(example: str, **names: Any) -> dict[str, Any]:
    """Execute an example with these names defined; return all names after it."""
    exec(compile(example, "guide.md", "exec"), names)
    return names


def test_existing_tasks_are_captured() -> None:
    """The example takes the URL of the broker, and asks for all that can be captured."""
    names = run(block("docs/guide.md", "from celery import Celery\n\nfrom bridge.celery import install\n"))
    found = installed(names["app"])
    assert found is not None
    assert (found.capture, found.log_level, found.chosen.url) == (True, 20, "redis://localhost:6379/0")


def events(channel: bridge.BroadcastChannel, task_id: str, kind: str) -> list[dict[str, Any]]:
    """Return the events of one type that a task has published so far."""
    messages = channel.topic(bridge.task_topic(task_id)).as_subscriber().history()
    return [event for event in map(json.loads, messages) if event["type"] == kind]


def test_the_progress_example_reports_its_steps(app: Celery, url: str) -> None:
    """A worker runs the task; its steps succeed, and its bar ends at 100 percent."""
    example = block("docs/guide.md", "from bridge.celery import progress, step, track\n")
    ingest = run(example, app=app, read=lambda path: [path] * 3)["ingest"]
    with (
        bridge.connect(url) as channel,
        start_worker(app, perform_ping_check=False, shutdown_timeout=SECONDS),
    ):
        task = ingest.delay(["a", "b"])
        task.get(timeout=SECONDS)
        eventually(lambda: events(channel, task.id, "state")[-1]["state"] == "SUCCESS", SECONDS)
        steps = [(event["name"], event["status"]) for event in events(channel, task.id, "step")]
        last = events(channel, task.id, "progress")[-1]
    assert steps == [(name, status) for name in ("parse", "index") for status in ("started", "succeeded")]
    assert (last["percent"], last["message"]) == (100, "the index is ready")


def test_the_examples_of_tags(app: Celery, url: str) -> None:
    """The first names the feed of a user. The function of the second tags a task by an argument."""

    @app.task
    def convert(path: str, user_id: int = 0) -> str:
        return path

    with bridge.connect(url) as channel:

        def listed(topic: str) -> int:
            return len(transport_of(channel).states(topic))

        topic = run(
            block("docs/guide.md", "from bridge.celery import tags\n"), bridge=bridge, convert=convert
        )["topic"]
        assert [listed(topic), listed(bridge.tag_topic("tenant:7"))] == [1, 1]
        run(block("docs/guide.md", "def tags_of_task("), install=install, app=app, url=url)
        convert.delay("report.csv", user_id=42)
        convert.delay("report.csv")
        assert listed(topic) == 2


def test_the_canvas_example_has_one_end(app: Celery, url: str) -> None:
    """The id that the example computes names a topic with one progress over all parts of the chord."""

    @app.task
    def resize(path: str) -> str:
        return path

    @app.task
    def publish(paths: list[str]) -> int:
        return len(paths)

    example = block("docs/guide.md", "from bridge.celery import canvas_id\n")
    with (
        bridge.connect(url) as channel,
        start_worker(app, perform_ping_check=False, shutdown_timeout=SECONDS),
    ):
        names = run(
            example, bridge=bridge, chord=chord, resize=resize, publish=publish, paths=["a", "b", "c"]
        )
        assert names["result"].get(timeout=SECONDS) == 3
        canvas = names["topic"].removeprefix("task:")
        assert canvas == names["canvas_id"](names["result"])
        eventually(lambda: events(channel, canvas, "progress")[-1]["current"] == 4, SECONDS)
        last = events(channel, canvas, "progress")[-1]
    assert (last["total"], last["percent"], last["parts"]["succeeded"]) == (4, 100, 4)


def test_the_transaction_example_publishes_both_or_neither(tmp_path: Path) -> None:
    """The row and the message exist after the commit; a transaction that fails leaves neither."""
    url = f"sqlite:///{tmp_path}/bridge.db"
    example = block("docs/guide.md", "with engine.begin() as connection:\n")
    engine = sqlalchemy.create_engine(url)
    orders = sqlalchemy.Table(
        "orders", sqlalchemy.MetaData(), sqlalchemy.Column("number", sqlalchemy.Integer)
    )
    orders.create(engine)
    failing = example + "    raise ZeroDivisionError\n"
    with bridge.connect(url) as channel:
        topic = channel.topic("orders")
        topic.as_subscriber().history()  # creates the tables before the transaction
        names = {"engine": engine, "insert": sqlalchemy.insert, "orders": orders, "topic": topic}
        run(example, order={"number": 1}, **names)
        with pytest.raises(ZeroDivisionError):
            run(failing, order={"number": 2}, **names)
        assert topic.as_subscriber().history() == [b"ordered"]
    with engine.begin() as connection:
        assert connection.execute(sqlalchemy.select(orders)).all() == [(1,)]
    engine.dispose()


def test_the_sqlspec_example_makes_a_channel(postgres: Postgres) -> None:
    """The channel of the example carries messages through the event channel."""
    config = PsycopgSyncConfig(
        connection_config={"conninfo": postgres.url(), "min_size": 1, "max_size": 4},
        extension_config={"events": {"backend": "notify"}},
    )
    event_channel = SyncEventChannel(config)
    example = block("docs/guide.md", "channel = bridge.sqlspec.connect(event_channel)\n")
    names = run(example, bridge=bridge, event_channel=event_channel)
    with names["channel"] as channel, channel.topic("orders").subscribe() as subscription:
        channel.topic("orders").publish(b"one")
        assert subscription.receive(timeout=SECONDS) == b"one"
    event_channel.shutdown()
    config.close_pool()


def test_the_gunicorn_command_serves_the_quick_start(own_valkey: Valkey, tmp_path: Path) -> None:
    """The command serves the application of the README; a job of it streams to its end."""
    readme.write_files(tmp_path, own_valkey.port, pause=0.01)
    port = free_port()
    command = block("docs/guide.md", "gunicorn --worker-class gevent").replace("8000", str(port))
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    env = {"PATH": path}
    with (
        running(["sh", "-c", "celery -A tasks worker -c 1"], cwd=tmp_path, env=env),
        running(["sh", "-c", command], cwd=tmp_path, env=env),
    ):
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: readme.answers(address), SECONDS, "gunicorn did not start")
        task = httpx.post(f"{address}/jobs", trust_env=False).json()["id"]
        assert readme.events_of(address, task)[-1] == "end"


def test_the_websocket_example_sends_a_task(own_valkey: Valkey, tmp_path: Path) -> None:
    """A task comes from its snapshot to its end; a viewer who leaves leaves nothing, another is refused."""
    example = block(
        "docs/guide.md", "import asyncio\n\nimport bridge\nfrom bridge.aio import to_json, watch\n"
    )
    # The test asks the application how many readers it has.
    stats = """
from bridge.channel.transport import transport_of
app.get("/stats")(lambda: transport_of(channel).hub.stats())
"""
    text = example.replace("localhost:6379", f"localhost:{own_valkey.port}") + stats
    (tmp_path / "sockets.py").write_text(text)
    port = free_port()
    ann = {"Cookie": "session=ann"}
    with (
        bridge.connect(own_valkey.url("redis")) as channel,
        running(
            [sys.executable, "-m", "uvicorn", "sockets:app", "--port", str(port)], cwd=tmp_path, env={}
        ) as log,
    ):
        address = f"127.0.0.1:{port}"

        def readers() -> int:
            found: int = httpx.get(f"http://{address}/stats", trust_env=False, verify=False).json()[
                "subscriptions"
            ]
            return found

        eventually(lambda: readme.answers(f"http://{address}/docs"), SECONDS, "uvicorn did not start")
        with pytest.raises(InvalidStatus, match="403"):
            connect_websocket(f"ws://{address}/jobs/t1", proxy=None)
        with connect_websocket(f"ws://{address}/jobs/t1", additional_headers=ann, proxy=None) as leaving:
            assert json.loads(leaving.recv(SECONDS))["type"] == "snapshot"
        eventually(lambda: readers() == 0, SECONDS)
        with connect_websocket(f"ws://{address}/jobs/t1", additional_headers=ann, proxy=None) as socket:
            assert json.loads(socket.recv(SECONDS))["state"] == "PENDING"
            for state in ("STARTED", "SUCCESS"):
                transport_of(channel).publish(task_events.make("state", "t1", state=state))
            assert [json.loads(text)["type"] for text in socket] == ["state", "state", "end"]
        eventually(lambda: readers() == 0, SECONDS)
        assert "Traceback" not in log.read_text()


ASGI = {
    "jobs": block("docs/guide.md", "from fastapi import FastAPI, Request\n"),
    "litestar_jobs": block("docs/guide.md", "# litestar_jobs.py\n"),
    "quart_jobs": block("docs/guide.md", "# quart_jobs.py\n"),
}
"""The applications of ASGI frameworks, by the name of their module."""


@pytest.mark.parametrize("module", ASGI)
def test_the_asgi_examples_stream(module: str, own_valkey: Valkey, tmp_path: Path) -> None:
    """uvicorn serves the application; a task streams to its end for a user who may read it, and only once."""
    example = ASGI[module].replace("localhost:6379", f"localhost:{own_valkey.port}")
    (tmp_path / f"{module}.py").write_text(example)
    port = free_port()
    command = block("docs/guide.md", "uvicorn jobs:app").replace("8000", str(port))
    command = command.replace("jobs:app", f"{module}:app")
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with (
        bridge.connect(own_valkey.url("redis")) as channel,
        running(["sh", "-c", command], cwd=tmp_path, env={"PATH": path}) as log,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        eventually(lambda: "running on" in log.read_text(), SECONDS, "uvicorn did not start")
        for state in ("STARTED", "SUCCESS"):
            transport_of(channel).publish(task_events.make("state", "t1", state=state))
        assert client.get("/jobs/t1/events").status_code == 403
        client.cookies.set("session", "ann")
        answer = client.get("/jobs/t1/events")
        assert answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert answer.text.count("event: end\n") == 1
        assert client.get("/jobs/t1/events", headers={"Last-Event-ID": "end"}).status_code == 204
        assert client.get(f"/jobs/{'x' * 300}/events").status_code == 404
        if module == "jobs":
            assert client.get("/jobs/t1").json()["state"] == "SUCCESS"
            assert httpx.get(f"{client.base_url}/jobs/t1", trust_env=False, verify=False).status_code == 403
        assert "cannot be taken over" not in log.read_text()
