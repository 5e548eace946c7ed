"""Bad arguments of what a task calls."""

from typing import Any

import pytest

from bridge.celery import log, progress, publish, step, track
from tests.tasks.test_encoding import Awkward


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: publish("a\nb"), "line break"),
        (lambda: publish("state"), "state"),
        (lambda: publish(""), "1 to 100"),
        (lambda: progress("1"), "current"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: progress(float("nan")), "current"),
        (lambda: progress(1, total=float("inf")), "total"),
        (lambda: progress(10**400), "current"),
        (lambda: track([1], total="many"), "total"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: step(""), "name"),
        (lambda: step("a\nb"), "name"),
        (lambda: step("a", weight=-1), "weight"),
        (lambda: step(Awkward()), "name"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: publish(Awkward()), "event type"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: progress(Awkward()), "current"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: log("x", level=Awkward()), "level"),  # type: ignore[arg-type]  # wrong on purpose
        (lambda: step("a", weight=float("nan")), "weight"),
        (lambda: log("x", level="loud"), "level"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(call: Any, says: str) -> None:
    """A bad argument is a ValueError at the call, inside a task and outside."""
    with pytest.raises(ValueError, match=says):
        call()
