"""What `bridge doctor` finds, and the remedies that it names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from celery import Celery, signals
from celery.contrib.testing.worker import start_worker

import bridge
from bridge.cli.diagnosis import Finding, diagnose
from bridge.cli.target import Target
from bridge.tasks.heartbeats import WORKERS, Heartbeat
from tests.cli.tools import run, say
from tests.servers import free_port


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/bridge.db"


def problems(found: list[Finding]) -> dict[str, str]:
    return {finding.text: finding.remedy for finding in found if finding.level == "problem"}


def test_tasks_that_wait_for_a_worker_that_never_comes(url: str) -> None:
    """With install() in the web process alone tasks are queued, and no worker is heard."""
    with bridge.connect(url) as channel:
        for task in ("t1", "t2"):
            say(channel, task, ("state", {"state": "PENDING"}))
        say(channel, "t3", ("state", {"state": "STARTED"}), ("state", {"state": "STALLED"}))
    found = problems(list(diagnose(Target(url, "a test"), 0.2)))
    (silent,) = [text for text in found if "no worker was heard" in text]
    assert "in the namespace 'bridge' for 0.2 s, although 2 tasks are queued here" in silent
    assert "install() in the web process alone is not enough" in found[silent]
    assert found["STALLED tasks: 1; their worker vanished"].startswith("see why it ended")


def leave_logging_alone(**_: object) -> None:
    """Stand in for the set-up of logging, which would last for all tests that follow."""


@pytest.fixture
def bare() -> Iterator[Celery]:
    """An app without the bridge, with a worker in this process."""
    signals.setup_logging.connect(leave_logging_alone)
    with (
        Celery("bare", broker="memory://", backend="cache+memory://", set_as_current=False) as app,
        start_worker(app, perform_ping_check=False, shutdown_timeout=30, hostname="w1@here"),
    ):
        yield app
    signals.setup_logging.disconnect(leave_logging_alone)


def test_a_worker_that_answers_celery_but_not_the_bridge(url: str, bare: Celery) -> None:
    """It is named, and that its app does not call install(), or with another URL or namespace."""
    found = problems(list(diagnose(Target(url, "a test", app=bare), 0.2)))
    remedy = found["the worker w1@here answers on Celery's broker, but publishes nothing here"]
    assert "its app does not call install(), or with another URL or namespace" in remedy


def test_a_worker_in_another_namespace_is_found(url: str) -> None:
    """The namespace in which a worker publishes is named, with the option to use it."""
    with bridge.connect(url, namespace="shop") as channel:
        channel.topic(WORKERS).publish(Heartbeat("p", "w@host", 1).encode())
    (note,) = [finding for finding in diagnose(Target(url, "a test"), 0.2) if finding.level == "note"]
    assert "in other namespaces: 'shop'" in note.text
    assert "--namespace shop" in note.remedy


def test_a_server_that_does_not_answer(url: str) -> None:
    """The finding has the reason, and nothing else is looked at."""
    away = Target(f"redis://127.0.0.1:{free_port()}", "a test")
    (finding,) = diagnose(away, 0.2)
    assert finding.level == "problem"
    assert "cannot be reached" in finding.text
    assert "correct the URL" in finding.remedy


def test_an_empty_list_of_tasks_says_what_to_run(url: str) -> None:
    """Nothing to list is no silence."""
    assert "run: bridge doctor" in run("tasks", url).stderr
