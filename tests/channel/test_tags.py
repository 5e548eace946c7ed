"""Feeds of tags, on each backend: who is in them, and that they change in the same step as the task."""

import threading
from collections.abc import Iterable
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import MAX_MEMBERS, Publication
from bridge.tasks import canvas as canvas_events
from tests import events
from tests.conftest import REPLAYING, Connect
from tests.publications import repeated
from tests.servers import eventually

MIXED_UP = [
    "user:4",
    "user:42",
    "user:*",
    "a,b",
    "a b",
    "a",
    "{b}:log",
    "ü/é",
    "%2C",
    "\\0",
    "tasks",
    "' OR 1=1",
]
"""Tags that a careless encoding would take for one another."""


def publish(channel: Any, *publications: Publication) -> None:
    for publication in publications:
        transport_of(channel).publish(publication)


def listed(channel: Any, tag: str) -> set[str | None]:
    """Return the tasks that the feed of a tag lists."""
    return {events.task_of(state.topic) for state in transport_of(channel).states(bridge.tag_topic(tag))}


def seen(channel: Any, feed: str, subscription: Any) -> list[str]:
    """Return the tasks that the messages of a feed are about, up to now."""
    channel.topic(feed).publish(b"sentinel")
    found = []
    while (message := subscription.receive(timeout=20)) != b"sentinel":
        found.append(events.decoded(message)["task"])
    return found


def test_each_tag_has_the_tasks_with_that_tag_and_no_other(channel: Any) -> None:
    """Whatever the tags are called, a reader of one sees and lists only its own tasks."""
    topics = [channel.topic(bridge.tag_topic(tag)) for tag in MIXED_UP]
    subscriptions = [topic.subscribe() for topic in topics]
    for number, tag in enumerate(MIXED_UP):
        publish(
            channel,
            events.make("state", f"t{number}", state="STARTED", tags=[tag]),
            events.make("log", f"t{number}", message="hello", tags=[tag]),
        )
    for number, tag in enumerate(MIXED_UP):
        assert seen(channel, topics[number].topic, subscriptions[number]) == [f"t{number}"] * 2, tag
        assert listed(channel, tag) == {f"t{number}"}, tag
        subscriptions[number].close()


def test_a_task_is_in_the_feeds_of_all_its_tags_and_of_all_tasks(channel: Any) -> None:
    """Eight tags and the feed get the same message, and each lists the task with its whole state."""
    tags = [f"tag {number}" for number in range(8)]
    feeds = [bridge.FEED, *map(bridge.tag_topic, tags)]
    subscriptions = [channel.topic(feed).subscribe() for feed in feeds]
    publish(channel, events.make("state", "t1", state="STARTED", tags=tags))
    publish(channel, events.make("progress", "t1", current=7, tags=tags))
    for feed, subscription in zip(feeds, subscriptions, strict=True):
        assert seen(channel, feed, subscription) == ["t1", "t1"], feed
        (state,) = transport_of(channel).states(feed)
        found = events.snapshot(state, "t1")
        assert (found["tags"], found["progress"]["current"]) == (tags, 7)
        subscription.close()


def test_what_the_state_refuses_is_in_no_feed(channel: Any) -> None:
    """After the end of a task, late progress does not reach the feed of a tag, nor list the task there."""
    with channel.topic(bridge.tag_topic("one")).subscribe() as subscription:
        publish(
            channel,
            events.make("state", "t1", state="SUCCESS", tags=["one"]),
            events.make("progress", "t1", current=1, tags=["one", "two"]),
        )
        assert seen(channel, bridge.tag_topic("one"), subscription) == ["t1"]
    assert listed(channel, "two") == set()


def test_many_messages_at_once_reach_the_feeds_of_their_tags(channel: Any) -> None:
    """In one batch, tasks with different tags, changing tags and no tags keep their order and stay apart."""
    tags: tuple[list[str] | None, ...] = (["one"], ["two", "one"], None, ["two"])
    batch = [
        events.make("state", f"t{number}", state="STARTED", tags=each) for number, each in enumerate(tags)
    ]
    batch += [events.make("log", f"t{number}", message="x", tags=each) for number, each in enumerate(tags)]
    batch.append(events.make("progress", "t0", current=1, tags=["two"]))
    expected = {"one": ["t0", "t1"] * 2, "two": ["t1", "t3"] * 2 + ["t0"]}
    subscriptions = {tag: channel.topic(bridge.tag_topic(tag)).subscribe() for tag in expected}
    publish_all(channel, batch)
    for tag, tasks in expected.items():
        assert seen(channel, bridge.tag_topic(tag), subscriptions[tag]) == tasks
        assert listed(channel, tag) == set(tasks)
        subscriptions[tag].close()


def publish_all(channel: Any, publications: Iterable[Publication]) -> None:
    left = list(publications)
    while left:
        left = left[transport_of(channel).publish_many(left) :]


@pytest.mark.parametrize("url", [each for each in REPLAYING if each != "memory"], indirect=True)
def test_a_repeated_message_is_once_in_each_feed(channel: Any) -> None:
    """A publisher that lost the answer sends again; no feed shows a message twice."""
    batch = [
        events.make("state", "t1", state="STARTED", tags=["one", "two"]),
        canvas_events.make("canvas:w", 1, "t2", "SUCCESS", tags=["two"]),
    ]
    subscriptions = {tag: channel.topic(bridge.tag_topic(tag)).subscribe() for tag in ("one", "two")}
    publish_all(channel, batch)
    publish_all(channel, repeated(batch))
    publish(channel, *repeated(batch))
    assert seen(channel, bridge.tag_topic("one"), subscriptions["one"]) == ["t1"]
    assert seen(channel, bridge.tag_topic("two"), subscriptions["two"]) == ["t1", "canvas:w", "canvas:w"]
    for subscription in subscriptions.values():
        subscription.close()


def test_a_canvas_is_listed_under_its_tags_and_its_parts_are_not(channel: Any) -> None:
    """The feed of a tag gets the events of the parts. It lists those whose tag the canvas does not have."""
    part: dict[str, Any] = {"canvas_id": "canvas:w", "tags": ["one", "own"], "own_tags": ["own"]}
    subscriptions = {tag: channel.topic(bridge.tag_topic(tag)).subscribe() for tag in ("one", "own")}
    publish(
        channel,
        canvas_events.declare("canvas:w", 1, canvas="group", tags=["one"]),
        events.make("state", "part", state="SUCCESS", **part),
        canvas_events.make("canvas:w", 1, "part", "SUCCESS", tags=["one"]),
    )
    assert seen(channel, bridge.tag_topic("one"), subscriptions["one"]) == [
        "canvas:w",
        "part",
        "canvas:w",
        "canvas:w",
    ]
    assert seen(channel, bridge.tag_topic("own"), subscriptions["own"]) == ["part"]
    assert listed(channel, "one") == {"canvas:w"}
    assert listed(channel, "own") == {"part"}
    (state,) = transport_of(channel).states(bridge.tag_topic("one"))
    assert events.snapshot(state, "canvas:w")["tags"] == ["one"]
    for subscription in subscriptions.values():
        subscription.close()


@pytest.mark.parametrize("url", REPLAYING, indirect=True)
def test_a_reader_of_a_tag_that_comes_back_misses_nothing(channel: Any) -> None:
    """A feed of a tag is read from the position after its last message, as any topic."""
    topic = channel.topic(bridge.tag_topic("one"))
    with topic.subscribe() as subscription:
        publish(channel, events.make("state", "t1", state="STARTED", tags=["one"]))
        first = subscription.receive(timeout=20)
    publish(channel, events.make("state", "t2", state="STARTED", tags=["one"]))
    with topic.subscribe(after=first.id) as subscription:
        assert seen(channel, topic.topic, subscription) == ["t2"]


@pytest.mark.parametrize("url", ["postgresql", "sqlite"], indirect=True)
def test_publishers_of_tasks_that_share_tags_do_not_wait_for_each_other_for_ever(connect: Connect) -> None:
    """Two publishers lock the feeds in one order, alone and in batches, however the tags were given."""
    failed: list[BaseException] = []
    channels: list[Any] = [connect(timeout=20.0) for _ in range(4)]
    transport_of(channels[0]).publish(events.make("state", "first", state="STARTED", tags=["a", "z"]))

    def work(channel: Any, number: int) -> None:
        tags = ["a", "z"] if number % 2 else ["z", "a"]
        try:
            for count in range(15):
                made = [events.make("log", f"{number}-{count}-{n}", message="x", tags=tags) for n in range(3)]
                publish(channel, *made[:1]) if number < 2 else publish_all(channel, made)
        except BaseException as error:
            failed.append(error)

    threads = [
        threading.Thread(target=work, args=(channel, number)) for number, channel in enumerate(channels)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(listed(channels[0], "a")) == 2 * 15 + 2 * 45 + 1


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_a_busy_user_does_not_push_out_the_tasks_of_another(
    channel: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory the state of an ended task is kept until no feed lists it."""
    monkeypatch.setattr("bridge.backends.memory.members.MAX_OLDER_BYTES", 0)
    publish(channel, events.make("state", "quiet", state="SUCCESS", tags=["quiet"]))
    for number in range(MAX_MEMBERS):
        publish(channel, events.make("state", f"t{number}", state="SUCCESS", tags=["busy"]))
    assert listed(channel, "quiet") == {"quiet"}
    assert len(listed(channel, "busy")) == MAX_MEMBERS
    for number in range(MAX_MEMBERS):
        publish(channel, events.make("state", f"q{number}", state="SUCCESS", tags=["quiet"]))
    assert not transport_of(channel).states(bridge.task_topic("quiet"))


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_feeds_of_tags_that_are_not_used_are_forgotten(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory a tag costs nothing after its tasks have gone."""
    monkeypatch.setattr("bridge.model.state.UNENDED_SECONDS", 0.2)
    channel: Any = connect(retention_seconds=0.1)
    for number in range(20):
        publish(channel, events.make("state", f"t{number}", state="SUCCESS", tags=[f"tag {number}"]))
    store: Any = transport_of(channel).backend

    def forgotten() -> bool:
        channel.topic("busy").publish(b"")  # each publish forgets something
        return not any(name.startswith("tag:") for name in store._store._members)

    eventually(forgotten)
    assert not store._store._listings
