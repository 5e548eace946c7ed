"""The service: what it answers to requests, without any framework."""

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.streams import limits
from bridge.streams.access.authorization import HowToAllow, Permission
from bridge.streams.limits import Client
from bridge.streams.refusal import COME_BACK_AFTER, Refusal
from bridge.streams.request import StreamRequest
from bridge.streams.service import HEADERS, StreamService
from bridge.streams.settings import read_settings
from bridge.tasks.heartbeats import WORKERS, Heartbeat
from tests import events

TASK = bridge.task_topic("t1")
ALLOWED = Permission()


@pytest.fixture
def make() -> Iterator[Callable[..., StreamService]]:
    made = []

    def make(**options: Any) -> StreamService:
        options = {"URL": f"memory://{uuid.uuid4().hex}", **options}
        settings = read_settings(options, prefix="", url_setting="URL")
        made.append(StreamService(settings, how_to_allow=HowToAllow("Set PUBLIC.", "Set CANCEL.")))
        return made[-1]

    yield make
    for service in made:
        service.channel.close()


def request(
    method: str = "GET", last_event_id: str | None = None, query: str = "", address: str = "192.0.2.1"
) -> StreamRequest:
    return StreamRequest(method, last_event_id, query, Client(address))


def refused(call: Callable[..., object], *arguments: Any, **options: Any) -> Refusal:
    """Call, and return the refusal that it raises."""
    with pytest.raises(Refusal) as caught:
        call(*arguments, **options)
    return caught.value


def test_topics_are_taken_once_and_not_too_many(make: Callable[..., StreamService]) -> None:
    """No topic is a fault of the caller, too many are refused for now."""
    service = make(MAX_TOPICS=2)
    assert service.check_topics(["b", "a", "b"]) == ("b", "a")
    refusal = refused(service.check_topics, ["a", "b", "c"])
    assert (refusal.status, refusal.detail) == (429, "a stream may have 2 topics, not 3")
    assert refusal.retry_after in range(COME_BACK_AFTER[0], COME_BACK_AFTER[1] + 1)
    with pytest.raises(ValueError, match="at least one topic"):
        service.check_topics([])


def test_a_bad_topic_is_not_found(make: Callable[..., StreamService]) -> None:
    """A name that a URL may hold is refused with 404; what is no text is a fault of the caller."""
    service = make(PUBLIC=True)
    refusal = refused(service.check_name, "a\nb")
    assert (refusal.status, refusal.retry_after) == (404, None)
    with pytest.raises(ValueError, match="not int"):
        service.check_name(7)  # type: ignore[arg-type]  # wrong on purpose


def test_a_stream_is_opened_by_its_answer(make: Callable[..., StreamService]) -> None:
    """It counts before it is opened; closed, it leaves nothing behind."""
    service = make(MAX_VIEWERS=1)
    answer = service.answer([TASK], request(), ALLOWED)
    assert (answer.status, answer.headers) == (200, HEADERS)
    assert answer.opening is not None
    assert refused(service.answer, [TASK], request(), ALLOWED).status == 503
    viewer = answer.opening.open()
    assert viewer is not None
    assert viewer.wait_established(answer.opening.seconds_to_wait)
    assert b"waiting" not in answer.opening.first_chunk(viewer, established=True)
    assert b"waiting for the backend" in answer.opening.first_chunk(viewer, established=False)
    assert service.stats()["viewers"] == 1
    answer.opening.close()
    answer.opening.close()
    assert service.stats()["viewers"] == 0
    assert answer.opening.open() is None


def test_a_head_request_opens_nothing(make: Callable[..., StreamService]) -> None:
    """It has the headers of a stream, and counts for no limit."""
    service = make(MAX_VIEWERS=1)
    for _ in range(2):
        answer = service.answer([TASK], request("HEAD"), ALLOWED)
        assert (answer.status, answer.headers, answer.opening) == (200, HEADERS, None)


@pytest.mark.parametrize(
    ("asked", "after"),
    [
        (request(last_event_id="end"), None),
        (request(query="topic=x&last_event_id=end"), None),
        (request(query="last_event_id=%65nd&last_event_id=0a-1-1"), None),
        (request(last_event_id="end", query="last_event_id=0a-1-1"), "0a-1-1"),
        (request(query="last_event_id=&%FF=\xff"), "end"),
        (request("HEAD"), "end"),
    ],
)
def test_a_stream_that_has_ended_has_no_content(
    make: Callable[..., StreamService], asked: StreamRequest, after: str | None
) -> None:
    """The header says where the viewer is, or else the query, or else the argument."""
    answer = make().answer([TASK], asked, ALLOWED, after=after)
    assert (answer.status, answer.opening) == (204, None)


@pytest.mark.parametrize(("option", "status"), [("MAX_VIEWERS", 503), ("MAX_VIEWERS_PER_ADDRESS", 429)])
def test_a_limit_is_a_refusal_that_says_when_to_ask_again(
    make: Callable[..., StreamService], caplog: pytest.LogCaptureFixture, option: str, status: int
) -> None:
    """Each limit is logged once and counted each time."""
    service = make(**{option: 1})
    service.answer(["a"], request(), ALLOWED)
    for _ in range(2):
        refusal = refused(service.answer, ["a"], request(), ALLOWED)
        assert (refusal.status, refusal.close_connection) == (status, False)
        assert refusal.detail.endswith("as it may; try again later")
        assert refusal.retry_after in range(COME_BACK_AFTER[0], COME_BACK_AFTER[1] + 1)
    assert service.stats()["viewers_refused"] == 2
    assert caplog.text.count("a stream was refused") == 1


def test_a_connection_is_not_kept_when_descriptors_run_out(
    make: Callable[..., StreamService], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal asks the server to close the connection, which holds one of the few that are left."""
    monkeypatch.setattr(limits, "descriptors_left", lambda: 0)
    refusal = refused(make().answer, ["a"], request(), ALLOWED)
    assert (refusal.status, refusal.close_connection) == (503, True)


def test_snapshots_and_counts(make: Callable[..., StreamService]) -> None:
    """Tasks come with the newest first; what nobody published is not known."""
    service = make()
    for task in ("t1", "t2"):
        transport_of(service.channel).publish(events.make("state", task, state="STARTED"))
    assert [task["task"] for task in service.tasks(10)] == ["t2", "t1"]
    assert [task["task"] for task in service.tasks(1)] == ["t2"]
    one = service.task("t1")
    assert one is not None
    assert one["state"] == "STARTED"
    assert service.task("t9") is None
    service.ping()
    assert {"viewers", "viewers_handed_over", "subscriptions"} <= set(service.stats())


def test_an_empty_list_of_a_feed_that_is_off_says_so(
    make: Callable[..., StreamService], caplog: pytest.LogCaptureFixture
) -> None:
    """One line says why no tasks are listed; a worker with a feed, or a tag, has none."""
    service = make()
    producer = service.channel.topic(WORKERS).as_producer()
    producer.publish(Heartbeat("p1", "w1@host", 1).encode())
    assert service.tasks(10) == []
    assert not feed_off(caplog)
    service = make()
    service.channel.topic(WORKERS).as_producer().publish(Heartbeat("p1", "w1@host", 1, feed=False).encode())
    assert service.tasks(10, bridge.tag_topic("one")) == []
    for _ in range(2):
        assert service.tasks(10) == []
    (record,) = feed_off(caplog)
    assert "feed=False" in record.message


def feed_off(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """Return the lines about a feed that is off. Other lines come once a process, so maybe here."""
    return [record for record in caplog.records if getattr(record, "event", None) == "feed_off"]
