"""Sources of messages: when they are asked."""

import itertools
import logging
import time

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks.publisher import BackgroundPublisher
from bridge.tasks.sources import Sources
from tests import events
from tests.servers import eventually
from tests.tasks.test_publisher import TOPIC, put, texts


class Counter:
    """A source that has a new number whenever it is asked, `times` times."""

    def __init__(self, times: int) -> None:
        self.times = times
        self.asked: list[float] = []
        self.due = 0.0
        self.waiting = False

    def take(self) -> Publication | None:
        self.asked.append(time.monotonic())
        self.waiting = len(self.asked) < self.times
        self.due = time.monotonic() + 0.05
        return events.make("log", "t1", level="info", message=str(len(self.asked)))

    def reset_after_fork(self) -> None:
        self.waiting = False


def test_a_source_is_asked_when_it_is_due_until_it_has_no_more() -> None:
    """It is asked at once, then each time it is due, without any other message to drive it."""
    channel = bridge.connect("memory://source")
    publisher = BackgroundPublisher(transport_of(channel))
    source = Counter(4)
    publisher.watch(TOPIC, source)
    assert len(source.asked) == 1
    eventually(lambda: texts(channel) == ["1", "2", "3", "4"])
    pauses = [later - sooner for sooner, later in itertools.pairwise(source.asked)]
    assert min(pauses) >= 0.05
    publisher.close()


def test_a_source_is_asked_before_the_state_changes() -> None:
    """What a source still has to say goes out before a change of its topic's state, due or not."""
    channel = bridge.connect("memory://source-state")
    publisher = BackgroundPublisher(transport_of(channel))
    source = Counter(3)
    publisher.watch(TOPIC, source)
    put(publisher, "an entry changes nothing")
    publisher.put(events.make("state", "t1", state="SUCCESS"))
    assert publisher.flush(10)
    assert texts(channel)[:3] == ["1", "an entry changes nothing", "2"]
    publisher.close()


def test_a_source_that_fails_costs_no_message(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error while a source is asked is logged, and the others are sent as ever."""
    channel = bridge.connect("memory://source-error")
    publisher = BackgroundPublisher(transport_of(channel))
    source = Counter(2)
    publisher.watch(TOPIC, source)
    with caplog.at_level(logging.ERROR, "bridge"):
        monkeypatch.setattr(source, "take", lambda: 1 / 0)
        eventually(lambda: "could not be published" in caplog.text)
    put(publisher, "after")
    eventually(lambda: texts(channel) == ["1", "after"])
    publisher.close()


def test_a_source_waits_until_it_is_due() -> None:
    """It is asked at once if it is due, else it waits; one that has no more is forgotten."""
    sources, source = Sources(), Counter(2)
    assert sources.wait() is None
    assert sources.add(TOPIC, source) is not None
    assert 0 < (sources.wait() or 0) <= 0.05
    assert list(sources.ask_due()) == []
    time.sleep(0.06)
    assert len(list(sources.ask_due())) == 1
    assert sources.wait() is None
    assert sources.ask(TOPIC) is None
    assert len(source.asked) == 2


def test_a_fork_forgets_the_sources() -> None:
    """The child asks none of them, and each knows that nobody will."""
    sources, source = Sources(), Counter(9)
    sources.add(TOPIC, source)
    sources.reset_after_fork()
    assert not source.waiting
    assert sources.wait() is None
