"""The messages that wait to be published: which of them give way where they are too many."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.tasks import publish_queue
from bridge.tasks.publish_queue import PublishQueue
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.servers import Valkey, eventually
from tests.tasks.test_publisher import TOPIC, put


def test_messages_leave_in_the_order_in_which_they_came() -> None:
    """A batch at a time, the oldest first."""
    queue = PublishQueue()
    made = [events.make("log", "t1", message=str(number)) for number in range(5)]
    for publication in made:
        queue.append(publication)
    assert queue.take(2) == made[:2]
    assert len(queue) == 3
    assert queue.take(10) == made[2:]
    assert queue.take(10) == []
    assert queue.dropped == 0


def test_events_left_out_are_counted_by_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each topic has one line in the place of its entries, also after several times."""
    monkeypatch.setattr(publish_queue, "LIMIT", 20)
    queue = PublishQueue()
    for number in range(100):
        queue.append(events.make("log", f"t{number % 2}", message=str(number)))
    assert len(queue) <= 20
    told = [events.decode(publication.payload) or {} for publication in queue.take(20)]
    assert [event["task"] for event in told if "left out" in event["message"]] == ["t0", "t1"]
    kept = [event["message"] for event in told if "left out" not in event["message"]]
    assert kept == [str(number) for number in range(100 - len(kept), 100)]
    assert queue.dropped == 100 - len(kept)


def test_entries_that_do_not_fit_are_told_in_their_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its limit the queue leaves out older entries; one line says how many, in their place."""
    monkeypatch.setattr(publish_queue, "LIMIT", 10)
    server = Valkey()
    channel = bridge.connect(server.url("redis+pubsub"))
    publisher = BackgroundPublisher(transport_of(channel))
    put(publisher, "first")
    eventually(lambda: not publisher.flush(0.01))
    publisher.put(events.make("state", "t1", state="STARTED"))
    publisher.put(events.make("step", "t1", name="early", status="started", steps=[{"name": "early"}]))
    for number in range(1000):
        put(publisher, str(number))
    server.start()
    eventually(lambda: publisher.flush(10))
    (state,) = transport_of(channel).states(TOPIC)
    whole = events.snapshot(state, "t1")
    first, notice, *kept = (event["message"] for event in whole["events"])
    assert first == "first"
    assert notice.startswith(f"{publisher.dropped:,} events were left out here")
    assert kept == [str(number) for number in range(1000 - len(kept), 1000)]
    assert len(kept) >= 5
    assert publisher.dropped == 1001 - len(kept)
    assert (whole["state"], whole["steps"]) == ("STARTED", [{"name": "early"}])
    publisher.close()
    server.stop()


def test_where_no_entry_can_give_way_the_oldest_message_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without entries to leave out, the oldest messages go and are counted."""
    monkeypatch.setattr(publish_queue, "LIMIT", 10)
    server = Valkey()
    channel = bridge.connect(server.url("redis+pubsub"))
    publisher = BackgroundPublisher(transport_of(channel))
    put(publisher, "first")
    eventually(lambda: not publisher.flush(0.01))
    for number in range(30):
        publisher.put(events.make("state", str(number), state="PENDING"))
    server.start()
    eventually(lambda: publisher.flush(10))
    assert publisher.dropped == 20
    assert [bool(transport_of(channel).states(bridge.task_topic(str(number)))) for number in (19, 20)] == [
        False,
        True,
    ]
    publisher.close()
    server.stop()
