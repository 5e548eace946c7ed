"""The metrics of the tasks and publishers of a worker, in its main process."""

import time
from collections.abc import Container, Iterator
from typing import NamedTuple

from prometheus_client import CollectorRegistry, Counter, Histogram, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from bridge.prometheus import metrics
from bridge.tasks.publisher_counts import PUBLISHERS, PublisherCounts

NAMES = 100
"""Names of tasks that have numbers of their own. Tasks with other names share those of "other"."""

OTHER = "other"

FORGET_AFTER = 15.0
"""Seconds without a report after which what waits in a process does not count: it has ended."""


class Report(NamedTuple):
    """What happened in one process of the worker."""

    pid: int
    name: str | None = None
    """The name of a task, `None` if the report is only of the publishers."""
    state: str = ""
    """The state that the task is in now."""
    seconds: float | None = None
    """How long it waited, for STARTED; else how long it ran. `None` if that is not known."""
    publishers: tuple[int, ...] = PublisherCounts()
    """What waits in the publishers of the process, and by how much the other numbers have grown."""
    lost: int = 0
    """Reports of the process that could not be sent."""


class TaskMetrics:
    """The metrics of tasks. One thread at a time calls `add`."""

    def __init__(self, registry: CollectorRegistry, known: Container[str]) -> None:
        """`known` has the names of the tasks of the app."""
        self._known = known
        self._names: set[str] = set()
        buckets = metrics.TASK_BUCKETS
        self._ended = Counter(*metrics.ENDED, ("task", "ending"), registry=registry)
        self._retries = Counter(*metrics.RETRIES, ("task",), registry=registry)
        self._queued = Histogram(*metrics.QUEUED, ("task",), buckets=buckets, registry=registry)
        self._run = Histogram(*metrics.RUN, ("task",), buckets=buckets, registry=registry)

    def add(self, name: str, state: str, seconds: float | None) -> None:
        """Count that a task is now in `state`, as in a `Report`."""
        name = self._bounded(name)
        if state == "RETRY":
            self._retries.labels(name).inc()
        elif state != "STARTED":
            self._ended.labels(name, state).inc()
        if seconds is not None:
            histogram = self._queued if state == "STARTED" else self._run
            histogram.labels(name).observe(max(0.0, seconds))

    def _bounded(self, name: str) -> str:
        """Return the value of the label: messages may name tasks that do not exist."""
        if name in self._names:
            return name
        if len(self._names) >= NAMES or name not in self._known:
            return OTHER
        self._names.add(name)
        return name


class PublisherMetrics(Collector):
    """The publishers of the main process, and of its children as they report. Threads may share it."""

    def __init__(self) -> None:
        # The tuple of a child, and the time of its last report.
        self._waiting: dict[int, tuple[int, int, float]] = {}
        self._grown = (0, 0, 0)
        self._lost = 0

    def add(self, report: Report) -> None:
        """Note the report of a child. One thread at a time calls it."""
        waiting, waiting_bytes, *grown = report.publishers
        self._waiting = {pid: known for pid, known in self._waiting.items() if _is_fresh(known[2])}
        if waiting:
            self._waiting[report.pid] = waiting, waiting_bytes, time.monotonic()
        else:
            self._waiting.pop(report.pid, None)
        sent, dropped, outages = map(sum, zip(self._grown, grown, strict=True))
        self._grown = sent, dropped, outages
        self._lost += report.lost

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics: a registry asks for their names."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        fresh = [known for known in self._waiting.values() if _is_fresh(known[2])]
        children = (sum(known[0] for known in fresh), sum(known[1] for known in fresh), *self._grown)
        for metric, here, there in zip(metrics.PUBLISHER, PUBLISHERS.counts(), children, strict=True):
            kind = CounterMetricFamily if metric.kind == metrics.COUNTER else GaugeMetricFamily
            yield kind(metric.name, metric.help, value=here + there)
        yield CounterMetricFamily(*metrics.LOST_REPORTS, value=self._lost)


def _is_fresh(at: float) -> bool:
    return time.monotonic() - at < FORGET_AFTER
