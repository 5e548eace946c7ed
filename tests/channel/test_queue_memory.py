"""The memory of what waits for subscriptions."""

import pytest

import bridge
from bridge.channel.queue_memory import QueueMemory
from bridge.channel.transport import transport_of
from bridge.errors import SlowConsumer
from tests.servers import eventually

BUDGET = 4_000_000
SIZE = 100_000


class Queue:
    """The queue of a subscription to one topic."""

    def __init__(self, topic: str, size: int) -> None:
        self.topics = frozenset({topic})
        self.size = size
        self.reason: SlowConsumer | None = None

    @property
    def waiting(self) -> tuple[int, int]:
        return bool(self.size), self.size

    def end_as_slow(self, reason: SlowConsumer) -> None:
        self.size = 0
        self.reason = reason


def test_the_messages_of_a_topic_count_once() -> None:
    """Its subscriptions share them: the longest queue of each topic counts."""
    memory = QueueMemory()
    queues = [Queue("a", 5000), Queue("a", 9000), Queue("b", 2000), Queue("c", 0)]
    for queue in queues:
        memory.add(queue)
    memory.measure()
    assert 11_000 < memory.held < 12_000


def test_the_longest_queues_end_first() -> None:
    """As many as have to until the others fit; each is told why."""
    memory = QueueMemory()
    queues = [Queue("a", 5000), Queue("a", 9000), Queue("b", 6000)]
    for queue in queues:
        memory.add(queue)
    memory.shed(12_000)
    assert [queue.size for queue in queues] == [5000, 0, 6000]
    assert "memory budget" in str(queues[1].reason)
    memory.measure()
    assert memory.held < 12_000


@pytest.mark.usefixtures("own_budget")
def test_a_subscription_that_takes_nothing_ends_over_the_budget(caplog: pytest.LogCaptureFixture) -> None:
    """It raises `SlowConsumer`, one line is logged, and a subscription that reads gets everything."""
    with bridge.connect("memory://queues", memory=BUDGET, retention_messages=5) as channel:
        topic = channel.topic("large")
        with topic.subscribe() as slow, topic.subscribe() as quick:
            for number in range(60):
                topic.publish(b"%d " % number + b"x" * SIZE)
                message = quick.receive(10)
                assert message is not None
                assert message.startswith(b"%d " % number)
            eventually(lambda: transport_of(channel).hub.stats()["slow_consumers"] == 1)
            with pytest.raises(bridge.SlowConsumer, match="4,000,000 bytes"):
                slow.receive(10)
    lines = [
        record.getMessage() for record in caplog.records if "slowest subscriptions" in record.getMessage()
    ]
    assert len(lines) == 1
