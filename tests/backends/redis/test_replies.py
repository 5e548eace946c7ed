"""What the server answers, as positions, messages and states."""

from bridge.backends.redis.replies import parse_head, parse_history, parse_messages, parse_states
from bridge.model.position import ORIGIN, Position


def entry(number: int) -> list[object]:
    return [b"99-%d" % number, [b"p", b"%d" % number, b"t", b"token"]]


def test_a_topic_without_messages_is_at_the_origin() -> None:
    """The fields of its hash are missing."""
    assert parse_head([None, None, None]) == ORIGIN
    assert parse_head([b"0a", b"7", b"99"]) == Position("0a", 7, 99)


def test_messages_before_a_missing_number_are_left_out() -> None:
    """Only what follows the last hole is returned, so a reader finds that messages are missing."""
    messages = parse_messages("orders", b"0a", [entry(1), entry(2), entry(5), entry(6)])
    assert [message.id for message in messages] == ["0a-5-99", "0a-6-99"]


def test_the_oldest_number_of_an_empty_stream_is_the_next_one() -> None:
    """A page says where the topic is and which message is the oldest that is kept."""
    head = [b"0a", b"7", b"99"]
    assert parse_history("orders", [head, [], [], 1]).oldest == 8
    page = parse_history("orders", [head, [entry(6), entry(7)], [entry(3)], 0])
    assert (page.oldest, page.complete, page.end) == (3, False, Position("0a", 7, 99))


def test_a_state_has_fields_entries_rows_and_counts() -> None:
    """Fields of the hash that begin with a dot are fields of the state."""
    pairs = [b"rank", b"2", b"entries", b"5", b".state", b"{}", b"counts", b"2 0 1 0 0 0"]
    (state,) = parse_states([[b"task:1", pairs, [b"one", b"two"], [b"row"]]])
    assert (state.fields, state.entries, state.omitted, state.rows) == (
        {"state": b"{}"},
        [b"one", b"two"],
        3,
        [b"row"],
    )
    assert state.counts is not None
    assert state.counts.running == 1
