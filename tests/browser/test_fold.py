"""The browser's `fold` and the server's snapshots: whoever comes late sees what others have seen."""

import base64
import json
import uuid
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, count
from pathlib import Path
from unittest.mock import patch

import pytest
from celery import Celery
from playwright.sync_api import Page

import bridge
from bridge.celery import install, step
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from bridge.tasks import canvas as canvas_events
from bridge.tasks.encoding import encode
from tests import events
from tests.chromium import chromium
from tests.tasks.folding import RETRIED, fold, state

SCRIPT = Path(__file__).resolve().parents[2] / "bridge" / "static" / "fold.js"
COMPARED = (
    *("state", "attempt", "name", "result", "error", "reason", "retry_at"),
    *("queued_at", "received_at", "started_at", "first_started_at", "ended_at"),
    *("attempts", "args", "kwargs", "arguments_changed"),
)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page with nothing but `fold`."""
    with chromium() as browser:
        page = browser.new_page()
        script = base64.b64encode(SCRIPT.read_bytes()).decode()
        page.evaluate(f"import('data:text/javascript;base64,{script}').then(it => {{ window.bridge = it }})")
        yield page


def resumed(name: str, attempt: int) -> Publication:
    return events.make("state", "t1", attempt=attempt, state=name, resumed=True)


def stories() -> dict[str, list[Publication]]:
    """What may happen to a task, and in which order it is told."""
    retry = state("RETRY", 1, started_at=99.5, **RETRIED)
    begun = [
        state("PENDING", 1, name="work", args=[1], kwargs={"a": "x"}),
        state("RECEIVED", 1),
        state("STARTED", 1, name="work"),
    ]
    return {
        "plain": [*begun, state("SUCCESS", 1, result=3)],
        "retried": [*begun, retry, state("RECEIVED", 2), state("STARTED", 2), state("FAILURE", 2, error={})],
        "received before RETRY": [
            *begun,
            state("RECEIVED", 2),
            retry,
            state("STARTED", 2),
            state("SUCCESS", 2),
        ],
        "RETRY too late": [*begun, state("RECEIVED", 2), state("STARTED", 2), retry, state("SUCCESS", 2)],
        "stalled": [
            *begun,
            retry,
            state("RECEIVED", 2),
            state("STALLED", 2, was="RECEIVED"),
            resumed("RECEIVED", 2),
            state("STARTED", 2),
            state("STALLED", 2, was="STARTED"),
            resumed("STARTED", 2),
            state("REVOKED", 2, reason="terminated"),
        ],
        "retried twice": [
            *begun,
            retry,
            state("RECEIVED", 2),
            state("STARTED", 2),
            state("RETRY", 2, **RETRIED),
            state("RECEIVED", 3),
            state("STARTED", 3),
            state("SUCCESS", 3),
        ],
        "retried more often than is kept": [
            *begun,
            *(state("RETRY", attempt, started_at=attempt + 0.5, reason="why") for attempt in range(1, 24)),
            state("STARTED", 24),
        ],
        "redelivered": [
            *begun,
            state("RECEIVED", 1),
            state("STARTED", 1, redelivered=True),
            state("SUCCESS", 1),
        ],
        "requeued": [
            *begun,
            events.make("state", "t1", state="PENDING", resumed=True, reason="requeued"),
            state("STARTED", 1, redelivered=True),
            state("SUCCESS", 1),
        ],
    }


with patch("bridge.tasks.event_types.time.time", side_effect=count(100)):
    STORIES = stories()


@pytest.mark.parametrize("story", STORIES)
def test_whoever_comes_late_sees_the_same(page: Page, story: str) -> None:
    """After each event, the state folded from all of them is the state that a snapshot gives."""
    for told in accumulate(([event] for event in STORIES[story]), list.__add__):
        rank, accepted = -1, []
        for event in told:
            change = event.change
            assert change is not None
            if not change.refused_by(rank):
                rank = change.rank
                accepted.append(json.loads(event.payload))
        live, late = page.evaluate(
            """([told, snapshot]) => [
                told.reduce((task, event) => window.bridge.fold(task, event), null),
                window.bridge.fold(null, snapshot),
            ]""",
            [accepted, json.loads(encode(fold(*told)))],
        )
        assert {name: live.get(name) for name in COMPARED} == {name: late.get(name) for name in COMPARED}


def test_steps_fold_with_their_times(page: Page) -> None:
    """The steps of a real task, nested and failed ones too, are those that its snapshot has."""
    app, url = Celery("steps", set_as_current=False), f"memory://{uuid.uuid4().hex}"
    app.conf.task_always_eager = True

    @app.task(name="steps", shared=False)
    def work() -> None:
        with step("outer"), suppress(ValueError), step("inner"):
            raise ValueError

    with bridge.connect(url) as channel:
        install(app, url)
        topic = bridge.task_topic(work.delay().id)
        told = [json.loads(payload) for payload in channel.topic(topic).history(limit=20)]
        live = page.evaluate("told => told.reduce((a, b) => window.bridge.fold(a, b), null)", told)
        late = events.snapshot(transport_of(channel).states(topic)[0], "w")
    assert live["steps"] == late["steps"]
    assert [(each["name"], each["status"]) for each in late["steps"]] == [
        ("inner", "failed"),
        ("outer", "succeeded"),
    ]
    assert all(each["started_at"] <= each["ended_at"] for each in late["steps"])


def test_a_canvas_that_learns_its_size_late_folds_as_its_snapshot(page: Page) -> None:
    """The event that tells the size brings counts and no part; the list of parts stays."""
    topic = bridge.task_topic("w")
    with bridge.connect(f"memory://{uuid.uuid4().hex}") as channel:
        for message in (
            canvas_events.declare("w", None, canvas="group"),
            canvas_events.make("w", None, "a", "STARTED", 50),
            canvas_events.settle("w", 2),
            canvas_events.make("w", None, "a", "SUCCESS"),
            canvas_events.make("w", None, "b", "FAILURE"),
        ):
            transport_of(channel).publish(message)
            told = [json.loads(payload) for payload in channel.topic(topic).history(limit=10)]
            live = page.evaluate("told => told.reduce((a, b) => window.bridge.fold(a, b), null)", told)
            late = events.snapshot(transport_of(channel).states(topic)[0], "w")
            assert live["parts"] == late["parts"]
            assert live.get("children", []) == late["children"]
            shown = ("current", "total", "percent")
            assert [(live["progress"] or {}).get(name) for name in shown] == [
                (late["progress"] or {}).get(name) for name in shown
            ]
        assert (live["state"], live["progress"]["total"]) == ("FAILURE", 2)
