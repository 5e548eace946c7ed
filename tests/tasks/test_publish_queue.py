"""The messages that wait to be published: which of them give way where they are too many."""

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks import canvas, publish_queue
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


def feeds(publication: Publication) -> list[str]:
    """The groups that get a message."""
    assert publication.change is not None
    return [group.topic for group in publication.change.groups]


def test_later_progress_replaces_earlier() -> None:
    """Only the newest of a task is sent, to all feeds that the earlier was for; states and parts stay."""
    queue = PublishQueue()
    made = {
        name: events.make("progress", "t1", current=number)
        for number, name in enumerate(("old", "new", "after"))
    }
    state, other = events.make("state", "t1", state="STALLED"), events.make("progress", "t2", current=1)
    change = made["new"].change
    assert change is not None
    change.groups = ()
    for publication in (made["old"], other, made["new"], state, made["after"]):
        queue.append(publication)
    sizes = queue.held
    assert len(queue) == 4
    taken = queue.take(10)
    assert taken == [other, made["new"], state, made["after"]]
    assert feeds(made["new"]) == [bridge.FEED]
    assert queue.held == queue.dropped == 0 < sizes
    parts = [canvas.make("canvas:w", 2, task, "STARTED") for task in ("t1", "t2")]
    for publication in parts:
        queue.append(publication)
    assert queue.take(10) == parts


def test_a_topic_that_is_set_aside_keeps_its_order() -> None:
    """Nothing of it is taken for that time, and then its messages, those that came meanwhile last."""
    queue = PublishQueue()
    held = [events.make("log", "held", message=str(number)) for number in range(4)]
    other = events.make("log", "other", message="1")
    queue.set_aside(held[:2], 60)
    queue.append(held[2])
    assert not queue.is_ready()
    queue.append(other)
    assert queue.is_ready()
    assert queue.take(10) == [other]
    assert len(queue) == 3
    assert 0 < (queue.wait() or 0) <= 60
    queue.set_aside([], 60)
    queue.append(held[3])
    queue.set_aside([other], 0)
    assert queue.take(10) == [other]
    queue.clear()
    queue.set_aside(held[:2], 0)
    queue.append(held[2])
    assert queue.wait() is None
    assert queue.take(1) + queue.take(10) == held[:3]


def test_events_left_out_are_counted_by_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each topic has one message in the place of its entries, also after several times."""
    monkeypatch.setattr(publish_queue, "LIMIT", 20)
    queue = PublishQueue()
    for number in range(100):
        queue.append(events.make("log", f"t{number % 2}", message=str(number)))
    assert len(queue) <= 20
    told = [events.decode(publication.payload) or {} for publication in queue.take(20)]
    assert sorted(event["task"] for event in told if "left out" in event["message"]) == ["t0", "t1"]
    for task in range(2):
        notice, *kept = (event["message"] for event in told if event["task"] == f"t{task}")
        assert notice.startswith(f"{50 - len(kept)} events were left out")
        assert kept == [str(number) for number in range(100 - 2 * len(kept) + task, 100, 2)]
    assert queue.dropped == 100 - len(told) + 2


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
    known = [bool(transport_of(channel).states(bridge.task_topic(str(number)))) for number in range(30)]
    assert known == [number >= publisher.dropped for number in range(30)]
    assert publisher.dropped in (20, 21, 22)
    publisher.close()
    server.stop()


def test_a_topic_that_floods_loses_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever one task sends, the entries of others stay, and none of them waits for all of its."""
    monkeypatch.setattr(publish_queue, "LIMIT", 100)
    queue = PublishQueue()
    for number in range(10_000):
        queue.append(events.make("log", "flood", message=str(number)))
        if number % 1000 == 0:
            queue.append(events.make("log", "other", message=str(number)))
    first = [events.decode(publication.payload) or {} for publication in queue.take(20)]
    assert [event["message"] for event in first if event["task"] == "other"] == [
        str(number) for number in range(0, 10_000, 1000)
    ]
    rest = [events.decode(publication.payload) or {} for publication in queue.take(100)]
    told = [event["message"] for event in first + rest if event["task"] == "flood"]
    assert told[0].startswith(f"{queue.dropped:,} events were left out")
    assert told[1:] == [str(number) for number in range(queue.dropped, 10_000)]


def test_the_queue_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few large messages give way as many small ones do; batches are bounded too."""
    monkeypatch.setattr(publish_queue, "LIMIT_BYTES", 1_000_000)
    queue = PublishQueue()
    for number in range(1000):
        queue.append(events.make("log", "t1", message=f"{number} " + "x" * 50_000))
        assert queue.held <= 1_000_000
    assert len(queue) >= 5
    assert len(queue.take(1000, 120_000)) == 4  # a message about those that are left out, and three of 50 KB
    state = events.make("state", "t2", state="STARTED")
    queue.append(state)
    assert state in queue.take(2)
    queue.take(1000)
    assert (len(queue), queue.held) == (0, 0)
