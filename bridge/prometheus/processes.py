"""Multiprocess mode: each process writes its numbers to files, and whichever is asked adds them all up.

In this mode prometheus_client takes numbers only from its own metric objects. So the numbers are read once a
second in each process, and the objects follow them.
"""

import atexit
import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import ClassVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

# The metric of prometheus_client, not the one of `bridge.prometheus.metrics`.
from prometheus_client import Metric as Family
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from bridge.prometheus import metrics
from bridge.prometheus.metrics import Metric
from bridge.prometheus.reading import read
from bridge.streams.counts import METRICS
from bridge.streams.service import StreamService
from bridge.support.fork import reset_in_child

EVERY = 1.0
"""Seconds after which a process writes its numbers again."""


class Processes(Collector):
    """Writes the numbers of this process, and returns those of all. Threads may share it."""

    _only: ClassVar["Processes | None"] = None

    def __init__(self) -> None:
        self._sources: list[Callable[[], Iterable[StreamService]]] = []
        self._objects = {metric: _object(metric) for metric in (*metrics.STREAMS, *metrics.PUBLISHER)}
        self._written: dict[tuple[Metric, str], float] = {}
        lag = Histogram(*metrics.LAG, buckets=metrics.LAG_BUCKETS, registry=None)
        self._start_again()
        reset_in_child(self)
        METRICS.observe_lag = lag.observe
        METRICS.on_change = self._start
        atexit.register(self._leave)

    def _start_again(self) -> None:
        self._lock = threading.Lock()  # Guards what is written, and the start of the thread.
        self._thread: threading.Thread | None = None

    def reset_after_fork(self) -> None:
        """The files of the child begin at 0, and the parent has written what it had counted."""
        self._start_again()

    @classmethod
    def of_this_process(cls, services: Callable[[], Iterable[StreamService]]) -> "Processes":
        """Return the one object of this process, which also reads what `services` returns."""
        if cls._only is None:
            cls._only = cls()
        cls._only._sources.append(services)
        return cls._only

    def describe(self) -> Iterable[Family]:
        """Return nothing: another collector of the registry may return the same metrics."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yield the metrics of the bridge in all processes."""
        self.write()
        for family in MultiProcessCollector(CollectorRegistry()).collect():
            if family.name.startswith("bridge_"):
                yield family

    def write(self) -> None:
        """Write the numbers of this process."""
        with self._lock:
            for metric, value, number in self._numbers():
                known = self._objects[metric]
                child = known if metric.label is None else known.labels(value)
                before = self._written.get((metric, value), 0.0)
                self._written[metric, value] = number
                if isinstance(child, Gauge):
                    child.set(number)
                elif number != before:
                    # A number that is smaller than before has begun again.
                    child.inc(number - before if number > before else number)

    def _numbers(self) -> Iterator[tuple[Metric, str, float]]:
        # Without the context of a request: in it, Flask's are those of one app.
        services = {service for source in self._sources for service in Context().run(source)}
        for metric, numbers in read(services).items():
            for value, number in numbers.items():
                yield metric, value, number

    def _start(self) -> None:
        """Start the thread with the first thing that is counted: a process that serves nothing has none."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="bridge-metrics", daemon=True)
                    self._thread.start()

    def _run(self) -> None:
        waiting = threading.Event()
        # gevent copies this thread into a forked child.
        while self._thread is threading.current_thread():
            self.write()
            waiting.wait(EVERY)

    def _leave(self) -> None:
        """Write the last numbers. A process that has ended has no viewers."""
        if self._thread is None:
            return
        self.write()
        for metric, known in self._objects.items():
            if isinstance(known, Gauge) and metric.merge == "livesum":
                for value in metric.values:
                    (known if metric.label is None else known.labels(value)).set(0)


def _object(metric: Metric) -> Counter | Gauge:
    """Return the object of prometheus_client that writes `metric`."""
    labels = () if metric.label is None else (metric.label,)
    if metric.kind == metrics.COUNTER:
        return Counter(metric.name, metric.help, labels, registry=None)
    mode = metric.merge
    return Gauge(metric.name, metric.help, labels, registry=None, multiprocess_mode=mode)
