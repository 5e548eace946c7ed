"""The metrics: their names, what they say, and the bounded values of their labels.

The names follow the conventions of Prometheus. `COUNTER` stands for a number that only grows; its name gets
`_total` in the output.
"""

from typing import Literal, NamedTuple

from bridge.support.memory import KINDS

COUNTER, GAUGE = "counter", "gauge"


class Metric(NamedTuple):
    """A metric with one label at most."""

    name: str
    kind: str
    help: str
    label: str | None = None
    values: tuple[str, ...] = ("",)
    """The values of the label. Those that did not happen yet are shown as 0."""
    merge: Literal["livesum", "livemin", "livemax"] = "livesum"
    """How the processes of multiprocess mode are merged, for a gauge."""


VIEWERS = Metric("bridge_viewers", GAUGE, "Open streams.")
OPENED = Metric("bridge_viewers_opened", COUNTER, "Streams that began.")
CLOSED = Metric(
    "bridge_viewers_closed",
    COUNTER,
    "Streams that ended, by reason.",
    "reason",
    ("ended", "left", "slow", "memory", "expired", "revoked", "lifetime", "restart", "failed"),
)
REFUSED = Metric(
    "bridge_viewers_refused",
    COUNTER,
    "Requests that got no stream, by reason.",
    "reason",
    ("process", "address", "key", "descriptors", "token", "forbidden", "name", "topics", "headers",
     "unavailable", "error"),
)  # fmt: skip
TAKEN_OVER = Metric("bridge_viewers_taken_over", COUNTER, "Streams whose connection was taken over.")
REPLAYS = Metric(
    "bridge_replays", COUNTER, "Requests with a cursor, by result.", "result", ("resumed", "lost", "ended")
)
TOPICS = Metric("bridge_topics", GAUGE, "Topics that are read.")
SUBSCRIPTIONS = Metric("bridge_subscriptions", GAUGE, "Open subscriptions beside the streams.")
SLOW_CONSUMERS = Metric("bridge_slow_consumers", COUNTER, "Subscriptions that were closed as too slow.")
RECEIVED = Metric("bridge_messages_received", COUNTER, "Messages read from the backend.")
DELIVERIES = Metric("bridge_deliveries", COUNTER, "Messages given to viewers, each once for each viewer.")
BYTES = Metric("bridge_delivered_bytes", COUNTER, "Bytes of the text of those messages.")
UP = Metric(
    "bridge_backend_up", GAUGE, "Whether the backend can be reached, as far as is known.", merge="livemin"
)
OUTAGES = Metric("bridge_backend_outages", COUNTER, "Lost connections to the backend.")
STALLS = Metric("bridge_tasks_stalled", COUNTER, "Watched tasks whose worker has vanished.")
MEMORY = Metric("bridge_memory_bytes", GAUGE, "Bytes that wait, by kind.", "kind", KINDS)
MEMORY_LIMIT = Metric("bridge_memory_limit_bytes", GAUGE, "The memory budget of a process.", merge="livemax")

WAITING = Metric("bridge_publisher_waiting_messages", GAUGE, "Messages that wait to be published.")
WAITING_BYTES = Metric("bridge_publisher_waiting_bytes", GAUGE, "Bytes of those messages.")
PUBLISHED = Metric("bridge_published_messages", COUNTER, "Messages that the backend has accepted.")
DROPPED = Metric("bridge_publisher_dropped_messages", COUNTER, "Messages that were left out.")
PUBLISHER_OUTAGES = Metric("bridge_publisher_outages", COUNTER, "How often publishing failed and waited.")

STREAMS = (
    VIEWERS, OPENED, CLOSED, REFUSED, TAKEN_OVER, REPLAYS, TOPICS, SUBSCRIPTIONS, SLOW_CONSUMERS, RECEIVED,
    DELIVERIES, BYTES, UP, OUTAGES, STALLS, MEMORY, MEMORY_LIMIT,
)  # fmt: skip
"""The metrics of streams."""

PUBLISHER = (WAITING, WAITING_BYTES, PUBLISHED, DROPPED, PUBLISHER_OUTAGES)
"""The metrics of whatever publishes: web processes and workers."""

LAG = ("bridge_delivery_lag_seconds", "Seconds from publish to send, of a sample of the messages.")
LAG_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

ENDED = ("bridge_tasks_ended", "Tasks that ended, by name and ending.")
RETRIES = ("bridge_task_retries", "Attempts after which a task is tried again, by name.")
QUEUED = ("bridge_task_queue_seconds", "Seconds that a task waited in the queue, by name.")
RUN = ("bridge_task_run_seconds", "Seconds that an attempt of a task ran, by name.")
LOST_REPORTS = (
    "bridge_worker_lost_reports",
    "Reports of child processes that were lost.",
)
TASK_BUCKETS = (0.005, 0.025, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1800.0, 7200.0)
