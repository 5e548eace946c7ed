"""Ends of tasks for which Celery has no signal."""

from typing import Any

import gevent
import pytest
from celery import Celery

from tests.celery.workers import snapshot


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit, gevent.Timeout])
def test_an_exception_that_ends_the_caller_ends_the_task(
    eager: tuple[Celery, Any], kind: type[BaseException]
) -> None:
    """An eager task fails with it too, and it passes through."""
    app, channel = eager

    @app.task(name=f"work 21 {kind.__name__}", time_limit=60)
    def work() -> None:
        raise kind

    with pytest.raises(kind):
        work.apply(task_id=kind.__name__)
    found = snapshot(channel, kind.__name__)
    assert (found["state"], found["error"]["type"]) == ("FAILURE", kind.__name__)


def test_a_greenlet_that_is_killed_ends_its_task(eager: tuple[Celery, Any]) -> None:
    """By whom does not matter: it was terminated."""
    app, channel = eager

    @app.task(name="work 23")
    def work() -> None:
        raise gevent.GreenletExit

    with pytest.raises(gevent.GreenletExit):
        work.apply(task_id="killed")
    found = snapshot(channel, "killed")
    assert (found["state"], found["reason"]) == ("REVOKED", "terminated")
