"""The cursor of a stream, read and written."""

import pytest

import bridge
from bridge.model.position import parse
from bridge.streams.cursor import Cursor, CursorWriter, parse_cursor

TASK, PLAIN = bridge.task_topic("t1"), "orders"
TOPICS = (TASK, PLAIN)
ID = "0a-1-7"


def test_without_a_cursor_every_topic_begins_with_its_state() -> None:
    """No text and empty text mean the same."""
    assert parse_cursor(None, TOPICS) == parse_cursor("", TOPICS) == Cursor()


def test_a_cursor_has_one_word_for_each_topic() -> None:
    """A word is an id, `end` or nothing."""
    assert parse_cursor(f"end,{ID}", TOPICS) == Cursor({PLAIN: parse(ID)}, frozenset({TASK}))
    assert parse_cursor(f"{ID},", TOPICS) == Cursor({TASK: parse(ID)})


def test_beginning_stands_for_every_topic() -> None:
    """`BEGINNING` alone is the cursor of all topics."""
    after = dict.fromkeys(TOPICS, parse(bridge.BEGINNING))
    assert parse_cursor(bridge.BEGINNING, TOPICS) == Cursor(after)


@pytest.mark.parametrize("text", ["yesterday", ID, f"{ID},{ID},{ID}", "end,yesterday"])
def test_a_cursor_of_another_stream_is_lost(text: str) -> None:
    """Text that is no cursor of these topics names no position."""
    assert parse_cursor(text, TOPICS) == Cursor(lost=True)


def test_only_a_task_ends() -> None:
    """`end` for a topic that is no task means that it begins with its state."""
    cursor = parse_cursor("end,end", TOPICS)
    assert cursor.ended == {TASK}
    assert cursor.unfinished(TOPICS) == {PLAIN}


def test_a_word_asks_for_the_position_of_a_topic() -> None:
    """`now` names no position and asks to be told one."""
    assert parse_cursor(f"{ID},now", TOPICS) == Cursor({TASK: parse(ID)}, told=frozenset({PLAIN}))


def test_what_is_written_can_be_read() -> None:
    """The writer begins with the cursor of the request, and its text is the cursor from there on."""
    begun = parse_cursor(f"{ID},{ID}", TOPICS)
    writer = CursorWriter(TOPICS, begun)
    assert parse_cursor(writer.text(), TOPICS) == begun
    writer.advance(PLAIN, "0a-1-8")
    assert writer.text() == f"{ID},0a-1-8"
    writer.advance(PLAIN, None)
    writer.end(TASK)
    assert writer.text() == "end,"
    assert parse_cursor(writer.text(), TOPICS) == Cursor(ended=frozenset({TASK}))
