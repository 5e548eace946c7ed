"""The background publisher: what it does while the backend is away."""

import itertools
import logging
import os
import signal
import threading
import time
from collections.abc import Sequence

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.errors import PublishError
from bridge.model.publication import Publication
from bridge.tasks.publisher import BackgroundPublisher
from tests import events
from tests.servers import Valkey, eventually, free_port

TOPIC = bridge.task_topic("t1")


def put(publisher: BackgroundPublisher, text: str) -> None:
    publisher.put(events.make("log", "t1", level="info", message=text))


def texts(channel: bridge.BroadcastChannel) -> list[str]:
    """The messages of the log events that the backend has kept."""
    states = transport_of(channel).states(TOPIC)
    return [event["message"] for state in states for event in map(events.decode, state.entries) if event]


def test_messages_are_sent_in_order(valkey: Valkey) -> None:
    """After a flush, all that was put is with the backend, in order."""
    channel = bridge.connect(valkey.url("redis+pubsub"), namespace="in-order")
    publisher = BackgroundPublisher(transport_of(channel))
    for number in range(500):
        put(publisher, str(number))
    assert publisher.flush(10)
    assert texts(channel) == [str(number) for number in range(500)]
    publisher.close()


def test_batches_arrive_whole_and_in_order() -> None:
    """Also where the server forgets its scripts meanwhile, or is killed and started again."""
    server = Valkey.durable().start()
    channel = bridge.connect(server.url("redis"), timeout=2)
    publisher = BackgroundPublisher(transport_of(channel))
    for number in range(3000):
        put(publisher, str(number))
        if number == 1000:
            server.command("SCRIPT", "FLUSH")
        if number == 2000:
            server.kill()
            server.start()
    eventually(lambda: publisher.flush(10))
    told = map(events.decode, channel.topic(TOPIC).as_subscriber().history(limit=10_000))
    assert [event["message"] for event in told if event] == [str(number) for number in range(3000)]
    publisher.close()
    server.stop()


def test_what_several_say_with_one_token_is_said_once(valkey: Valkey) -> None:
    """Two processes that find the same publish one message."""
    urls = [valkey.url("redis")] * 2
    publishers = [BackgroundPublisher(transport_of(bridge.connect(url, namespace="tokens"))) for url in urls]
    for publisher in publishers:
        stalled = events.make("state", "t1", state="STALLED")
        stalled.token, stalled.repeated = b"0123456789abcdef", True
        publisher.put(stalled)
        assert publisher.flush(10)
    with bridge.connect(urls[0], namespace="tokens") as channel:
        assert len(channel.topic(TOPIC).as_subscriber().history(limit=10)) == 1
    for publisher in publishers:
        publisher.close()


def test_an_outage_costs_neither_time_nor_messages(caplog: pytest.LogCaptureFixture) -> None:
    """While the server is down neither put nor flush waits; afterwards all arrives in order."""
    server = Valkey().start()
    channel = bridge.connect(server.url("redis+pubsub"))
    publisher = BackgroundPublisher(transport_of(channel))
    put(publisher, "before")
    assert publisher.flush(10)
    server.kill()
    with caplog.at_level(logging.WARNING, "bridge"):
        started = time.monotonic()
        for number in range(1000):
            put(publisher, str(number))
            publisher.flush(5)
        assert time.monotonic() - started < 5
        assert len(caplog.records) == 1
        server.start()
        eventually(lambda: publisher.flush(10))
    assert texts(channel) == [
        str(number) for number in range(1000)
    ]  # a restarted server has forgotten the rest
    assert len(caplog.records) == 2
    publisher.close()
    server.stop()


def test_a_server_that_hangs_is_waited_for_once() -> None:
    """With the server stopped in mid-air the first flush waits for its timeout, the others do not."""
    server = Valkey().start()
    publisher = BackgroundPublisher(transport_of(bridge.connect(server.url("redis+pubsub"))))
    put(publisher, "before")
    assert publisher.flush(10)
    server.signal(signal.SIGSTOP)
    started = time.monotonic()
    for number in range(100):
        put(publisher, str(number))
        assert not publisher.flush(0.3)
    assert time.monotonic() - started < 1
    server.signal(signal.SIGCONT)
    eventually(lambda: publisher.flush(10))
    publisher.close()
    server.stop()


def test_too_large_a_payload_is_refused_at_the_call() -> None:
    """A payload over max_payload is the caller's ValueError, not a line in a log later."""
    publisher = BackgroundPublisher(transport_of(bridge.connect("memory://publisher", max_payload=10)))
    with pytest.raises(ValueError, match="10"):
        put(publisher, "much too long")
    publisher.close()


def test_a_forked_child_sends_its_own(valkey: Valkey) -> None:
    """A child sends what it puts, and not what its parent had put."""
    channel = bridge.connect(valkey.url("redis+pubsub"), namespace="forked")
    publisher = BackgroundPublisher(transport_of(channel))
    put(publisher, "parent")
    assert publisher.flush(10)
    child = os.fork()
    if child == 0:
        put(publisher, "child")
        os._exit(0 if publisher.flush(10) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert texts(channel) == ["parent", "child"]
    publisher.close()


def test_closing_ends_the_thread() -> None:
    """After close the publisher has no thread, whether or not the backend could be reached."""
    before = threading.active_count()
    publisher = BackgroundPublisher(
        transport_of(bridge.connect(f"redis+pubsub://127.0.0.1:{free_port()}", timeout=0.5))
    )
    put(publisher, "never sent")
    publisher.close()
    eventually(lambda: threading.active_count() <= before)


def test_what_was_confirmed_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that takes one message at a time, and is away in between, gets each once and in order."""
    channel = bridge.connect("memory://")
    taken: list[bytes] = []
    tries = itertools.count()

    def publish_many(publications: Sequence[Publication]) -> int:
        if next(tries) == 1:
            raise PublishError("away")
        taken.append(publications[0].payload)
        return 1

    transport = transport_of(channel)
    monkeypatch.setattr(transport, "publish_many", publish_many)
    publisher = BackgroundPublisher(transport)
    with publisher._changed:
        for payload in (b"one", b"two", b"three"):
            publisher.put(Publication("t", payload))
    eventually(lambda: len(taken) >= 3)
    assert publisher.flush(5)
    assert taken == [b"one", b"two", b"three"]
    publisher.close()


def test_what_is_left_of_a_batch_is_sent_as_a_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that published a part of a batch may have published more of it: it is told so, in order."""
    channel = bridge.connect("memory://")
    asked: list[tuple[list[bytes], bool]] = []

    def publish_many(publications: Sequence[Publication]) -> int:
        again = {publication.repeated for publication in publications}
        asked.append(([publication.payload for publication in publications], again == {True}))
        return min(2, len(publications))

    transport = transport_of(channel)
    monkeypatch.setattr(transport, "publish_many", publish_many)
    publisher = BackgroundPublisher(transport)
    with publisher._changed:
        for payload in (b"1", b"2", b"3", b"4", b"5"):
            publisher.put(Publication("t", payload))
    assert publisher.flush(5)
    publisher.put(Publication("t", b"6"))
    assert publisher.flush(5)
    assert asked == [
        ([b"1", b"2", b"3", b"4", b"5"], False),
        ([b"3", b"4", b"5"], True),
        ([b"5"], True),
        ([b"6"], False),
    ]
    publisher.close()
