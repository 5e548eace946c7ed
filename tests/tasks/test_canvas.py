"""The counts of a canvas: kept by every backend, in the same step as the publish."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

import bridge
from bridge.channel.transport import transport_of
from bridge.model.counts import ENDINGS, Counts
from bridge.model.message import make_message
from bridge.model.publication import Publication
from bridge.model.state import MAX_ROWS
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import Encoder
from bridge.tasks import canvas as canvas_events
from tests import events
from tests.conftest import Connect
from tests.servers import eventually

CANVAS = "canvas:w"
TOPIC = bridge.task_topic(CANVAS)
RANDOM_RUNS = 20


def tell(channel: Any, size: int | None, task: str, state: str, percent: float = 0.0) -> bool:
    """Publish where a part is; return whether it was news."""
    return published(channel, canvas_events.make(CANVAS, size, task, state, percent=percent))


def published(channel: Any, publication: Publication) -> bool:
    before = snapshot(channel)
    transport_of(channel).publish(publication)
    return snapshot(channel) != before


def snapshot(channel: Any, canvas: str = CANVAS) -> dict[str, Any]:
    states = transport_of(channel).states(bridge.task_topic(canvas))
    found = events.snapshot(states[0] if states else None, canvas)
    del found["at"]
    return found


def received(subscription: Any) -> Iterator[dict[str, Any]]:
    """The events so far: up to a sentinel that is published now."""
    while True:
        message = subscription.receive(timeout=10)
        assert message is not None
        if message == b"sentinel":
            return
        event = events.decode(message)
        assert event is not None
        yield event


def test_a_canvas_goes_from_its_first_part_to_its_last(channel: Any) -> None:
    """It starts with the first part, sums up what the parts say, and ends once, with the last of them."""
    topic = channel.topic(TOPIC)
    with topic.subscribe() as subscription, channel.topic(bridge.FEED).subscribe() as feed:
        transport_of(channel).publish(canvas_events.declare(CANVAS, 4, canvas="group", name="work"))
        assert snapshot(channel)["parts"]["waiting"] == 4
        tell(channel, 4, "a", "STARTED")
        tell(channel, 4, "a", "STARTED", 50)
        tell(channel, 4, "b", "STARTED")
        for part in "abcd":
            tell(channel, 4, part, "SUCCESS")
        topic.publish(b"sentinel")
        seen = list(received(subscription))
        channel.topic(bridge.FEED).publish(b"sentinel")
        assert list(received(feed)) == seen
    said = [event["percent"] if event["type"] == "progress" else event["state"] for event in seen]
    assert said == ["PENDING", "STARTED", 0, 12.5, 12.5, 25, 50, 75, 100, "SUCCESS"]
    assert seen[2]["part"] == {"task": "a", "state": "STARTED", "percent": 0}
    assert seen[4]["parts"] == {"waiting": 2, "running": 2, "succeeded": 0, "revoked": 0, "failed": 0}
    assert [event["current"] for event in seen if event["type"] == "progress"] == [0, 0, 0, 1, 2, 3, 4]
    found = snapshot(channel)
    assert (found["state"], found["canvas"], found["name"]) == ("SUCCESS", "group", "work")
    assert found["parts"]["succeeded"] == 4
    assert sorted(line["task"] for line in found["children"]) == list("abcd")
    assert found["started_at"] <= found["ended_at"]


@pytest.mark.parametrize(
    ("endings", "expected"),
    [
        (["SUCCESS", "FAILURE", "REVOKED"], "FAILURE"),
        (["REVOKED", "SUCCESS", "SUCCESS"], "REVOKED"),
        (["SUCCESS", "SUCCESS", "SUCCESS"], "SUCCESS"),
    ],
)
def test_a_canvas_ends_in_the_worst_way_of_its_parts(channel: Any, endings: list[str], expected: str) -> None:
    """One failed part makes a failed canvas, whichever comes last; what failed keeps what it had reached."""
    tell(channel, 3, "b", "STARTED", 50)
    for part, ending in zip("abc", endings, strict=True):
        assert snapshot(channel)["state"] in ("PENDING", "STARTED")
        tell(channel, 3, part, ending)
    found = snapshot(channel)
    assert found["state"] == expected
    well = endings.count("SUCCESS")
    kept = 0 if endings[1] == "SUCCESS" else 50
    assert found["progress"]["percent"] == pytest.approx((100 * well + kept) / 3, abs=0.01)


def test_what_was_counted_is_no_news_again(channel: Any) -> None:
    """A part that starts again, repeats itself or falls back changes nothing, nor does one that has ended."""
    assert tell(channel, 2, "a", "STARTED", 60)
    for state, percent in (("STARTED", 60), ("STARTED", 10), ("RETRY", 0), ("STARTED", 0)):
        assert not tell(channel, 2, "a", state, percent)
    assert tell(channel, 2, "a", "SUCCESS")
    for state in ("SUCCESS", "FAILURE", "STARTED"):
        assert not tell(channel, 2, "a", state, 70)
    assert tell(channel, 2, "b", "SUCCESS")
    for part in "abc":
        assert not tell(channel, 2, part, "FAILURE")


def test_a_canvas_may_learn_its_size_after_parts_have_ended(channel: Any) -> None:
    """Until then it counts those heard of and is at 0 percent; it ends with its last part, and once."""
    topic = channel.topic(TOPIC)
    with topic.subscribe() as subscription:
        transport_of(channel).publish(canvas_events.declare(CANVAS, None, canvas="chord"))
        for part in "ab":
            tell(channel, None, part, "STARTED", 50)
        tell(channel, None, "a", "SUCCESS")
        tell(channel, None, "b", "SUCCESS")
        assert snapshot(channel)["state"] == "STARTED"
        assert published(channel, canvas_events.settle(CANVAS, 3))
        assert not published(channel, canvas_events.settle(CANVAS, 3))
        tell(channel, None, "c", "STARTED", 50)
        tell(channel, None, "c", "FAILURE")
        topic.publish(b"sentinel")
        seen = [event for event in received(subscription) if event["type"] == "progress"]
    assert [event["total"] for event in seen] == [1, 2, 2, 2, 3, 3, 3]
    assert [event["current"] for event in seen] == [0, 0, 1, 2, 2, 2, 3]
    assert [event["percent"] for event in seen] == [0, 0, 0, 0, 66.66, 83.33, 83.33]
    assert all(sum(event["parts"].values()) == event["total"] for event in seen)
    assert snapshot(channel)["state"] == "FAILURE"
    assert sorted(line["task"] for line in snapshot(channel)["children"]) == list("abc")


def test_a_canvas_ends_when_its_size_is_told_last(channel: Any) -> None:
    """All parts may have ended before anybody knows that they are all."""
    for part, ending in (("a", "SUCCESS"), ("b", "REVOKED")):
        tell(channel, None, part, ending)
        assert snapshot(channel)["state"] != "REVOKED"
    with channel.topic(TOPIC).subscribe() as subscription:
        settled = canvas_events.settle(CANVAS, 2)
        transport_of(channel).publish(settled)
        transport_of(channel).publish(replace(settled, repeated=True))
        channel.topic(TOPIC).publish(b"sentinel")
        assert [event["type"] for event in received(subscription)] == ["progress", "state"]
    assert snapshot(channel)["state"] == "REVOKED"
    assert snapshot(channel)["progress"]["total"] == 2
    assert not published(channel, canvas_events.settle(CANVAS, 2))


def test_a_publish_that_is_repeated_counts_once(channel: Any) -> None:
    """The same message with the same token, sent again because its answer was lost, appears once."""
    topic = channel.topic(TOPIC)
    with topic.subscribe() as subscription, channel.topic(bridge.FEED).subscribe() as feed:
        for part in "ab":
            told = canvas_events.make(CANVAS, 2, part, "SUCCESS")
            for again in (False, True, True):
                transport_of(channel).publish(replace(told, repeated=again))
        topic.publish(b"sentinel")
        channel.topic(bridge.FEED).publish(b"sentinel")
        for reader in (subscription, feed):
            assert [event["type"] for event in received(reader)] == ["progress", "progress", "state"]


def test_whatever_is_said_the_bar_never_steps_back(connect: Connect) -> None:
    """Random parts, late, repeated and out of order, from two processes' channels: the sums always agree."""
    channels: list[Any] = [connect(), connect()]
    for run in range(RANDOM_RUNS):
        chance = random.Random(run)
        canvas, size = f"canvas:{run}", chance.randint(1, 8)
        topic = bridge.task_topic(canvas)
        parts = [f"part {number}" for number in range(size)]
        said = [(part, "STARTED", chance.uniform(0, 100)) for part in parts * 3]
        said += [(part, chance.choice(ENDINGS), 0.0) for part in parts for _ in range(2)]
        chance.shuffle(said)
        with channels[0].topic(topic).subscribe() as subscription:
            known = chance.choice((size, None))
            for part, state, percent in said:
                told = canvas_events.make(canvas, known, part, state, percent=percent)
                transport_of(chance.choice(channels)).publish(told)
            if known is None:
                transport_of(channels[0]).publish(canvas_events.settle(canvas, size))
            channels[0].topic(topic).publish(b"sentinel")
            seen = list(received(subscription))
        _check(seen, said, snapshot(channels[1], canvas))


def _check(seen: list[dict[str, Any]], said: list[tuple[str, str, float]], found: dict[str, Any]) -> None:
    """Compare what was published with what was said, worked out anew."""
    progress = [event for event in seen if event["type"] == "progress"]
    assert all(a["percent"] <= b["percent"] and a["current"] <= b["current"] for a, b in pairwise(progress))
    assert all(sum(event["parts"].values()) == event["total"] for event in progress)
    values: dict[str, int] = {}
    endings: dict[str, str] = {}
    for part, state, percent in said:
        if part not in endings:
            values[part] = max(values.get(part, 0), min(9999, round(percent * 100)))
            if state in events.ENDS:
                endings[part] = state
                values[part] = 10_000 if state == "SUCCESS" else values[part]
    assert progress[-1]["percent"] == int(sum(values.values()) / len(values)) / 100
    assert progress[-1]["current"] == len(endings)
    ends = [event["state"] for event in seen if events.end_of(event)]
    assert ends == [max(endings.values(), key=ENDINGS.index)] == [found["state"]]
    assert seen[-1]["type"] == "state"


def test_publishers_race_for_the_last_part(connect: Connect) -> None:
    """Eight publishers end 80 parts at once, each of them twice: one end, and every part counted once."""
    channel: Any = connect()
    others: list[Any] = [connect() for _ in range(4)]
    barrier = threading.Barrier(8)

    def publish(number: int) -> None:
        barrier.wait()
        for part in range(number // 2, 80, 4):
            transport_of(others[number % 4]).publish(canvas_events.make(CANVAS, 80, str(part), "SUCCESS"))

    with channel.topic(TOPIC).subscribe() as subscription:
        threads = [threading.Thread(target=publish, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        channel.topic(TOPIC).publish(b"sentinel")
        seen = list(received(subscription))
    assert [event["current"] for event in seen if event["type"] == "progress"] == list(range(1, 81))
    assert [event["state"] for event in seen if event["type"] == "state"] == ["SUCCESS"]


def test_a_snapshot_lists_few_parts_those_that_matter(channel: Any) -> None:
    """Of many parts a bounded number is listed: what failed, what runs, and the newest that went well."""
    told = []
    for number in range(200):
        told.append(canvas_events.make(CANVAS, 300, f"good {number}", "SUCCESS"))
        if number % 40 == 0:
            told.append(canvas_events.make(CANVAS, 300, f"bad {number}", "FAILURE"))
        if number % 20 == 0:
            told.append(canvas_events.make(CANVAS, 300, f"runs {number}", "STARTED", percent=30))
    while told:
        del told[: transport_of(channel).publish_many(told)]
    lines = snapshot(channel)["children"]
    assert len(lines) == MAX_ROWS
    assert sum(line["state"] == "FAILURE" for line in lines) == 5
    assert sum(line["state"] == "STARTED" for line in lines) == 10
    assert {"good 199", "good 170"} < {line["task"] for line in lines}


def test_the_feed_lists_a_canvas_but_not_its_tasks(channel: Any) -> None:
    """10,000 parts do not push every other task off the list of recent ones."""
    transport_of(channel).publish(canvas_events.declare(CANVAS, 2))
    for task, canvas_id in (("alone", None), ("part", CANVAS)):
        made = events.make("state", task, state="STARTED", canvas_id=canvas_id)
        transport_of(channel).publish(made)
        transport_of(channel).publish(events.make("log", task, message="hello", canvas_id=canvas_id))
    tell(channel, 2, "part", "STARTED")
    listed = {events.task_of(state.topic) for state in transport_of(channel).states(bridge.FEED)}
    assert listed == {"alone", CANVAS}
    (state,) = transport_of(channel).states(bridge.task_topic("part"))
    assert events.snapshot(state, "part")["canvas_id"] == CANVAS


def test_a_canvas_without_parts_is_over_at_once(channel: Any) -> None:
    """Who watches an empty group sees its end."""
    transport_of(channel).publish(canvas_events.declare(CANVAS, 0, canvas="group"))
    assert snapshot(channel)["state"] == "SUCCESS"


@pytest.mark.parametrize("kind", ["progress", None])
def test_progress_that_ends_a_part_does_not_give_way(kind: str | None) -> None:
    """For a viewer that lags newer progress replaces older, but not what tells that a part has ended."""
    encoder = Encoder([TOPIC], Cursor(), with_ids=False)
    for state, gives_way in (("STARTED", True), ("SUCCESS", False), ("FAILURE", False)):
        event = canvas_events.make(CANVAS, 2, "a", state, name='","ended":true', percent=1)
        message = make_message(event.payload, topic=TOPIC, type=kind, counts=Counts(2))
        assert (encoder.mere_progress([message]) is not None) is gives_way


@pytest.mark.parametrize("text", ["\x01\x02\x03\x04\x08\x09", '","state":"x', "state.\x03"])
def test_names_change_no_figures(channel: Any, text: str) -> None:
    """Control bytes, JSON or placeholders in the names of tasks and canvases arrive as they are."""
    topic = channel.topic(TOPIC)
    with topic.subscribe() as subscription:
        transport_of(channel).publish(canvas_events.declare(CANVAS, 2, canvas="group", name=text))
        for part, ending in ((text, "SUCCESS"), ("b", "FAILURE")):
            for state in ("STARTED", ending):
                transport_of(channel).publish(
                    canvas_events.make(CANVAS, 2, part, state, name=text, label=text)
                )
        topic.publish(b"sentinel")
        seen = list(received(subscription))
    states = [event["state"] for event in seen if event["type"] == "state"]
    assert states == ["PENDING", "STARTED", "FAILURE"]
    progress = [event for event in seen if event["type"] == "progress"]
    assert [event["current"] for event in progress] == [0, 1, 1, 2]
    assert [event["part"]["task"] for event in progress] == [text, text, "b", "b"]
    assert all(event["part"]["name"] == event["part"]["label"] == text for event in progress)
    found = snapshot(channel)
    assert (found["state"], found["name"], found["progress"]["percent"]) == ("FAILURE", text, 50)
    assert found["parts"] == {"waiting": 0, "running": 0, "succeeded": 1, "revoked": 0, "failed": 1}
    assert {row["task"] for row in found["children"]} == {text, "b"}


@pytest.mark.parametrize("backend", ["redis"])
def test_an_end_leaves_no_list_of_parts(own_valkey: Any, backend: str) -> None:
    """When the last part has ended, what was kept of each is given back; keys expire with the state."""
    channel: Any = bridge.connect(own_valkey.url(backend), retention_seconds=60)
    for part in range(100):
        tell(channel, 100, str(part), "STARTED")
    keys = f"bridge:{{t:{TOPIC}}}:"
    assert own_valkey.command("HLEN", keys + "parts") == 100
    for part in range(100):
        tell(channel, 100, str(part), "SUCCESS")
    assert own_valkey.command("EXISTS", keys + "parts") == 0
    assert own_valkey.command("HLEN", keys + "rows") == MAX_ROWS
    eventually(
        lambda: all(
            0 < own_valkey.command("TTL", key) <= 61 for key in own_valkey.command("KEYS", "*canvas*")
        )
    )
    channel.close()
