"""What waits to be sent to one viewer."""

from bridge.streams.backlog import SEND_SIZE, Backlog, Entry
from bridge.streams.rendering import Text


def backlog(*entries: Entry) -> Backlog:
    made = Backlog(since=0)
    for entry in entries:
        made.put(entry)
    return made


def test_bytes_leave_in_order_and_in_part() -> None:
    """What is sent may end within an entry; sizes follow."""
    waiting = backlog(Entry(b"history", None, live=False), Entry(b"live", None, live=True))
    assert waiting.next_bytes() == b"historylive"
    assert (waiting.size, waiting.live) == (11, 4)
    assert not waiting.remove(8)
    assert waiting.next_bytes() == b"ive"
    assert (waiting.size, waiting.live) == (3, 3)
    assert waiting.remove(3)
    assert (waiting.size, waiting.live) == (0, 0)


def test_newer_progress_replaces_older() -> None:
    """Progress of the same topic gives way in its place, that of another topic does not."""
    waiting = backlog(
        Entry(b"log,", None, live=True),
        Entry(b"a1,", "a", live=True),
        Entry(b"b1,", "b", live=True),
        Entry(b"a2", "a", live=True),
    )
    assert waiting.next_bytes() == b"log,b1,a2"
    assert waiting.size == waiting.live == 9


def test_progress_that_may_be_partly_sent_is_kept() -> None:
    """The first entry may be on its way, so it stays; what was sent replaces nothing."""
    waiting = backlog(Entry(b"a1,", "a", live=True), Entry(b"a2,", "a", live=True))
    assert waiting.next_bytes() == b"a1,a2,"
    waiting.remove(3)
    waiting.put(Entry(b"a3", "a", live=True))
    assert waiting.next_bytes() == b"a2,a3"
    assert waiting.remove(5)


def test_one_call_sends_a_bounded_part() -> None:
    """An entry that is larger alone is not split."""
    large = b"x" * (SEND_SIZE + 1)
    waiting = backlog(Entry(large, None, live=True), Entry(b"next", None, live=True))
    assert waiting.next_bytes() is large
    waiting.remove(len(large))
    assert waiting.next_bytes() == b"next"


def test_what_is_partly_sent_stays_whole() -> None:
    """All viewers share the bytes of a text, so a viewer that has got a part of it makes no copy."""
    data = b"x" * 1000
    waiting = backlog(Entry(data, None, live=True))
    assert not waiting.remove(400)
    assert not waiting.remove(400)
    (entry,) = waiting
    assert entry.data is data
    assert (waiting.next_bytes(), waiting.size, waiting.live) == (b"x" * 200, 200, 200)
    assert waiting.remove(200)


def test_replaced_progress_keeps_no_text() -> None:
    """Nothing of progress that gave way stays in memory."""
    waiting = backlog(Entry(b"log", None, live=True))
    text = Text(b"old", progress="a")
    waiting.put(Entry(text.raw, "a", True, text))
    waiting.put(Entry(b"new", "a", live=True))
    assert [(entry.data, entry.text) for entry in waiting] == [(b"log", None), (b"", None), (b"new", None)]
