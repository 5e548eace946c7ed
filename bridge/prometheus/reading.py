"""Reads what the bridge counts: a reading has, for each metric, its number by the value of its label."""

from collections.abc import Iterable, Mapping

from bridge.channel.hub import Hub
from bridge.channel.transport import transport_of
from bridge.prometheus import metrics
from bridge.prometheus.metrics import Metric
from bridge.streams.service import StreamService
from bridge.support.memory import BUDGET, KINDS
from bridge.tasks.publisher_counts import PUBLISHERS, PublisherCounts

Reading = dict[Metric, Mapping[str, float]]


def read(services: Iterable[StreamService]) -> Reading:
    """Return what the streams of `services` and the publishers of this process count."""
    services = list(services)
    used = BUDGET.used()
    found: Reading = {
        metrics.MEMORY: {kind: used[kind] for kind in KINDS},
        metrics.MEMORY_LIMIT: {"": BUDGET.limit},
        metrics.UP: {
            "": float(all(transport_of(service.channel).hub.outage is None for service in services))
        },
        **read_publishers(PUBLISHERS.counts()),
    }
    for metric in metrics.STREAMS:
        if metric not in found:
            found[metric] = dict.fromkeys(metric.values, 0.0)
    for service in services:
        for metric, numbers in _read_service(service).items():
            sums = dict(found[metric])
            for value, number in numbers.items():
                sums[value] = sums.get(value, 0.0) + number
            found[metric] = sums
    return found


def _hub(service: StreamService) -> Hub:
    return transport_of(service.channel).hub


def _read_service(service: StreamService) -> Reading:
    counts, loop, hub = service.loop.counts, service.loop.stats(), _hub(service)
    return {
        metrics.VIEWERS: {"": loop["viewers"]},
        metrics.OPENED: {"": counts.opened},
        metrics.CLOSED: counts.closed,
        metrics.REFUSED: counts.refused,
        metrics.TAKEN_OVER: {"": loop["viewers_handed_over"]},
        metrics.REPLAYS: counts.replays,
        metrics.TOPICS: {"": hub.topics()},
        metrics.SUBSCRIPTIONS: {"": hub.queues.count},
        metrics.SLOW_CONSUMERS: {"": hub.slow_consumers},
        metrics.RECEIVED: {"": hub.messages_received},
        metrics.DELIVERIES: {"": counts.deliveries},
        metrics.BYTES: {"": counts.bytes},
        metrics.OUTAGES: {"": hub.connections_lost},
        metrics.STALLS: {"": service.liveness.stalls},
    }


def read_publishers(counts: PublisherCounts) -> Reading:
    """Return the reading of `counts`."""
    return {metric: {"": number} for metric, number in zip(metrics.PUBLISHER, counts, strict=True)}
