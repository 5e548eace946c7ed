"""All tasks that are kept are read in pages, on each backend, while a reader of the feed gets the newest."""

from contextlib import suppress
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.publication import MAX_MEMBERS
from tests import events
from tests.conftest import Connect
from tests.servers import eventually

SECONDS = 20
MORE = 60
"""Tasks beyond those that a reader of the feed gets."""


def publish(channel: Any, *names: str) -> None:
    """Publish that these tasks have ended, in this order."""
    publications = [events.make("state", name, state="SUCCESS") for name in names]
    assert transport_of(channel).publish_many(publications) == len(publications)


def page(channel: Any, before: str | None, limit: int) -> tuple[list[str | None], str | None]:
    """Return the tasks of a page, and what names the next one."""
    found = transport_of(channel).backend.listed(bridge.FEED, before, limit)
    assert all(state.fields and not state.entries for state in found.states)
    return [events.task_of(state.topic) for state in found.states], found.more


def all_pages(channel: Any, limit: int) -> list[str | None]:
    """Return the tasks of all pages."""
    tasks, more = page(channel, None, limit)
    while more is not None:
        following, more = page(channel, more, limit)
        tasks += following
    return tasks


def test_all_tasks_are_read_in_pages_and_a_reader_gets_the_newest(channel: Any) -> None:
    """No task is missing or twice, whatever is added between two pages; the opening states stay bounded.

    Those of one batch may have one time, and then any order.
    """
    names = [f"t{number}" for number in range(MAX_MEMBERS + MORE)]
    publish(channel, *names)
    transport_of(channel).publish(events.make("log", "t7", level="info", message="late"))
    newest, more = page(channel, None, 400)
    publish(channel, "added")
    publish(channel, "meanwhile")
    assert more is not None
    tasks = newest
    while more is not None:
        following, more = page(channel, more, 400)
        tasks += following
    assert len(tasks) == len(names)
    assert set(tasks) == set(names)
    assert all_pages(channel, 1000) == ["meanwhile", "added", *tasks]
    assert names.index(tasks[-1] or "") < 50
    assert transport_of(channel).backend.count_listed(bridge.FEED) == len(names) + 2
    read = [events.task_of(state.topic) for state in transport_of(channel).states(bridge.FEED)]
    assert read == ["meanwhile", "added", *tasks[: MAX_MEMBERS - 2]]


def test_a_page_is_bounded_in_bytes(channel: Any) -> None:
    """Tasks with large results come in smaller pages, and none is left out."""
    large = "x" * 200_000
    for number in range(24):
        transport_of(channel).publish(events.make("state", f"t{number}", state="SUCCESS", result=large))
    first, more = page(channel, None, 1000)
    assert 1 <= len(first) < 24
    assert more is not None
    assert all_pages(channel, 1000) == [f"t{number}" for number in reversed(range(24))]


@pytest.mark.parametrize("before", ["x", "", "1 2 3x", "-"])
def test_a_place_that_is_none_is_refused(channel: Any, before: str) -> None:
    """A cursor that no page gave is an error of the caller, or the first page; it is never an outage."""
    publish(channel, "one")
    with suppress(ValueError):
        assert page(channel, before, 10)[0] in (["one"], [])


def test_a_group_without_members_has_one_empty_page(channel: Any) -> None:
    """Before the first task there is nothing, and nothing follows."""
    assert page(channel, None, 10) == ([], None)
    assert transport_of(channel).backend.count_listed(bridge.FEED) == 0


@pytest.mark.parametrize("url", ["memory", "redis", "redis+cluster", "redis+pubsub", "sqlite"], indirect=True)
def test_what_is_not_kept_any_more_leaves_the_list(connect: Connect) -> None:
    """Tasks whose retention is over are in no page, do not count, and hide no task behind them."""
    long: Any = connect()
    publish(long, "first")
    short: Any = connect(retention_seconds=1)
    publish(short, *(f"t{number}" for number in range(20)))

    def left() -> list[str | None]:
        short.topic("busy").publish(b"")  # some backends forget while somebody publishes
        return [task for task in all_pages(short, 7) if task != "first"]

    eventually(lambda: left() == [], SECONDS, "what has expired is still listed")
    assert transport_of(short).backend.count_listed(bridge.FEED) <= 1
    publish(long, "last")
    assert all_pages(long, 7)[0] == "last"
