"""Arguments as the first event of a task stores them."""

import uuid
from datetime import datetime
from typing import Any

import pytest
from celery import Celery
from celery.utils.saferepr import saferepr

import bridge
from bridge.celery import install, tags
from bridge.celery.again import run_again
from bridge.celery.stored_arguments import HIDDEN, LARGEST, fields_of
from bridge.channel.transport import transport_of
from tests import events


def stored(*args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return the fields for a task that is queued with these arguments."""
    headers = {"argsrepr": saferepr(args), "kwargsrepr": saferepr(kwargs)}
    return fields_of(headers, args, kwargs)


def test_what_json_expresses_is_stored_as_it_is() -> None:
    """Numbers, texts, lists and objects come back unchanged, so the task can be run again."""
    assert stored(1, "é", [None, True], size=1.5, nested={"a": [1]}) == {
        "args": [1, "é", [None, True]],
        "kwargs": {"size": 1.5, "nested": {"a": [1]}},
    }
    assert stored() == {"args": [], "kwargs": {}}


@pytest.mark.parametrize(
    "name", ["password", "api_key", "apiKey", "ACCESS_TOKEN", "client_secret", "Authorization"]
)
def test_secrets_are_hidden(name: str) -> None:
    """A value whose name says that it is a secret is not stored, at any depth, and the event says so."""
    fields = stored({name: "s3cret"}, **{name: "s3cret"}, user="ann")
    assert "s3cret" not in repr(fields)
    assert fields["kwargs"] == {name: HIDDEN, "user": "ann"}
    assert fields["arguments_changed"] is True


@pytest.mark.parametrize("value", [datetime(2026, 1, 1), (1, 2), {1: 2}, {"a"}])
def test_what_json_changes_is_shown_but_not_run_again(value: Any) -> None:
    """Other values are stored as JSON shows them, and the event says that they are changed."""
    fields = stored(value)
    assert fields["arguments_changed"] is True
    assert len(fields["args"]) == 1


class Hostile:
    """A value whose own methods fail."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_too_large_and_impossible_arguments_are_left_out() -> None:
    """Megabytes, circles and NaN store nothing but that something is missing."""
    circle: list[Any] = []
    circle.append(circle)
    for value in ("x" * LARGEST, ["x"] * LARGEST, circle, float("nan")):
        assert stored(value) == {"arguments_changed": True}
    assert stored(Hostile())["arguments_changed"] is True


def test_a_text_in_place_of_the_arguments_hides_them() -> None:
    """With `argsrepr` or `kwargsrepr` of one's own nothing is stored."""
    headers = {"argsrepr": "(...)", "kwargsrepr": "{}"}
    assert fields_of(headers, ("s3cret",), {}) == {"arguments_changed": True}


def queued(**options: Any) -> dict[str, Any]:
    """Return the snapshot of a task that is queued with arguments by an app with these options."""
    url = f"memory://{uuid.uuid4().hex}"
    with Celery("arguments", broker="memory://", set_as_current=False) as app, bridge.connect(url) as channel:
        install(app, url, **options)
        sent = app.send_task("work", (1,), {"token": "s3cret"}, headers=tags("user:1"))
        snapshot = events.snapshot(transport_of(channel).states(bridge.task_topic(sent.id))[0], sent.id)
        with pytest.raises(ValueError, match="not stored as they were"):
            run_again(snapshot, app=app)
        again = run_again({**snapshot, "args": [2], "kwargs": {}, "arguments_changed": None}, app=app)
        copy = events.snapshot(transport_of(channel).states(bridge.task_topic(again))[0], again)
        assert (copy["name"], copy["tags"]) == ("work", ["user:1"])
        if options:
            assert (copy["args"], copy["kwargs"]) == ([2], {})
        with pytest.raises(ValueError, match="one by one"):
            run_again({**copy, "parts": {}}, app=app)
    return snapshot


def test_arguments_are_published_only_where_the_application_asks_for_it() -> None:
    """By default no event has them; with `arguments=True` the first has, and a copy has name and tags."""
    assert not {"args", "kwargs", "arguments_changed"} & queued().keys()
    found = queued(arguments=True)
    assert (found["args"], found["kwargs"], found["arguments_changed"]) == ([1], {"token": HIDDEN}, True)
