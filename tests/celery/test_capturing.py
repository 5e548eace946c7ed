"""Tasks that know nothing of the bridge: `update_state`, `send_event` and `logging`."""

import logging
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from celery import Celery
from celery.exceptions import Ignore

import bridge
from bridge.celery import install, log, progress, step, track
from bridge.celery.apps import publisher_of
from bridge.celery.captured import BURST, Captured
from bridge.celery.capturing import figures_in
from bridge.channel.transport import transport_of
from tests import events
from tests.celery.workers import snapshot

Body = Callable[[Any], Any]


class Runs:
    """Runs the body of a task in this process, and reads what its viewers saw."""

    def __init__(self, **options: Any) -> None:
        self.app = Celery("capturing", set_as_current=False)
        self.app.conf.task_always_eager = True
        url = f"memory://{uuid.uuid4().hex}"
        install(self.app, url, **options)
        self.channel: Any = bridge.connect(url)

    def run(self, body: Body) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Return the snapshot of the task at its end, and all its events."""

        @self.app.task(bind=True, name=f"task {uuid.uuid4().hex}")
        def task(self: Any) -> Any:
            return body(self)

        found = snapshot(self.channel, task.delay().id)
        topic = self.channel.topic(bridge.task_topic(found["task"]))
        return found, [events.decoded(message) for message in topic.history(limit=1000)]


@pytest.fixture
def runs() -> Iterator[Runs]:
    found = Runs(capture=True, capture_logs="INFO")
    yield found
    found.channel.close()


def of(kind: str, all_events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in all_events if event["type"] == kind]


@pytest.mark.parametrize(
    ("meta", "figures"),
    [
        ({"current": 1, "total": 4}, (1, 4, None)),
        ({"pending": False, "current": 1, "total": 4, "percent": 25.0, "description": "a"}, (1, 4, "a")),
        ({"current": Decimal("1.5"), "total": 0, "description": ""}, (1.5, 0, None)),
        ({"current": 3, "status": "reading"}, (3, None, "reading")),
        ({"percent": 40, "message": "b"}, (40, 100, "b")),
        ({"progress": 50}, (50, 100, None)),
        ({"current": "file.csv", "total": 4}, None),
        ({"current": float("nan")}, None),
        ({"exc_type": "ValueError", "status": "x"}, None),
        ({}, None),
    ],
)
def test_the_keys_are_those_of_celery_and_celery_progress(meta: dict[str, Any], figures: object) -> None:
    """Figures are read from the documented keys; a meta that means something else gives none."""
    assert figures_in(meta) == figures


def test_update_state_is_shown_as_progress(runs: Runs) -> None:
    """The state of the task stays STARTED, and the result backend gets what it got."""
    stored: list[tuple[Any, ...]] = []
    # Nothing else sees what is stored: an eager task has no result backend.
    runs.app.backend.store_result = lambda *given, **_: stored.append(given)  # type: ignore[method-assign]

    def body(task: Any) -> None:
        task.update_state(state="PROGRESS", meta={"current": 1, "total": 4, "description": "one"})

    found, said = runs.run(body)
    assert (found["progress"]["percent"], found["progress"]["message"]) == (25.0, "one")
    assert [event["state"] for event in of("state", said)] == ["STARTED", "SUCCESS"]
    assert [given[1:] for given in stored] == [({"current": 1, "total": 4, "description": "one"}, "PROGRESS")]


def test_a_state_of_its_own_is_shown_by_name(runs: Runs) -> None:
    """Viewers see it while the task runs, once for each change; the end is that of the task."""
    seen: list[str] = []
    fields: dict[str, bytes] = {}

    def body(task: Any) -> None:
        for state in ("UPLOADING", "UPLOADING", "RESIZING"):
            task.update_state(state=state, meta={"current": 2, "total": 4})
        task.update_state(state="bad\x1b[2J")
        task.update_state(state="x" * 101)
        task.update_state(task_id="another", state="ELSEWHERE")
        topic = bridge.task_topic(task.request.id)
        transport = transport_of(runs.channel)
        _flush(runs.app)
        (kept,) = transport.states(topic)
        seen.append(events.snapshot(kept, task.request.id)["state"])
        fields.update(kept.fields)

    found, said = runs.run(body)
    assert seen == ["RESIZING"]
    assert {"state.UPLOADING", "state.RESIZING"}.isdisjoint(fields)
    assert [event["state"] for event in of("state", said)] == ["STARTED", "UPLOADING", "RESIZING", "SUCCESS"]
    assert found["progress"]["current"] == 2


def _flush(app: Celery) -> None:
    publisher = publisher_of(app)
    assert publisher is not None
    publisher.flush(10)


def test_states_of_celery_are_not_captured(runs: Runs) -> None:
    """A task that sets FAILURE itself and raises Ignore has one end, that of Celery's signals."""

    def body(task: Any) -> None:
        task.update_state(state="FAILURE", meta={"exc_type": "E", "exc_message": "no", "current": 1})
        raise Ignore

    found, said = runs.run(body)
    assert found["state"] == "IGNORED"
    assert [event["state"] for event in of("state", said)] == ["STARTED", "IGNORED"]
    assert of("progress", said) == []


@pytest.mark.parametrize("way", ["progress", "step", "track"])
def test_a_task_that_reports_itself_says_nothing_twice(runs: Runs, way: str) -> None:
    """Its own figures count, whichever comes first."""

    def body(task: Any) -> None:
        if way == "progress":
            progress(1, 10, "own")
        elif way == "step":
            with step("own"):
                progress(1, 10, "own")
        else:
            list(track(range(1), total=10, message="own"))
        task.update_state(state="PROGRESS", meta={"current": 3, "total": 4, "description": "other"})

    found, said = runs.run(body)
    assert found["progress"]["total"] == 10
    assert not [event for event in of("progress", said) if event.get("message") == "other"]


def test_send_event_becomes_an_event(runs: Runs) -> None:
    """The type and the fields are those of the call; a type that is reserved is left to Celery."""
    sent: list[str] = []

    class Dispatcher:
        def __enter__(self) -> "Dispatcher":
            return self

        def __exit__(self, *_: object) -> None: ...

        def send(self, type_: str, **_: object) -> None:
            sent.append(type_)

    # There is no broker that the events could go to.
    runs.app.events.default_dispatcher = lambda **_: Dispatcher()  # type: ignore[method-assign]

    def body(task: Any) -> None:
        task.send_event("task-shipped", parcel=7, retry=False)
        task.send_event("task-done")
        task.send_event("state", state="SUCCESS")

    _, said = runs.run(body)
    assert [(each["type"], each.get("data")) for each in said if each["type"].startswith("task-")] == [
        ("task-shipped", {"parcel": 7}),
        ("task-done", None),
    ]
    assert sent == ["task-shipped", "task-done", "state"]


def test_records_become_lines(runs: Runs) -> None:
    """Those of the level and above, once each, with the exception but no traceback, and none of Celery."""

    def body(_: Any) -> None:
        logger = logging.getLogger("shop")
        logger.setLevel(logging.DEBUG)
        logger.debug("too low")
        logger.info("packing %d boxes", 3)
        try:
            raise ValueError("lost")
        except ValueError:
            logger.exception("a box is missing")
        logging.getLogger("celery.worker").warning("of Celery")
        logging.getLogger("celery.task.x").critical("of the task")
        logging.getLogger("bridge.celery").warning("of the bridge")
        log("own")

    _, said = runs.run(body)
    assert [(each["level"], each["message"]) for each in of("log", said)] == [
        ("info", "packing 3 boxes"),
        ("error", "a box is missing: ValueError: lost"),
        ("critical", "of the task"),
        ("info", "own"),
    ]


@pytest.mark.parametrize("options", [{}, {"capture": False}, {"capture_logs": None}])
def test_nothing_is_captured_unless_it_is_asked_for(options: dict[str, Any], runs: Runs) -> None:
    """By default neither is captured, also beside an app that asks for it."""
    quiet = Runs(**options)

    def body(task: Any) -> None:
        logging.getLogger("shop").warning("hidden")
        task.update_state(state="UPLOADING", meta={"current": 1, "total": 4})

    _, said = quiet.run(body)
    assert {event["type"] for event in said} == {"state"}
    assert [event["state"] for event in said] == ["STARTED", "SUCCESS"]
    quiet.channel.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [({"capture": "yes"}, "capture must be True or False"), ({"capture_logs": "LOUD"}, 'such as "INFO"')],
)
def test_bad_options_are_refused(options: dict[str, Any], says: str) -> None:
    """The error names the option and what it takes."""
    with pytest.raises(bridge.ConfigurationError, match=says):
        Runs(**options)


def test_what_cannot_be_captured_does_not_fail_the_task(runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
    """A meta that raises is logged once for the task, and the task goes on."""

    class Meta(dict[str, Any]):
        def get(self, *_: Any) -> Any:
            raise RuntimeError("no")

    found, _ = runs.run(lambda task: [task.update_state(state="PROGRESS", meta=Meta()) for _ in range(3)])
    assert found["state"] == "SUCCESS"
    assert caplog.text.count("update_state of the task") == 1


def test_changes_of_state_are_limited() -> None:
    """A task that has another state for each row sends as many as are allowed, and not one a row."""
    captured = Captured()
    shown = sum(captured.may_change(f"row {number}") for number in range(10 * BURST))
    assert BURST <= shown < 5 * BURST
