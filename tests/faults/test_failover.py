"""Replication loses writes that were acknowledged; no reader goes on across such a hole untold."""

import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass

import pytest

import bridge
from tests.servers import Cluster, Replicated, Sentinel, Valkey, eventually

pytestmark = pytest.mark.timeout(300)

TOPIC = "numbers"
SECONDS = 60

KINDS: dict[str, Callable[[], Replicated]] = {"sentinel": Sentinel, "cluster": lambda: Cluster(replicas=1)}


class Stoppable(threading.Thread):
    """A thread that goes on until `stop`."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name)
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()
        if self.is_alive():
            self.join()


class Publisher(Stoppable):
    """Publishes its numbers one after the other, and keeps those that were acknowledged. Repeats none."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(name)
        self._channel = bridge.connect(url, timeout=1)
        self.begun = -1
        self.acknowledged: list[int] = []

    def run(self) -> None:
        producer = self._channel.topic(TOPIC).as_producer()
        while not self._stopped.is_set():
            self.begun += 1
            try:
                producer.publish(f"{self.name} {self.begun}".encode())
                self.acknowledged.append(self.begun)
            except bridge.PublishError:
                self._stopped.wait(0.05)
            self._stopped.wait(0.001)
        self._channel.close()

    def await_more(self, count: int) -> None:
        """Wait until `count` more numbers are acknowledged."""
        enough = len(self.acknowledged) + count
        eventually(lambda: len(self.acknowledged) >= enough, SECONDS, f"{self.name} cannot publish")


@dataclass
class Segment:
    """What one subscription received, by publisher, and the first number each publisher owes it."""

    owed_from: dict[str, int]
    received: dict[str, list[int]]
    lost: bool = False


class Reader(Stoppable):
    """Reads, and subscribes anew whenever it is told that its position is lost."""

    def __init__(self, url: str, publishers: list[Publisher]) -> None:
        super().__init__("reader")
        self._channel = bridge.connect(url, timeout=1)
        self._publishers = publishers
        self.segments: list[Segment] = []
        self._subscription = self._subscribe()

    def _subscribe(self) -> bridge.Subscription:
        while True:
            try:
                subscription = self._channel.topic(TOPIC).subscribe()
            except bridge.ConnectionLost:
                continue
            owed_from = {publisher.name: publisher.begun + 1 for publisher in self._publishers}
            self.segments.append(Segment(owed_from, defaultdict(list)))
            return subscription

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                message = self._subscription.receive(timeout=0.1)
            except bridge.PositionLost:
                self.segments[-1].lost = True
                self._subscription = self._subscribe()
                continue
            if message is not None:
                name, number = message.decode().split()
                self.segments[-1].received[name].append(int(number))
        self._channel.close()

    def has(self, publisher: Publisher) -> bool:
        """Whether it has the last number that was acknowledged, or subscribed after it."""
        segment = self.segments[-1]
        last = publisher.acknowledged[-1]
        return last < segment.owed_from[publisher.name] or last in segment.received[publisher.name][-50:]


def judge(segment: Segment, publisher: Publisher) -> None:
    """Fail if a number came twice or out of order, or if one that was acknowledged is silently left out."""
    received = segment.received[publisher.name]
    assert received == sorted(set(received)), f"{publisher.name}: twice or out of order"
    owed = {number for number in publisher.acknowledged if number >= segment.owed_from[publisher.name]}
    if segment.lost:
        owed = {number for number in owed if received and number <= received[-1]}
    missing = sorted(owed - set(received))
    assert not missing, f"{publisher.name}: {len(missing)} acknowledged and unnoticed lost: {missing[:10]}"


def killed(servers: Replicated, old: Valkey, replica: Valkey) -> None:
    """The primary is killed (-9) and comes back as a replica."""
    old.kill()
    servers.await_takeover(replica)
    old.start()


def paused(servers: Replicated, old: Valkey, replica: Valkey) -> None:
    """The primary is stopped, and goes on, still thinking it is one, when the replica has taken over."""
    old.signal(signal.SIGSTOP)
    eventually(lambda: replica.info("replication")["role"] == "master", SECONDS, "no takeover")
    old.signal(signal.SIGCONT)
    servers.await_return(old)


@pytest.mark.parametrize("how", [killed, paused])
@pytest.mark.parametrize("kind", KINDS)
def test_no_hole_goes_unnoticed(kind: str, how: Callable[[Replicated, Valkey, Valkey], None]) -> None:
    """Two publishers and a failover: every acknowledged number is received, or PositionLost is raised."""
    with KINDS[kind]() as servers, ExitStack() as running:
        publishers = [Publisher(servers.url(), name) for name in ("ann", "bob")]
        reader = Reader(servers.url(), publishers)
        for thread in (reader, *publishers):
            running.callback(thread.stop)
            thread.start()
        for publisher in publishers:
            publisher.await_more(100)
        old = servers.primary(TOPIC)
        how(servers, old, servers.replica(old))
        for publisher in publishers:
            publisher.await_more(200)
            publisher.stop()
        eventually(lambda: all(map(reader.has, publishers)), SECONDS, "the last numbers do not arrive")
    for segment in reader.segments:
        for publisher in publishers:
            judge(segment, publisher)


@dataclass
class OlderCopy:
    """A failover to a copy that has the first 50 of 150 numbers; 200 more were published after it."""

    channel: bridge.BroadcastChannel
    ids: list[str]
    subscription: bridge.Subscription
    """Opened before the first number, and read up to the last before the failover."""


@pytest.fixture(scope="module", params=KINDS)
def older_copy(request: pytest.FixtureRequest) -> Iterator[OlderCopy]:
    with (
        KINDS[request.param]() as servers,
        closing(bridge.connect(servers.url())) as channel,
        channel.topic(TOPIC).subscribe() as subscription,
    ):
        topic = channel.topic(TOPIC)
        ids = [topic.publish(b"%d" % number) or "" for number in range(50)]
        old = servers.primary(TOPIC)
        replica = servers.replica(old)
        offset = old.info("replication")["master_repl_offset"]
        eventually(lambda: replica.info("replication")["slave_repl_offset"] >= offset)
        servers.cut(old, replica)
        ids += [topic.publish(b"%d" % number) or "" for number in range(50, 150)]
        for number in range(150):
            assert subscription.receive(timeout=5) == b"%d" % number
        old.kill()
        servers.await_takeover(replica)
        for number in range(150, 350):
            _publish(topic, b"%d" % number)
        yield OlderCopy(channel, ids, subscription)


def _publish(topic: bridge.Topic, payload: bytes) -> None:
    """Publish, though the first attempts may still find the old primary."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            topic.publish(payload)
        except bridge.PublishError:
            if time.monotonic() > deadline:
                raise
        else:
            return


def contiguous(subscription: bridge.Subscription, first: int, last: int) -> None:
    """Receive the numbers from `first` to `last`, each once, or `PositionLost` instead of a hole."""
    for number in range(first, last + 1):
        message = subscription.receive(timeout=SECONDS)
        assert message == b"%d" % number, f"{message!r} where {number} follows"


def test_an_open_subscription_notices_an_older_copy(older_copy: OlderCopy) -> None:
    """A subscription that has received more than the new primary has raises PositionLost."""
    with pytest.raises(bridge.PositionLost):
        contiguous(older_copy.subscription, 150, 349)


@pytest.mark.parametrize("number", [50, 100, 149])
def test_an_id_that_the_older_copy_never_had_is_noticed(older_copy: OlderCopy, number: int) -> None:
    """The id of a lost message raises PositionLost, also where the new primary has as many messages again."""
    with pytest.raises(bridge.PositionLost):  # noqa: SIM117
        with older_copy.channel.topic(TOPIC).subscribe(after=older_copy.ids[number]) as subscription:
            contiguous(subscription, number + 1, 349)


@pytest.mark.parametrize("number", [0, 20, 49])
def test_who_resumes_before_the_hole_is_told_of_it(older_copy: OlderCopy, number: int) -> None:
    """Who has read less than the older copy gets PositionLost where the acknowledged messages are missing."""
    with pytest.raises(bridge.PositionLost):  # noqa: SIM117
        with older_copy.channel.topic(TOPIC).subscribe(after=older_copy.ids[number]) as subscription:
            contiguous(subscription, number + 1, 349)
