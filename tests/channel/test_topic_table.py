"""The table of topics: which calls of the listener follow."""

from collections.abc import Sequence
from typing import Any

import pytest

from bridge.backends.base import Attached
from bridge.channel.topic_table import TopicTable
from bridge.model.message import Message
from bridge.model.position import BEGINNING, ORIGIN, Position, parse
from bridge.model.state import Retention


class Reader:
    """Takes all there is."""

    def __init__(self, *topics: str, stateful: bool = False) -> None:
        self.topics = frozenset(topics)
        self.stateful = self.opens_with_state = stateful
        self.established: set[str] = set()

    def establish(self, topic: str) -> None:
        self.established.add(topic)

    def room(self, items: Sequence[object]) -> int:
        return len(items)


class Listener:
    """Records its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))


@pytest.fixture
def table() -> Any:
    return TopicTable(Retention(60, 100))


def steps(table: Any) -> list[tuple[Any, ...]]:
    """Do what is pending; return the calls of the listener."""
    listener: Any = Listener()
    while table.pending:
        request, _ = table.next_step(listener)
        if request is not None:
            request()
    calls: list[tuple[Any, ...]] = listener.calls
    return calls


def test_a_topic_is_attached_for_the_first_reader_and_detached_after_the_last(table: Any) -> None:
    """However many there are in between."""
    first, second = Reader("a"), Reader("a")
    assert table.join(first, {})
    assert table.join(second, {})
    assert steps(table) == [("attach", "a")]
    table.take("a", Attached("a", ORIGIN))
    assert first.established == second.established == {"a"}
    assert not table.join(Reader("a"), {})
    for reader in table.readers():
        assert steps(table) == []
        table.leave(reader)
    assert steps(table) == [("detach", "a")]
    assert not table


def test_a_reader_that_leaves_before_the_topic_was_attached_costs_no_call(table: Any) -> None:
    """Neither attach nor detach."""
    reader = Reader("a")
    table.join(reader, {})
    table.leave(reader)
    assert steps(table) == []


def test_history_and_state_are_asked_for_when_the_topic_is_attached(table: Any) -> None:
    """One request at a time, and nothing before it is attached."""
    beginning = parse(BEGINNING)
    table.join(Reader("a"), {"a": beginning})
    table.join(Reader("a", stateful=True), {})
    assert steps(table) == [("attach", "a")]
    table.take("a", Attached("a", Position("e", 5, 0)))
    assert steps(table) == [("request_state", "a", None)]


def test_a_new_connection_attaches_every_topic_that_has_readers(table: Any) -> None:
    """The connection knows nothing of the one before it."""
    gone = Reader("b")
    for reader in (Reader("a"), gone, Reader("c")):
        table.join(reader, {})
    steps(table)
    table.leave(gone)
    table.on_disconnect()
    table.on_connect()
    assert sorted(steps(table)) == [("attach", "a"), ("attach", "c")]


def test_what_comes_of_a_topic_that_is_not_read_is_ignored(table: Any) -> None:
    """A message on its way when the last reader left, or of a topic that was removed."""
    reader = Reader("a")
    table.join(reader, {})
    steps(table)
    assert table.remove("a") == [reader]
    assert table.take("a", [Message(b"1", topic="a")]) == ()
    assert table.remove("a") == []


def test_a_reader_that_has_missed_nothing_is_established_at_once(table: Any) -> None:
    """It resumes where the topic is, so it costs no step of the hub; a reader behind does."""
    here = Position("1", 5, 50)
    first, resumed, behind = Reader("a"), Reader("a", stateful=True), Reader("a")
    table.join(first, {})
    steps(table)
    table.take("a", Attached("a", here))
    assert not table.join(resumed, {"a": here})
    assert resumed.established == {"a"}
    assert table.join(behind, {"a": here._replace(number=4)})
    assert not behind.established
