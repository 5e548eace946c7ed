"""The cache of a topic's last messages."""

import pytest

from bridge.channel.history_cache import CACHE_BYTES, HistoryCache
from bridge.model.message import Message
from bridge.model.position import ORIGIN, Position

SOME = b"x" * (CACHE_BYTES // 10)


def messages(
    first: int, last: int, *, epoch: str = "a", mark: int = 0, payload: bytes = b""
) -> list[Message]:
    """Messages with these numbers. The mark of each is its number and `mark`."""
    return [
        Message(payload, topic="t", id=str(Position(epoch, number, number + mark)))
        for number in range(first, last + 1)
    ]


def numbers(cache: HistoryCache) -> list[int]:
    return [message.position.number for message in cache.messages if message.position]


@pytest.mark.parametrize(
    ("first", "last", "kept"),
    [
        (9, 12, (5, 12)),
        (11, 12, (5, 12)),
        (6, 7, (5, 10)),
        (12, 13, (12, 13)),
        (2, 6, (2, 10)),
        (2, 4, (2, 10)),
    ],
)
def test_a_page_joins_what_is_kept_where_the_two_meet(first: int, last: int, kept: tuple[int, int]) -> None:
    """Before, after and among the messages 5 to 10; with a hole between them only the page is kept."""
    cache = HistoryCache()
    cache.add_page(messages(5, 10))
    cache.add_page(messages(first, last))
    assert numbers(cache) == list(range(kept[0], kept[1] + 1))


@pytest.mark.parametrize(
    "page",
    [
        *(messages(first, last, epoch="b") for first, last in ((1, 4), (1, 7), (5, 10), (8, 12), (11, 12))),
        *(messages(first, last, mark=50) for first, last in ((1, 7), (5, 10), (8, 12))),
    ],
)
def test_messages_of_two_logs_are_never_mixed(page: list[Message]) -> None:
    """After a flush or a failover the numbers may fit, but the messages are others."""
    cache = HistoryCache()
    cache.add_page(messages(5, 10))
    cache.add_page(page)
    assert [message.id for message in cache.messages] == [message.id for message in page]


def test_a_page_that_differs_at_its_end_replaces_what_is_kept() -> None:
    """A failover has replaced the last messages; those before are the same."""
    cache = HistoryCache()
    cache.add_page(messages(5, 10))
    page = [*messages(7, 8), *messages(9, 10, mark=50)]
    cache.add_page(page)
    assert [message.id for message in cache.messages] == [message.id for message in page]


@pytest.mark.parametrize(
    ("live", "kept"),
    [
        (messages(11, 12), range(5, 13)),
        (messages(9, 12), range(5, 13)),
        (messages(5, 10), range(5, 11)),
        (messages(12, 13), range(5, 11)),
        (messages(11, 12, epoch="b"), range(5, 11)),
    ],
)
def test_live_messages_are_kept_if_they_follow(live: list[Message], kept: range) -> None:
    """Not if one is missing before them, and not those of another epoch."""
    cache = HistoryCache()
    cache.add_page(messages(5, 10))
    cache.add_live(live)
    assert numbers(cache) == list(kept)


def test_an_empty_topic_is_followed_by_any_epoch() -> None:
    """Its first message draws the epoch."""
    cache = HistoryCache()
    cache.clear(ORIGIN)
    cache.add_live(messages(1, 2))
    assert numbers(cache) == [1, 2]


def test_it_knows_from_where_on_it_has_all() -> None:
    """From any of its messages, and not from one that it does not have or has as another one."""
    cache = HistoryCache()
    cache.add_page(messages(5, 10))
    assert cache.reaches_back_to(Position("a", 5, 5))
    assert cache.reaches_back_to(Position("a", 10, 10))
    for position in (Position("a", 4, 4), Position("a", 5, 6), Position("b", 5, 5), Position("a", 11, 11)):
        assert not cache.reaches_back_to(position)


def test_it_keeps_a_bounded_number_of_bytes() -> None:
    """The oldest messages are dropped first, and the rest still has no hole."""
    cache = HistoryCache()
    cache.add_page(messages(1, 8, payload=SOME))
    cache.add_live(messages(9, 14, payload=SOME))
    assert numbers(cache) == list(range(5, 15))
    assert cache.reaches_back_to(Position("a", 4, 4))
