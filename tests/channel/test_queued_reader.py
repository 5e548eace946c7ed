"""A reader with a queue, as the hub and its owner use it."""

from typing import Any

import pytest

import bridge
from bridge.channel.queue_memory import QueueMemory
from bridge.channel.queued_reader import HISTORY_BYTES, QueuedReader
from bridge.model.message import Message

SIZE = 4


class Hub:
    """Counts what a reader tells the hub."""

    def __init__(self) -> None:
        self.slow_consumers = 0
        self.queues = QueueMemory()
        self.left: list[QueuedReader] = []
        self.have_room: list[QueuedReader] = []

    def leave(self, reader: QueuedReader) -> None:
        self.left.append(reader)

    def has_room(self, reader: QueuedReader) -> None:
        self.have_room.append(reader)


@pytest.fixture
def hub() -> Any:
    return Hub()


def messages(count: int, payload: bytes = b"x") -> list[Message]:
    return [Message(payload, topic="t") for _ in range(count)]


def test_a_reader_that_falls_behind_gets_what_fits_and_then_the_reason(hub: Any) -> None:
    """It is counted once, leaves the hub, and takes nothing more."""
    reader = QueuedReader(hub, ["t"], queue_size=SIZE)
    reader.post([reader], messages(SIZE + 1))
    reader.post([reader], messages(1))
    assert hub.slow_consumers == 1
    assert hub.left == [reader]
    assert [reader.receive(0) for _ in range(SIZE)] == [b"x"] * SIZE
    with pytest.raises(bridge.SlowConsumer):
        reader.receive(0)


def test_history_waits_for_room_and_the_hub_is_told_once(hub: Any) -> None:
    """When the queue that was full is half empty; never if all of it fitted."""
    reader = QueuedReader(hub, ["t"], queue_size=SIZE)
    assert reader.room(messages(SIZE + 3)) == SIZE
    reader.post([reader], messages(SIZE))
    for left in range(SIZE - 1, -1, -1):
        reader.receive(0)
        assert bool(hub.have_room) == (left <= SIZE // 2)
    assert hub.have_room == [reader]
    assert reader.room(messages(SIZE)) == SIZE
    reader.post([reader], messages(SIZE))
    for _ in range(SIZE):
        reader.receive(0)
    assert hub.have_room == [reader]


def test_history_is_bounded_in_bytes_too(hub: Any) -> None:
    """A reader for which nothing waits takes one message, however large it is."""
    reader = QueuedReader(hub, ["t"], queue_size=SIZE)
    large = messages(2, b"x" * (HISTORY_BYTES + 1))
    assert reader.room(large) == 1
    reader.post([reader], large[:1])
    assert reader.room(large) == 0


@pytest.mark.parametrize(
    ("reason", "closed"),
    [(bridge.SubscriptionClosed("the channel is closed"), True), (bridge.ConnectionLost("gone"), False)],
)
def test_the_end_of_the_channel_is_no_reason(
    hub: Any, reason: bridge.SubscriptionClosed, closed: bool
) -> None:
    """A closed channel drops what is queued, as `close` does. Any other reason comes after it."""
    reader = QueuedReader(hub, ["t"], queue_size=SIZE)
    reader.post([reader], messages(1))
    reader.fail(reason)
    assert reader.closed is closed
    if not closed:
        assert reader.receive(0) == b"x"
    with pytest.raises(type(reason)):
        reader.receive(0)


def test_the_owner_is_notified_of_all_that_is_new(hub: Any) -> None:
    """When it is established, of an item and of the end."""
    notified: list[int] = []

    def notify() -> bool:
        notified.append(1)
        return True

    reader = QueuedReader(hub, ["t"], queue_size=SIZE, notify=notify)
    reader.establish("t")
    reader.establish("t")
    assert len(notified) == 1
    assert reader.wait_established(0)
    reader.post([reader], messages(2))
    assert len(notified) == 2
    reader.close()
    reader.close()
    assert len(notified) == 3
    assert hub.left == [reader]


def test_a_reader_without_an_owner_closes(hub: Any) -> None:
    """For example one whose event loop has ended."""
    reader = QueuedReader(hub, ["t"], queue_size=SIZE, notify=lambda: False)
    reader.post([reader], messages(1))
    assert reader.closed
    assert hub.left == [reader]


def test_a_reader_with_a_limit_in_bytes_ends_after_what_fits(hub: Any) -> None:
    """The item that passes the limit still fits, so one item may be larger; history stops there too."""
    reader = QueuedReader(hub, ["t"], queue_size=100, queue_bytes=1000)
    assert reader.room(messages(5, b"x" * 600)) == 2
    reader.post([reader], messages(2, b"x" * 600))
    assert reader.room(messages(1)) == 0
    assert hub.slow_consumers == 0
    reader.post([reader], messages(1))
    assert hub.slow_consumers == 1
    assert [len(reader.receive(0) or b"") for _ in range(2)] == [600, 600]
    assert hub.have_room == [reader]
    with pytest.raises(bridge.SlowConsumer):
        reader.receive(0)
