"""What every backend promises: one suite, run over all of them."""

import os
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Any

import pytest

import bridge
from bridge.backends.base import Item, States
from bridge.channel.transport import transport_of
from bridge.model.message import Message
from bridge.tasks import canvas
from tests import events
from tests.conftest import Connect
from tests.servers import eventually

LIMIT = 1024 * 1024


def drain(subscription: bridge.Subscription, until: bytes) -> list[bytes]:
    """Receive until the sentinel comes; return what came before it."""
    received: list[bytes] = []
    while (message := subscription.receive(timeout=10)) != until:
        assert message is not None, f"no sentinel after {received[-3:]}"
        received.append(bytes(message))
    return received


def wait_in_receive(subscription: bridge.Subscription) -> tuple[threading.Thread, list[object]]:
    """Start a thread that waits in `receive(timeout=None)`; return it and where its outcome will stand."""
    outcome: list[object] = []
    waiting = threading.Event()

    def receive() -> None:
        waiting.set()
        try:
            outcome.append(subscription.receive(timeout=None))
        except bridge.SubscriptionClosed as error:
            outcome.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    assert waiting.wait(5)
    return thread, outcome


def test_the_objects_are_those_of_the_contract(channel: bridge.BroadcastChannel) -> None:
    """Every object satisfies its protocol, and a view has nothing of the other view."""
    topic = channel.topic("orders")
    producer, subscriber = topic.as_producer(), topic.as_subscriber()
    assert isinstance(channel, bridge.BroadcastChannel)
    assert isinstance(topic, bridge.Topic)
    assert isinstance(producer, bridge.Producer)
    assert isinstance(subscriber, bridge.Subscriber)
    assert not hasattr(producer, "subscribe")
    assert not hasattr(subscriber, "publish")
    with subscriber.subscribe() as subscription:
        assert isinstance(subscription, bridge.Subscription)


def test_a_message_is_its_payload_with_topic_and_id(channel: bridge.BroadcastChannel) -> None:
    """What is received equals the published bytes and carries the id that publish returned."""
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        message_id = topic.publish(b"one")
        message = subscription.receive(timeout=5)
    assert message == b"one"
    assert isinstance(message, bridge.Message)
    assert (message.topic, message.id) == ("orders", message_id)


def test_the_type_of_an_event_arrives(channel: Any) -> None:
    """The type of a task event comes beside its payload, also in the feed and from a canvas."""
    canvas_id = "canvas:w"
    published = {
        bridge.task_topic("t1"): [
            events.make("state", "t1", state="STARTED"),
            events.make("progress", "t1", current=1),
            events.make("größe", "t1", data=1),
        ],
        bridge.task_topic(canvas_id): [
            canvas.make(canvas_id, 1, "a", "STARTED"),
            canvas.make(canvas_id, 1, "a", "SUCCESS"),
        ],
    }
    feed = channel.topic(bridge.FEED).subscribe()
    found = []
    for name, publications in published.items():
        with channel.topic(name).subscribe() as subscription:
            for publication in publications:
                transport_of(channel).publish(publication)
            channel.topic(name).publish(b"plain")
            kinds = []
            while (message := subscription.receive(timeout=10)) != b"plain":
                kinds.append(message.type)
            assert message.type is None
            found += kinds
    assert found == ["state", "progress", "größe", "state", "progress", "progress", "state"]
    assert [feed.receive(timeout=10).type for _ in found] == found
    feed.close()


class Type(StrEnum):
    """Types as an application may keep them."""

    ORDERED = "ordered"


def test_a_message_has_the_type_that_it_was_published_with(channel: bridge.BroadcastChannel) -> None:
    """Any topic has types, both views publish them, and the payload stays as it is, whatever it is."""
    topic = channel.topic("orders")
    types: list[str | None] = ["ordered", None, "größe 1 0", Type.ORDERED, "x" * 100, "語" * 100, None]
    payloads = [b"", b"bridge/1 1 0 ab", b"a\r\nevent: end\n\n", b"\0", bytes(range(256)), b"1 0 ", b"last"]
    sent = list(zip(payloads, types, strict=True))
    with topic.subscribe() as subscription:
        for number, (payload, event_type) in enumerate(sent):
            (topic.as_producer() if number % 2 else topic).publish(payload, type=event_type)
        for expected in sent:
            message = subscription.receive(timeout=10)
            assert message is not None
            assert (message, message.type) == expected


@pytest.mark.parametrize(
    ("event_type", "says"),
    [
        ("", "1 to 100"),
        ("x" * 101, "has 101"),
        ("a\nb", "line breaks"),
        ("a\rb", "line breaks"),
        ("a\u2028b", "line breaks"),
        ("\0", "control"),
        ("\ud800", "control"),
        (7, "not int"),
        (b"x", "not bytes"),
        *(
            (name, "reserved")
            for name in ("snapshot", "end", "reset", "expired", "state", "message", "error")
        ),
    ],
)
def test_a_bad_event_type_is_refused_before_anything_is_sent(
    channel: bridge.BroadcastChannel, event_type: Any, says: str
) -> None:
    """Neither what would break a line of a stream nor a type that a stream uses can be published."""
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        with pytest.raises(ValueError, match=f"event type.*{says}"):
            topic.publish(b"one", type=event_type)
        topic.publish(b"end")
        assert drain(subscription, b"end") == []


def test_nothing_published_after_subscribe_is_lost(channel: bridge.BroadcastChannel) -> None:
    """Of 1,000 messages, each published right after a subscribe returned, none is missing."""
    topic = channel.topic("orders")
    lost = 0
    for number in range(1000):
        with topic.subscribe() as subscription:
            topic.publish(b"%d" % number)
            lost += subscription.receive(timeout=5) != b"%d" % number
    assert lost == 0


def test_nothing_is_lost_between_processes_that_share_no_channel(connect: Connect) -> None:
    """A producer on another channel object reaches a subscription from the moment subscribe returned."""
    ours, theirs = connect(), connect()
    producer = theirs.topic("orders").as_producer()
    for number in range(200):
        with ours.topic("orders").subscribe() as subscription:
            producer.publish(b"%d" % number)
            assert subscription.receive(timeout=5) == b"%d" % number


def test_every_subscription_gets_every_message_of_its_topic_only(channel: bridge.BroadcastChannel) -> None:
    """Three subscriptions of one topic each get all of it in order, one of another topic gets none of it."""
    orders, others = channel.topic("orders"), channel.topic("others")
    subscriptions = [orders.subscribe() for _ in range(3)]
    apart = others.subscribe()
    sent = [b"%d" % number for number in range(100)]
    for payload in sent:
        orders.publish(payload)
    orders.publish(b"end")
    others.publish(b"end")
    for subscription in subscriptions:
        assert drain(subscription, b"end") == sent
    assert drain(apart, b"end") == []


def test_each_producer_keeps_its_order(channel: bridge.BroadcastChannel) -> None:
    """With eight threads publishing at once, nothing is lost and each thread's messages stay in order."""
    topic = channel.topic("orders")

    def publish(name: int) -> None:
        for number in range(100):
            topic.publish(b"%d:%d" % (name, number))

    with topic.subscribe() as subscription:
        threads = [threading.Thread(target=publish, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        topic.publish(b"end")
        received = drain(subscription, b"end")
    assert len(received) == 800
    for name in range(8):
        mine = [payload for payload in received if payload.startswith(b"%d:" % name)]
        assert mine == [b"%d:%d" % (name, number) for number in range(100)]


def test_receive_waits_no_longer_than_asked(channel: bridge.BroadcastChannel) -> None:
    """With nothing to receive, receive returns None when its timeout is over, at once for 0."""
    with channel.topic("orders").subscribe() as subscription:
        took = []
        for timeout in (0, 0, 0, 0.2, 0.2, 0.2):
            started = time.monotonic()
            assert subscription.receive(timeout=timeout) is None
            took.append(time.monotonic() - started)
        assert median(took[:3]) < 0.1
        assert 0.15 < median(took[3:]) < 2


@pytest.mark.parametrize("moment", ["before", "during", "after"])
def test_close_comes_from_any_thread_at_any_moment(channel: bridge.BroadcastChannel, moment: str) -> None:
    """A close before, during or after the reader's first call ends `receive(timeout=None)` within 100 ms."""
    topic = channel.topic("orders")
    # The median: a busy machine may hold up one of them.
    assert median(close_a_waiting_reader(topic, moment) for _ in range(5)) < 0.1


def close_a_waiting_reader(topic: bridge.Topic, moment: str) -> float:
    """Close a subscription at that moment; return after how many seconds its reader has ended."""
    subscription = topic.subscribe()
    if moment == "after":
        topic.publish(b"one")
        assert subscription.receive(timeout=5) == b"one"
    if moment == "before":
        subscription.close()
    thread, outcome = wait_in_receive(subscription)
    if moment != "before":
        # Nothing public shows that a thread waits.
        eventually(lambda: subscription._reader._changed._waiters)  # type: ignore[attr-defined]
    started = time.monotonic()
    subscription.close()
    thread.join(timeout=5)
    took = time.monotonic() - started
    assert type(outcome[0]) is bridge.SubscriptionClosed
    return took


def test_iterating_ends_quietly_when_closed(channel: bridge.BroadcastChannel) -> None:
    """A loop over a subscription ends without an error when it is closed, also before the loop began."""
    topic = channel.topic("orders")
    received = []
    with topic.subscribe() as subscription:
        topic.publish(b"one")
        for message in subscription:
            received.append(message)
            subscription.close()
    assert received == [b"one"]
    assert list(subscription) == []
    with pytest.raises(bridge.SubscriptionClosed, match="closed"):
        subscription.receive()
    subscription.close()


def test_a_reader_that_falls_behind_is_told(connect: Connect) -> None:
    """A full queue closes its reader with SlowConsumer, after what was queued, and disturbs no one else."""
    channel = connect(queue_size=10)
    topic = channel.topic("orders")
    slow, iterating, quick = topic.subscribe(), topic.subscribe(), topic.subscribe()
    for number in range(11):
        topic.publish(b"%d" % number)
        assert quick.receive(timeout=5) == b"%d" % number
    assert [slow.receive(timeout=5) for _ in range(10)] == [b"%d" % number for number in range(10)]
    with pytest.raises(bridge.SlowConsumer, match="queue_size"):
        slow.receive(timeout=5)
    with pytest.raises(bridge.SlowConsumer, match="'orders'"):
        list(iterating)
    topic.publish(b"more")
    assert quick.receive(timeout=5) == b"more"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "255"),
        ("x" * 256, "255"),
        ("a\nb", "control"),
        ("\0", "control"),
        ("\ud800", "control"),
        (7, "255"),
    ],
)
def test_a_bad_topic_name_is_refused_at_once(channel: bridge.BroadcastChannel, name: str, says: str) -> None:
    """A topic name outside the limits is a ValueError that names the limit."""
    with pytest.raises(ValueError, match=says):
        channel.topic(name)


def test_a_bad_payload_is_refused_before_anything_is_sent(channel: bridge.BroadcastChannel) -> None:
    """Text, None and one byte too many are ValueErrors that name the limit; a reader sees none of them."""
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        for payload in ("text", None, 7, b"x" * (LIMIT + 1)):
            with pytest.raises(ValueError, match=str(LIMIT)):
                topic.publish(payload)  # type: ignore[arg-type]  # wrong on purpose
        topic.publish(b"end")
        assert drain(subscription, b"end") == []


@pytest.mark.parametrize(
    "payload",
    [b"", b"\0", b"\r\n", bytes(range(256)), b"x" * LIMIT],
    ids=["empty", "nul", "line break", "every byte", "largest"],
)
def test_any_bytes_arrive_unchanged(channel: bridge.BroadcastChannel, payload: bytes) -> None:
    """Any bytes up to max_payload arrive as they were sent."""
    topic = channel.topic("orders")
    with topic.subscribe() as subscription:
        topic.publish(payload)
        assert subscription.receive(timeout=5) == payload


@pytest.mark.parametrize("name", ["x" * 255, "語" * 255, "a b:c*{d}?[e]", "ünï", "😀"])
def test_any_topic_name_within_the_limits_works(channel: bridge.BroadcastChannel, name: str) -> None:
    """Names of any script, with spaces and with what Redis takes for patterns, are names like others."""
    topic = channel.topic(name)
    with topic.subscribe() as subscription:
        topic.publish(b"one")
        message = subscription.receive(timeout=5)
    assert message is not None
    assert message.topic == name


def test_namespaces_keep_channels_apart(connect: Connect) -> None:
    """A channel of another namespace neither sends to nor receives from this one."""
    ours, theirs = connect(), connect(namespace="elsewhere")
    with ours.topic("orders").subscribe() as subscription:
        theirs.topic("orders").publish(b"theirs")
        ours.topic("orders").publish(b"end")
        assert drain(subscription, b"end") == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "b:{t:c"), ("a:{t:b", "c")),
        (("a", "{t:c"), ("a:{t", "c")),
        (("a", "b:c"), ("a:b", "c")),
        (("a{", "b"), ("a%7B", "b")),
        (("{x}", "b"), ("{x", "}b")),
    ],
)
def test_no_two_namespaces_share_a_topic(
    connect: Connect, one: tuple[str, str], other: tuple[str, str]
) -> None:
    """However alike a namespace and a topic are to others when they are put together, they stay apart."""
    own = f"{uuid.uuid4().hex}:"  # the server has keys of other tests
    with (
        connect(namespace=own + one[0]).topic(one[1]).subscribe() as first,
        connect(namespace=own + other[0]).topic(other[1]).subscribe() as second,
    ):
        connect(namespace=own + one[0]).topic(one[1]).publish(b"first")
        connect(namespace=own + other[0]).topic(other[1]).publish(b"second")
        assert second.receive(timeout=5) == b"second"
        assert first.receive(timeout=5) == b"first"
        connect(namespace=own + one[0]).topic(one[1]).publish(b"end")
        assert first.receive(timeout=5) == b"end"


def test_subscriptions_cost_no_thread_each_and_close_quickly(channel: bridge.BroadcastChannel) -> None:
    """50 subscriptions take one thread, the hub's, and closing all of them less than half a second."""
    topic = channel.topic("orders")
    before = threading.active_count()
    subscriptions = [topic.subscribe() for _ in range(50)]
    assert threading.active_count() <= before + 1
    started = time.monotonic()
    for subscription in subscriptions:
        subscription.close()
    assert time.monotonic() - started < 0.5


def test_topics_come_and_go_under_load(channel: bridge.BroadcastChannel) -> None:
    """Subscribing and closing from four threads on one topic, over and over, never misses a message."""
    topic = channel.topic("orders")
    lost: list[bytes] = []

    def churn(name: int) -> None:
        for number in range(100):
            mine = b"%d:%d" % (name, number)
            with topic.subscribe() as subscription:
                topic.publish(mine)
                message = subscription.receive(timeout=5)
                while message is not None and message != mine:
                    message = subscription.receive(timeout=5)
                if message is None:
                    lost.append(mine)

    threads = [threading.Thread(target=churn, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert lost == []


def test_closing_the_channel_closes_everything(connect: Connect) -> None:
    """After close, subscriptions end, publish and subscribe are refused, and the hub's thread is gone."""
    before = threading.active_count()
    channel = connect()
    topic = channel.topic("orders")
    subscription = topic.subscribe()
    channel.close()
    channel.close()
    assert list(subscription) == []
    with pytest.raises(bridge.PublishError, match="closed"):
        topic.publish(b"one")
    with pytest.raises(bridge.SubscriptionClosed, match="closed"):
        topic.subscribe()
    eventually(lambda: threading.active_count() <= before)


def in_child(work: Callable[[], None]) -> int:
    """Run `work` in a forked child; return the child's exit code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_starts_afresh(connect: Connect, url: str) -> None:
    """A child publishes and subscribes on the inherited channel without disturbing its parent."""
    channel = connect()
    topic = channel.topic("orders")
    topic.publish(b"before")
    subscription = topic.subscribe()

    def child() -> None:
        with pytest.raises(bridge.ConnectionLost, match="fork"):
            subscription.receive(timeout=5)
        topic.publish(b"child")
        with topic.subscribe() as own:
            topic.publish(b"own")
            assert own.receive(timeout=5) == b"own"

    assert in_child(child) == 0
    topic.publish(b"parent")
    from_child = [] if url.startswith("memory") else [b"child", b"own"]
    assert drain(subscription, b"parent") == from_child


class Watcher:
    """A reader of the hub that begins with the state of one topic and keeps every entry it is given."""

    stateful = opens_with_state = True

    def __init__(self, topic: str) -> None:
        self.topics = frozenset({topic})
        self.entries: list[bytes] = []

    def has(self, count: int) -> bool:
        return len(self.entries) >= count

    @property
    def post(self) -> Callable[[Sequence["Watcher"], Sequence[Item]], None]:
        return keep

    def establish(self, topic: str) -> None:
        """What it is given says by itself where it begins."""

    def room(self, items: Sequence[object]) -> int:
        return len(items)

    def fail(self, reason: bridge.SubscriptionClosed) -> None:
        """An entry that is none."""
        self.entries.append(repr(reason).encode())

    def reset_after_fork(self) -> None:
        """It stayed in the parent."""


def keep(watchers: Sequence[Watcher], items: Sequence[Item]) -> None:
    for item in items:
        entries: list[bytes] = [item] if isinstance(item, Message) else []
        if isinstance(item, States):
            entries = [entry for state in item.states for entry in state.entries]
        for watcher in watchers:
            watcher.entries += entries


def test_a_view_of_state_loses_and_repeats_nothing(channel: bridge.BroadcastChannel) -> None:
    """Whoever begins to watch in the midst of changes gets a state and exactly the changes after it."""
    name = bridge.task_topic("t1")
    transport = transport_of(channel)
    total = 300

    def publish() -> None:
        for number in range(total):
            transport.publish(events.make("log", "t1", level="info", message=str(number)))

    publisher = threading.Thread(target=publish)
    publisher.start()
    watchers = [Watcher(name) for _ in range(20)]
    for watcher in watchers:
        transport.hub.join(watcher)
    publisher.join()
    for watcher in watchers:
        eventually(partial(watcher.has, total))
        seen = [events.decoded(entry)["message"] for entry in watcher.entries]
        assert seen == [str(number) for number in range(total)]
        transport.hub.leave(watcher)


def test_a_change_below_the_rank_of_the_state_is_refused(channel: bridge.BroadcastChannel) -> None:
    """After a task's end neither a late progress event nor a second end is published or kept."""
    name = bridge.task_topic("t1")
    transport = transport_of(channel)

    def say(kind: str, **fields: Any) -> None:
        transport.publish(events.make(kind, "t1", **fields))

    with channel.topic(name).subscribe() as subscription, channel.topic(bridge.FEED).subscribe() as feed:
        say("state", state="STARTED")
        say("progress", current=1)
        say("state", state="REVOKED")
        say("progress", current=2)
        say("state", state="SUCCESS", result=1)
        say("state", state="PENDING")
        channel.topic(name).publish(b"end")
        channel.topic(bridge.FEED).publish(b"end")
        received = [events.decode(payload) for payload in drain(subscription, b"end")]
        assert [event.get("state", event["type"]) for event in received if event] == [
            "STARTED",
            "progress",
            "REVOKED",
        ]
        assert len(drain(feed, b"end")) == 3
    snapshot = events.snapshot(transport.states(name)[0], "t1")
    assert (snapshot["state"], snapshot["progress"]["current"]) == ("REVOKED", 1)
    assert [state.topic for state in transport.states(bridge.FEED)] == [name]
