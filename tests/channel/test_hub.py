"""The hub against a backend whose every step the test decides."""

import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

import bridge
from bridge.backends.base import Attached, ListenerEvent
from bridge.channel.hub import Hub
from bridge.channel.queued_reader import QueuedReader
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.state import Retention
from bridge.support.backoff import LONGEST_DELAY, backoff
from tests.servers import eventually


class ScriptedReader:
    """Answers what the test puts into it; raises it if it is an error."""

    def __init__(self, confirm: bool = True) -> None:
        self.confirm = confirm
        self.closed = threading.Event()
        self.attached: list[str] = []
        self.detached: list[str] = []
        self._events: queue.Queue[ListenerEvent | Exception | None] = queue.Queue()

    def put(self, event: ListenerEvent | Exception) -> None:
        self._events.put(event)

    def attach(self, topic: str) -> None:
        self.attached.append(topic)
        if self.confirm:
            self.put(Attached(topic))

    def detach(self, topic: str) -> None:
        self.detached.append(topic)

    def request_state(self, topic: str, after: str | None) -> None:
        raise AssertionError(f"nobody asked for the state of {topic}")

    def request_history(self, topic: str, start: Position) -> None:
        raise AssertionError(f"nobody asked for the history of {topic}")

    def poll(self) -> Sequence[ListenerEvent]:
        event = self._events.get(timeout=10)
        if isinstance(event, Exception):
            raise event
        return [] if event is None else [event]

    def wake(self) -> None:
        self._events.put(None)

    def close(self) -> None:
        self.closed.set()


class ScriptedBackend:
    """Hands out the readers of a list, one a connection; then cannot be reached."""

    def __init__(self, *readers: ScriptedReader) -> None:
        self.readers = list(readers)
        self.opened = 0

    def open_listener(self) -> ScriptedReader:
        if not self.readers:
            raise bridge.ConnectionLost("nobody answers")
        self.opened += 1
        return self.readers.pop(0)


@pytest.fixture
def hubs() -> Iterator[list[Hub]]:
    made: list[Hub] = []
    yield made
    for hub in made:
        hub.close()


def hub_of(hubs: list[Hub], backend: ScriptedBackend) -> Hub:
    # The hub only opens listeners; the rest of a backend is for publishers.
    hub = Hub(backend, Retention(60, 100))  # type: ignore[arg-type]
    hubs.append(hub)
    return hub


def make_hub(hubs: list[Hub], *readers: ScriptedReader) -> Hub:
    return hub_of(hubs, ScriptedBackend(*readers))


def join(hub: Hub, topic: str) -> QueuedReader:
    """Return a new reader of `topic`."""
    reader = QueuedReader(hub, [topic], queue_size=100)
    hub.join(reader)
    return reader


def test_a_subscription_is_established_by_the_backend_not_before(hubs: list[Hub]) -> None:
    """Until the backend confirms the topic, a subscription is not established."""
    reader = ScriptedReader(confirm=False)
    subscription = join(make_hub(hubs, reader), "a")
    eventually(lambda: reader.attached)
    assert not subscription.wait_established(0.05)
    reader.put(Attached("a"))
    assert subscription.wait_established(5)


def test_the_last_reader_detaches_the_topic(hubs: list[Hub]) -> None:
    """The topic is attached once for two readers, and detached when the second has left."""
    reader = ScriptedReader()
    hub = make_hub(hubs, reader)
    first, second = join(hub, "a"), join(hub, "a")
    assert first.wait_established(5)
    assert second.wait_established(5)
    first.close()
    reader.put(Message(b"one", topic="a"))
    assert second.receive(5) == b"one"
    assert reader.detached == []
    second.close()
    eventually(lambda: reader.detached == ["a"])
    assert reader.attached == ["a"]


def test_nobody_waits_while_the_backend_is_asked(hubs: list[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend that takes its time to attach one topic holds up no call, as event loops make them."""
    reader = ScriptedReader()
    asked, go_on = threading.Event(), threading.Event()
    attach = reader.attach

    def slow(topic: str) -> None:
        asked.set()
        assert go_on.wait(10)
        attach(topic)

    monkeypatch.setattr(reader, "attach", slow)
    hub = make_hub(hubs, reader)
    first = join(hub, "a")
    assert asked.wait(5)
    started = time.monotonic()
    second = join(hub, "b")
    join(hub, "c").close()
    assert time.monotonic() - started < 1
    go_on.set()
    assert first.wait_established(5)
    assert second.wait_established(5)


def test_a_lost_connection_is_replaced_with_every_topic(hubs: list[Hub]) -> None:
    """After a loss the next connection gets every topic that is still read, and the readers a gap."""
    first, second = ScriptedReader(), ScriptedReader()
    hub = make_hub(hubs, first, second)
    a, b = join(hub, "a"), join(hub, "b")
    assert a.wait_established(5)
    assert b.wait_established(5)
    first.put(bridge.ConnectionLost("gone"))
    for subscription in (a, b):
        assert isinstance(subscription.receive(5), bridge.Gap)
    assert sorted(second.attached) == ["a", "b"]
    assert first.closed.is_set()
    assert hub.connections_lost == 1


def test_a_subscription_opened_during_an_outage_sees_no_gap(hubs: list[Hub]) -> None:
    """What was not yet established cannot have missed anything."""
    first, second = ScriptedReader(), ScriptedReader()
    backend = ScriptedBackend(first)
    hub = hub_of(hubs, backend)
    before = join(hub, "a")
    assert before.wait_established(5)
    first.put(bridge.ConnectionLost("gone"))
    eventually(lambda: hub.last_error)
    during = join(hub, "a")
    backend.readers.append(second)
    assert during.wait_established(5)
    second.put(Message(b"one", topic="a"))
    assert during.receive(5) == b"one"
    assert isinstance(before.receive(5), bridge.Gap)


def test_an_unexpected_error_ends_every_subscription_with_its_cause(
    hubs: list[Hub], caplog: pytest.LogCaptureFixture
) -> None:
    """A hub that breaks closes its subscriptions, says why, and the next subscribe starts another."""
    first, second = ScriptedReader(), ScriptedReader()
    hub = make_hub(hubs, first, second)
    subscription = join(hub, "a")
    assert subscription.wait_established(5)
    cause = ZeroDivisionError("a bug")
    with caplog.at_level(logging.ERROR, "bridge.channel.hub"):
        first.put(Message(b"last", topic="a"))
        first.put(cause)
        assert subscription.receive(5) == b"last"
        with pytest.raises(bridge.ConnectionLost, match="a bug") as ended:
            subscription.receive(5)
    assert ended.value.__cause__ is cause
    assert "the hub ended" in caplog.text
    again = join(hub, "a")
    assert again.wait_established(5)


def test_a_hub_that_nobody_waits_for_rests(hubs: list[Hub]) -> None:
    """With no subscription left, a lost connection is not opened again until someone subscribes."""
    first, second = ScriptedReader(), ScriptedReader()
    backend = ScriptedBackend(first, second)
    hub = hub_of(hubs, backend)
    subscription = join(hub, "a")
    assert subscription.wait_established(5)
    subscription.close()
    first.put(bridge.ConnectionLost("gone"))
    eventually(lambda: hub._thread is None)
    assert backend.opened == 1
    assert join(hub, "a").wait_established(5)


def test_backoff_grows_to_its_bound_with_jitter() -> None:
    """Waiting times are random, never zero, and never above the longest delay."""
    early = [backoff(0) for _ in range(200)]
    late = [backoff(50) for _ in range(200)]
    assert min(early) > 0
    assert max(early) <= 0.1
    assert max(late) <= LONGEST_DELAY
    assert max(late) > LONGEST_DELAY / 2
    assert len(set(late)) > 100
