"""Reports: child processes tell the main process of their worker what their tasks do."""

import os
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from bridge.celery.queueing import QUEUED_AT
from bridge.prometheus.reports import Reports
from bridge.prometheus.tasks import Report
from tests.servers import eventually

NAME = {"name": "double"}


def test_a_child_reports_to_the_main_process() -> None:
    """Start and end of a task in a forked child arrive in order, with how long it waited and ran."""
    found: list[Report] = []
    reports = Reports(found.append)
    child = os.fork()
    if not child:
        reports.on_state("STARTED", "1", 0, {QUEUED_AT: time.time() - 1000}, NAME)
        reports.on_state("PENDING", "1", 0, {}, NAME)
        reports.on_state("SUCCESS", "1", 0, {}, NAME)
        reports.flush()
        os._exit(0)
    os.waitpid(child, 0)
    eventually(lambda: len(found) == 3)
    started, ended, last = found
    assert (started.pid, started.name, started.state) == (child, "double", "STARTED")
    assert started.seconds == pytest.approx(1000, abs=500)
    assert (ended.state, last.name) == ("SUCCESS", None)
    assert ended.seconds is not None
    assert 0 <= ended.seconds < 500


def test_the_main_process_reports_to_itself() -> None:
    """In the solo and threads pools nothing goes through the socket."""
    found: list[Report] = []
    reports = Reports(found.append)
    reports.on_state("FAILURE", "never started here", 0, {}, NAME)
    assert [(report.pid, report.state, report.seconds) for report in found] == [
        (os.getpid(), "FAILURE", None)
    ]


def test_only_a_first_attempt_waits_in_the_queue() -> None:
    """A planned wait does not count, nor that of a retry, of a redelivery, or of a task without a time."""
    found: list[Report] = []
    reports = Reports(found.append)
    queued = {QUEUED_AT: time.time() - 6000}
    eta = (datetime.now(UTC) - timedelta(seconds=2000)).isoformat()
    reports.on_state("STARTED", "1", 0, queued | {"eta": eta}, NAME)
    reports.on_state("STARTED", "2", 0, queued | {"eta": "no time"}, NAME)
    reports.on_state("STARTED", "3", 1, queued, NAME)
    reports.on_state("STARTED", "4", 0, queued, {**NAME, "redelivered": True})
    reports.on_state("STARTED", "5", 0, {}, NAME)
    planned, bad, *others = (report.seconds for report in found)
    assert planned == pytest.approx(2000, abs=500)
    assert bad == pytest.approx(6000, abs=500)
    assert others == [None, None, None]


def test_a_full_socket_makes_no_task_wait() -> None:
    """Reports that the main process is too busy to take are left out and counted."""
    goes_on = threading.Event()

    def take(report: Report) -> None:
        goes_on.wait(60)

    reports = Reports(take)
    child = os.fork()
    if not child:
        for number in range(10_000):
            reports.on_state("REVOKED", str(number), 0, {}, NAME)
        os._exit(0 if reports._lost else 1)
    status = os.waitpid(child, 0)[1]
    goes_on.set()
    assert status == 0
