"""How often the progress of a task goes to its feeds."""

from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks import feed_limit
from bridge.tasks.feed_limit import FeedLimit
from bridge.tasks.publish_queue import PublishQueue
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.servers import Valkey, eventually


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(feed_limit, "time", clock)
    return clock


def in_feeds(limit: FeedLimit, publication: Publication) -> list[tuple[str, float | str]]:
    """Pass a message through; return what goes to the feeds: the topic, and the figure or the state."""
    earlier = limit.pass_through(publication)
    change = publication.change
    assert change is not None
    own = [(group.topic, publication.payload) for group in change.groups]
    return [figure(*each) for each in [*((m.topic, m.payload) for m in earlier), *own]]


def figure(topic: str, payload: bytes) -> tuple[str, float | str]:
    event = events.decoded(payload)
    return topic, event["current"] if event["type"] == "progress" else event["state"]


def due(limit: FeedLimit) -> list[tuple[str, float | str]]:
    return [figure(message.topic, message.payload) for _, message in limit.due()]


def progress(task: str, current: int, **fields: Any) -> Publication:
    return events.make("progress", task, current=current, **fields)


def test_progress_goes_to_a_feed_once_a_second(clock: Clock) -> None:
    """The first goes at once, the newest of a second when it is over, and each task has its own second."""
    limit = FeedLimit()
    assert in_feeds(limit, progress("t1", 1)) == [("tasks", 1)]
    assert limit.wait() is None
    clock.now = 0.5
    assert in_feeds(limit, progress("t2", 1)) == [("tasks", 1)]
    for current in (2, 3):
        assert in_feeds(limit, progress("t1", current)) == []
    assert limit.wait() == 0.5
    assert due(limit) == []
    clock.now = 1.0
    assert due(limit) == [("tasks", 3)]
    assert in_feeds(limit, progress("t1", 4)) == []
    clock.now = 1.5
    assert in_feeds(limit, progress("t2", 2)) == [("tasks", 2)]
    clock.now = 2.0
    assert due(limit) == [("tasks", 4)]


def test_each_feed_of_a_tag_gets_what_was_held(clock: Clock) -> None:
    """Held progress goes to the feeds of the tags too."""
    limit = FeedLimit()
    for current in (1, 2):
        limit.pass_through(progress("t1", current, tags=["one", "two"]))
    clock.now = 1.0
    assert due(limit) == [("tag:one", 2), ("tag:two", 2), ("tasks", 2)]


def test_a_state_does_not_overtake_progress(clock: Clock) -> None:
    """Held progress goes to the feed before the next state; an end replaces it."""
    limit = FeedLimit()
    for current in (1, 2):
        limit.pass_through(progress("t1", current))
    retry = events.make("state", "t1", state="RETRY")
    assert in_feeds(limit, retry) == [("tasks", 2), ("tasks", "RETRY")]
    for current in (3, 4):
        limit.pass_through(progress("t1", current))
    end = events.make("state", "t1", state="SUCCESS")
    assert in_feeds(limit, end) == [("tasks", "SUCCESS")]
    clock.now = 1.0
    assert due(limit) == []
    assert limit.wait() is None


def test_tasks_that_were_silent_for_a_second_are_forgotten(clock: Clock) -> None:
    """Only the tasks of the last second take memory."""
    limit = FeedLimit()
    for number in range(1000):
        limit.pass_through(progress(f"t{number}", 1))
    clock.now = 1.0
    assert due(limit) == []
    assert not limit._sent


def test_a_feed_gets_states_and_the_last_progress(valkey: Valkey) -> None:
    """The task's own topic has every event in order; the feeds have states, requests and some progress."""
    with bridge.connect(valkey.url("redis"), namespace="feed-limit") as channel:
        publisher = BackgroundPublisher(transport_of(channel))
        seen: dict[str, Any] = {"tags": ["one"]}
        publisher.put(events.make("state", "t1", state="STARTED", **seen))
        for current in range(5):
            publisher.put(progress("t1", current, **seen))
        publisher.put(events.make("log", "t1", message="text", level="info", **seen))
        publisher.put(events.make("cancel_requested", "t1", **seen))
        own, feed, tag = (channel.topic(name) for name in ("task:t1", bridge.FEED, bridge.tag_topic("one")))

        def told(topic: bridge.Topic) -> list[object]:
            found = map(events.decoded, topic.as_subscriber().history(limit=100))
            return [event.get("current", event["type"]) for event in found]

        eventually(lambda: 4 in told(feed), 10)
        assert told(feed)[0] == "state"
        assert "cancel_requested" in told(feed)
        assert "log" not in told(feed)
        assert told(tag) == told(feed)
        assert [each for each in told(own) if isinstance(each, str)] == ["state", "log", "cancel_requested"]
        assert told(own)[-3:] == [4, "log", "cancel_requested"]
        publisher.close()


def test_what_stands_for_others_is_not_in_a_feed(clock: Clock) -> None:
    """Entries, and the message that tells how many were left out, go to the topic of the task alone."""
    limit, queue = FeedLimit(), PublishQueue()
    limit.append_to(queue, events.make("log", "t1", message="text"), stands_for=2)
    (taken,) = queue.take(10)
    assert taken.change is not None
    assert taken.change.groups == ()
