"""`collector`: the metrics of the streams of a web application."""

from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Protocol

from bridge.errors import needs_extra
from bridge.prometheus import metrics
from bridge.prometheus.reading import read
from bridge.streams.counts import METRICS
from bridge.streams.service import StreamService

with needs_extra("bridge.prometheus", "prometheus"):
    from prometheus_client import Histogram, Metric, values
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.registry import Collector

    from bridge.prometheus.processes import Processes


class Streams(Protocol):
    """What `collector` takes."""

    def _services(self) -> Iterable[StreamService]:
        """Return what serves streams in this process, as far as it is used already."""
        ...


def collector(*streams: Streams | ModuleType) -> Collector:
    """Return the collector of the metrics of `streams`, for `registry.register`.

    `streams` are `Bridge` objects of `bridge.flask` or `bridge.asgi`, or the module `bridge.django`. Call it
    once, with all of them. It opens nothing: the numbers are read when Prometheus asks.

    In the multiprocess mode of prometheus_client, each process writes its numbers once a second to the
    directory of that mode, and the collector returns those of all processes. So does a
    `MultiProcessCollector`: register one of the two.

    Raises `TypeError` for something else. Any thread may ask the collector.
    """
    for each in streams:
        if not callable(getattr(each, "_services", None)):
            what = type(each).__name__
            raise TypeError(
                "collector() takes a Bridge of bridge.flask or bridge.asgi, or the module bridge.django, not "
                f"{what}"
            )
    if values.ValueClass is values.MutexValue:
        return _OneProcess(streams)
    return Processes.of_this_process(lambda: services_of(streams))


def services_of(streams: Iterable[Streams | ModuleType]) -> list[StreamService]:
    """Return what serves `streams` in this process."""
    return [service for each in streams for service in each._services()]


class _OneProcess(Collector):
    """Returns the numbers of this process."""

    def __init__(self, streams: Iterable[Streams | ModuleType]) -> None:
        self._streams = tuple(streams)
        self._lag = Histogram(*metrics.LAG, buckets=metrics.LAG_BUCKETS, registry=None)
        METRICS.observe_lag = self._lag.observe

    def describe(self) -> Iterator[Metric]:
        """Yield the metrics without numbers: a registry asks for them when this is registered."""
        yield from map(_family, (*metrics.STREAMS, *metrics.PUBLISHER))
        yield from self._lag.describe()

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for metric, numbers in read(services_of(self._streams)).items():
            family = _family(metric)
            for value, number in numbers.items():
                family.add_metric([] if metric.label is None else [value], number)
            yield family
        yield from self._lag.collect()


def _family(metric: metrics.Metric) -> CounterMetricFamily | GaugeMetricFamily:
    labels = [] if metric.label is None else [metric.label]
    family = CounterMetricFamily if metric.kind == metrics.COUNTER else GaugeMetricFamily
    return family(metric.name, metric.help, labels=labels)
