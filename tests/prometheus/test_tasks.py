"""The metrics of tasks and publishers, without a worker."""

import pytest
from prometheus_client import CollectorRegistry

from bridge.prometheus import tasks
from bridge.prometheus.tasks import NAMES, OTHER, PublisherMetrics, Report, TaskMetrics
from bridge.tasks.publisher_counts import PUBLISHERS


def test_the_names_of_tasks_are_bounded() -> None:
    """A name that no task has, and every name after the first hundred, counts as another one."""
    registry = CollectorRegistry()
    known = [f"task{number}" for number in range(2 * NAMES)]
    metrics = TaskMetrics(registry, known)
    metrics.add("made up by a message", "REJECTED", None)
    for name in known:
        metrics.add(name, "SUCCESS", 0.5)
        metrics.add(name, "STARTED", 0.5)
    (family,) = (found for found in registry.collect() if found.name == "bridge_tasks_ended")
    assert len({sample.labels["task"] for sample in family.samples}) == NAMES + 1
    value = registry.get_sample_value
    assert value("bridge_tasks_ended_total", {"task": OTHER, "ending": "SUCCESS"}) == NAMES
    assert value("bridge_tasks_ended_total", {"task": OTHER, "ending": "REJECTED"}) == 1
    assert value("bridge_task_run_seconds_count", {"task": "task0"}) == 1
    assert value("bridge_task_queue_seconds_count", {"task": "task0"}) == 1


def test_a_retry_is_no_end() -> None:
    """It counts as a retry, and its attempt has run for some time."""
    registry = CollectorRegistry()
    TaskMetrics(registry, ["flaky"]).add("flaky", "RETRY", 2.0)
    assert registry.get_sample_value("bridge_task_retries_total", {"task": "flaky"}) == 1
    assert registry.get_sample_value("bridge_task_run_seconds_sum", {"task": "flaky"}) == 2
    assert registry.get_sample_value("bridge_tasks_ended_total", {"task": "flaky", "ending": "RETRY"}) is None


def test_what_waits_in_children_is_forgotten_with_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that only grow are kept when a child ends; what waits in it is not, once it is silent."""
    # Publishers of other tests of this process may still wait.
    monkeypatch.setattr(tasks, "PUBLISHERS", type(PUBLISHERS)())
    registry = CollectorRegistry()
    metrics = PublisherMetrics()
    registry.register(metrics)
    before = registry.get_sample_value("bridge_published_messages_total") or 0
    metrics.add(Report(1, publishers=(5, 500, 10, 1, 1)))
    metrics.add(Report(2, publishers=(7, 700, 20, 0, 0), lost=3))
    value = registry.get_sample_value
    assert value("bridge_publisher_waiting_messages") == 12
    assert value("bridge_publisher_waiting_bytes") == 1200
    assert value("bridge_worker_lost_reports_total") == 3
    metrics.add(Report(2, publishers=(0, 0, 7, 0, 0)))
    assert value("bridge_publisher_waiting_messages") == 5
    monkeypatch.setattr(tasks, "FORGET_AFTER", 0)
    assert value("bridge_publisher_waiting_messages") == 0
    assert value("bridge_published_messages_total") == before + 37
