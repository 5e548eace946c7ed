"""The header that names the canvas of a task."""

from typing import Any

import pytest
from celery import chain, group

from bridge.celery import canvas_id
from bridge.celery.canvas import header
from tests.celery.canvas.watching import Watched, snapshot


def test_tasks_know_what_they_belong_to(tasks: Any, address: str, channel: Any) -> None:
    """The events of a task name its parent, its root, its group and index, and its canvas."""
    result: Any = chain(
        tasks.add.s(1, 1), group(tasks.add.s(1), tasks.add.s(2)), tasks.total.s()
    ).apply_async()
    Watched(address, canvas_id(result))
    body = snapshot(channel, result.id)
    members = [snapshot(channel, member.id) for member in result.parent.results]
    first = snapshot(channel, result.parent.parent.id)
    assert [member["group"] for member in members] == [result.parent.id] * 2
    assert [member["index"] for member in members] == [0, 1]
    assert [member["parent"] for member in members] == [first["task"]] * 2
    assert {part["canvas_id"] for part in (*members, body, first)} == {canvas_id(result)}
    assert {part["root"] for part in (*members, body)} == {first["task"]}
    assert "root" not in first
    assert body["parent"] in {member["task"] for member in members}


def test_headers_of_a_canvas_do_not_hide_the_canvas(tasks: Any, address: str, channel: Any) -> None:
    """A canvas within another hands its own headers to its tasks, which stay parts."""
    inner = group(tasks.add.s(1), tasks.add.s(2)).set(headers={"own": "yes"})
    own: dict[str, Any] = {"o": 1}
    outer = group(chain(tasks.add.s(1, 1), inner), chain(tasks.add.s(1, 1), tasks.add.s(1)).set(headers=own))
    watched = Watched(address, canvas_id(outer.apply_async()))
    watched.check()
    assert watched.state == "SUCCESS"


@pytest.mark.parametrize("mark", ["", "x", "3", "3 ", "0 w", "-1 w", "٣", 5, None])
def test_a_header_that_makes_no_sense_is_ignored(mark: Any) -> None:
    """Anybody can send a message with any header: what is no mark of ours is passed over."""
    assert header.belonging({"id": "a", "root_id": "a", "bridge_canvas": mark}) == {}
