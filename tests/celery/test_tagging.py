"""Tags of tasks: what `tags()` accepts, who chooses them, who inherits them, and that none breaks a task."""

import logging
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import cancel, install, tags
from bridge.celery.canvas import header
from bridge.channel.transport import transport_of
from tests import events
from tests.celery.workers import SECONDS, snapshot, worker
from tests.servers import Valkey, eventually

NO_TAGS: dict[str, Any] = {
    "a number": 7,
    "a text": "user:42",
    "an object": {"user": 42},
    "numbers": [1, 2, 3],
    "lists": [["user:42"]],
    "nothing": [""],
    "long": ["x" * 101],
    "lines": ["a\nb"],
    "huge": "x" * 1_000_000,
}


@pytest.fixture
def queueing() -> Iterator[Callable[..., tuple[Celery, Any]]]:
    """Makes an app that queues tasks which nobody runs, and the channel on which it publishes."""
    opened: list[Any] = []

    def make(**options: Any) -> tuple[Celery, Any]:
        url = f"memory://{uuid.uuid4().hex}"
        app = Celery("tagging", broker="memory://", set_as_current=False)
        install(app, url, **options)
        channel = bridge.connect(url)
        opened.extend((channel, app))
        return app, channel

    yield make
    for thing in opened:
        thing.close()


def in_feed(channel: Any, tag: str) -> set[str | None]:
    """Return the tasks that the feed of a tag lists."""
    return {events.task_of(state.topic) for state in transport_of(channel).states(bridge.tag_topic(tag))}


def tags_of(channel: Any, task: str) -> list[str] | None:
    """Return the tags in the snapshot of a task."""
    found = eventually(lambda: transport_of(channel).states(bridge.task_topic(task)), SECONDS)
    tags: list[str] | None = events.snapshot(found[0], task).get("tags") if found else None
    return tags


def test_tags_are_headers_and_stand_beside_others() -> None:
    """The result is a dict of JSON that `apply_async(headers=)` takes."""
    assert tags("user:42", "tenant:7") == {"bridge_tags": ["user:42", "tenant:7"]}
    assert {**tags("üser 4,2"), "x": 1} == {"bridge_tags": ["üser 4,2"], "x": 1}
    assert len(tags(*map(str, range(8)))["bridge_tags"]) == 8


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "at least one"),
        ([""], "1 to 100 printable characters, not ''"),
        (["x" * 101], "not one of 101 characters"),
        (["a\nb"], r"not 'a\nb'"),
        (["\udc80"], "printable"),
        ([None], "not NoneType"),
        ([42], "not int"),
        ([["user:42"]], "not list"),
        (["a", "b", "a"], "'a' is given twice"),
        (map(str, range(9)), "at most 8"),
    ],
)
def test_what_cannot_be_a_tag_is_refused_before_anything_is_sent(names: Any, why: str) -> None:
    """The error says which value is wrong and what is allowed."""
    with pytest.raises(ValueError, match=r"^tags") as raised:
        tags(*names)
    assert why in str(raised.value)


def test_a_queued_task_is_in_the_feed_of_its_tags(queueing: Callable[..., tuple[Celery, Any]]) -> None:
    """PENDING reaches it before any worker has the task, with the tags in the snapshot."""
    app, channel = queueing()
    task = app.send_task("anything", headers={**tags("user:42", "tenant:7"), "x": 1}).id
    app.send_task("anything", headers=tags("user:4"))
    assert tags_of(channel, task) == ["user:42", "tenant:7"]
    assert in_feed(channel, "user:42") == in_feed(channel, "tenant:7") == {task}


def test_a_function_chooses_the_tags(queueing: Callable[..., tuple[Celery, Any]]) -> None:
    """It sees name, arguments and headers of the task; its tags come after those in the headers."""
    asked: list[Any] = []
    answers: dict[str, Any] = {"one": "user:42", "several": ("a", "b"), "none": None, "empty": []}

    def choose(name: str, args: Any, kwargs: Any, headers: Any) -> Any:
        asked.append((name, list(args), dict(kwargs), headers.get("x")))
        return answers[name]

    app, channel = queueing(tags=choose)
    expected = {"one": ["own", "user:42"], "several": ["own", "a", "b"], "none": ["own"], "empty": ["own"]}
    for name, tagged in expected.items():
        sent = app.send_task(name, (1, 2), {"key": 3}, headers={**tags("own"), "x": 4})
        assert tags_of(channel, sent.id) == tagged
    assert asked == [(name, [1, 2], {"key": 3}, 4) for name in expected]


@pytest.mark.parametrize("answer", [7, [7], ["x" * 101], list("123456789"), ValueError("no user")])
def test_an_error_of_the_function_never_fails_the_sending(
    queueing: Callable[..., tuple[Celery, Any]], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """It is logged once, and the task has its other tags."""

    def choose(*_: Any) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    app, channel = queueing(tags=choose)
    for _ in range(3):
        sent = app.send_task("anything", headers=tags("own"))
        assert tags_of(channel, sent.id) == ["own"]
    assert [record.name for record in caplog.records] == ["bridge.celery"]
    assert "install(tags=...)" in caplog.text


def test_only_a_function_can_choose(queueing: Callable[..., tuple[Celery, Any]]) -> None:
    """A list in its place is refused by `install`."""
    with pytest.raises(bridge.ConfigurationError, match="tags must be a function"):
        queueing(tags=["user:42"])


@pytest.mark.parametrize("given", NO_TAGS)
def test_headers_of_another_producer_never_break_a_task(
    queueing: Callable[..., tuple[Celery, Any]],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    given: str,
) -> None:
    """What is no tag is left out and logged once, in few words; tags that are valid count."""
    monkeypatch.setattr(header, "_bad_tags", type(header._bad_tags)())
    app, channel = queueing()
    for _ in range(2):
        sent = app.send_task("anything", headers={"bridge_tags": NO_TAGS[given]})
        assert tags_of(channel, sent.id) is None
    (logged,) = (record for record in caplog.records if record.levelno == logging.WARNING)
    assert len(logged.getMessage()) < 500
    many = [7, "user:42", *(f"tag {number}" for number in range(1_000))]
    sent = app.send_task("anything", headers={"bridge_tags": many})
    assert tags_of(channel, sent.id) == ["user:42", *(f"tag {number}" for number in range(6))]


def test_the_tags_of_a_canvas_header_are_bounded() -> None:
    """The header of a canvas may come from another producer too."""
    tagged = header.value_of("canvas:w w", 3, ["user:42", "a,b c", "ü%"])
    assert header.membership({header.HEADER: tagged}) == ("canvas:w w", 3, ["user:42", "a,b c", "ü%"])
    hostile = "3" + ",x" * 100_000 + ",%00," + "y" * 101 + " canvas:w"
    found = header.membership({header.HEADER: hostile})
    assert found == ("canvas:w", 3, ["x"])


def test_tasks_in_eager_mode_have_tags_too(eager: tuple[Celery, Any]) -> None:
    """Without a message, the tags come from the headers and from the task around."""
    app, channel = eager

    @app.task
    def inner() -> str:
        return "done"

    @app.task
    def outer() -> Any:
        return inner.apply_async(headers=tags("own")).id

    sent: Any = outer.apply_async(headers=tags("user:42"))
    assert tags_of(channel, sent.id) == ["user:42"]
    assert tags_of(channel, sent.result) == ["own", "user:42"]
    assert in_feed(channel, "user:42") == {sent.id, sent.result}
    after = inner.apply_async()
    assert tags_of(channel, after.id) is None


def test_each_state_of_a_tagged_task_reaches_the_feed_of_its_tag(own_valkey: Valkey) -> None:
    """From every process: queueing, retries, ends, a cancelled task; and of what the tasks start."""
    url = own_valkey.url("redis")
    channel: Any = bridge.connect(url)
    names = {"add": (1, 2), "fail": (), "second_time_lucky": (), "measured": (3,), "unknown": ()}
    with worker(url, url) as celery:
        feeds = [channel.topic(feed).subscribe() for feed in (bridge.FEED, bridge.tag_topic("user:42"))]
        install(celery.app, url)
        send: Any = celery.app.send_task
        tagged = [
            send(f"tests.celery_app.{name}", args, headers=tags("user:42")).id for name, args in names.items()
        ]
        tagged.append(
            send("tests.celery_app.start", ["tests.celery_app.add", 1, 2], headers=tags("user:42")).id
        )
        untagged = send("tests.celery_app.add", (1, 2)).id
        later = send("tests.celery_app.add", (1, 2), countdown=600, headers=tags("user:42")).id
        assert cancel(later, app=celery.app)
        for task in (*tagged, untagged):
            snapshot(channel, task)
        child = celery.app.AsyncResult(tagged[-1]).get(timeout=SECONDS)
        snapshot(channel, child)
    tagged += [later, child]
    assert in_feed(channel, "user:42") == set(tagged)
    assert tags_of(channel, child) == ["user:42"]
    seen = []
    for feed, name in zip(feeds, (bridge.FEED, bridge.tag_topic("user:42")), strict=True):
        channel.topic(name).publish(b"sentinel")
        told = []
        while (message := feed.receive(timeout=SECONDS)) != b"sentinel":
            event = events.decoded(message)
            if event["task"] in tagged or name != bridge.FEED:
                told.append(event)
        seen.append(told)
        feed.close()
    assert seen[1] == seen[0]
    assert {event["type"] for event in seen[1]} == {"cancel_requested", "progress", "state"}
    assert {"PENDING", "RECEIVED", "STARTED", "RETRY", "FAILURE", "SUCCESS"} <= {
        event["state"] for event in seen[1] if event["type"] == "state"
    }
    channel.close()
