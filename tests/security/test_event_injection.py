"""What anyone may write into an event stays in its field: it begins no other field and no other event."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request

import bridge
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from bridge.model.event_type import STREAM_TYPES, TASK_TYPES
from bridge.streams import sse
from bridge.tasks import events
from bridge.tasks.changes import publication
from bridge.tasks.event_types import Custom, Event, State
from tests.events import KINDS, full_of

BREAKS = ("\n", "\r", "\r\n", "\n\n", "\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\x1e", "\0")
HOSTILE = "x" + "".join(f"{each}data: forged{each}id: forged{each}event: forged" for each in BREAKS)
TASK = bridge.task_topic("t1")


class Site:
    """An application that streams every topic, and the channel that it streams from."""

    def __init__(self) -> None:
        self._app = app = Flask(__name__)
        app.config.update(BRIDGE_URL=f"memory://{uuid.uuid4().hex}", BRIDGE_PUBLIC=True)
        extension = Bridge(app)
        self.channel: Any = app.extensions["bridge"].channel

        @app.get("/stream")
        def stream() -> Response:
            return extension.stream(*request.args.getlist("topic"))

    def tell(self, event: Event) -> None:
        transport_of(self.channel).publish(publication(event, 1))

    def events(self, *topics: str, published: Any = None) -> list[dict[str, str]]:
        """Open a stream, call `published`, and return all that the stream sends up to then."""
        last = uuid.uuid4().hex
        response = self._app.test_client().get("/stream", query_string=[("topic", each) for each in topics])
        chunks = response.iter_encoded()
        text = next(chunks)
        if published is not None:
            published()
        self.tell(Custom("t1", type="last", data=last))  # to the task and to the feed
        for plain in set(topics).difference((TASK, events.FEED)):
            self.channel.topic(plain).publish(last.encode())
        while text.count(last.encode()) < len(topics):
            text += next(chunks)
        response.close()
        return parsed(text.decode())


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.channel.close()


def parsed(text: str) -> list[dict[str, str]]:
    """Return the events of a stream, as the standard reads it; fail for a field that is none of ours."""
    found: list[dict[str, str]] = [{}]
    for line in re.split("\r\n|\r|\n", text):
        if not line:
            found.append({})
        elif not line.startswith(":"):
            name, _, value = line.partition(": ")
            assert name in {"event", "topic", "id", "data", "retry"}
            found[-1][name] = f"{found[-1][name]}\n{value}" if name in found[-1] else value
    return [event for event in found if "data" in event]


@pytest.mark.parametrize("kind", KINDS)
def test_every_field_of_every_event(site: Site, kind: type[Event]) -> None:
    """Line breaks, also those that only some parsers know, stay in the JSON, live and in snapshots."""
    event = full_of(HOSTILE, kind)
    live = site.events(TASK, events.FEED, published=lambda: site.tell(event))
    late = site.events(TASK)
    told = [each for each in live if each.get("event") == event.type]
    assert [json.loads(each["data"]) for each in told] == [json.loads(events.encode(event))] * 2
    assert {each.get("event") for each in live} == {"snapshot", event.type, "last"}
    assert {each.get("event") for each in late} == {"snapshot", "last"}
    for each in live + late:
        assert "forged" not in f"{each.get('id')} {each.get('topic')} {each.get('event')}"


def test_a_payload_of_a_plain_topic(site: Site) -> None:
    """Each line of a payload is a line of the data."""
    topic = site.channel.topic("news")
    all_of_it = site.events("news", TASK, published=lambda: topic.publish(HOSTILE.encode()))
    seen, _ = (each for each in all_of_it if each["topic"] == "news" and each["data"])
    assert seen["data"] == re.sub("\r\n|\r", "\n", HOSTILE)
    assert seen.keys() == {"topic", "id", "data"}


@pytest.mark.parametrize("end", [*BREAKS, "\x1b", "\x7f"])
def test_types_and_topics_with_breaks_are_refused(site: Site, end: str) -> None:
    """Where they are given, so that nobody stores them; the writer of the stream refuses those of a line."""
    name = f"a{end}data: forged"
    with pytest.raises(ValueError, match="event type"):
        site.channel.topic("news").publish(b"", type=name)
    with pytest.raises(ValueError, match="event type"):
        events.check_type(name)
    if end not in ("\u2028", "\u2029"):  # text as any other in a line of a stream
        with pytest.raises(ValueError, match="control characters"):
            site.channel.topic(name)
    if any(each in end for each in "\r\n\0"):
        for given in ({"event": name}, {"id": name}, {"topic": name}):
            with pytest.raises(ValueError, match="line break"):
                sse.frame(b"", **given)
        with pytest.raises(ValueError, match="line break"):
            sse.comment(name)


def test_nobody_publishes_what_only_a_stream_says(site: Site) -> None:
    """Neither by a type, on any topic, nor as raw JSON on the topic of a task or on the feed."""
    for name in STREAM_TYPES | TASK_TYPES:
        for topic in ("news", TASK, events.FEED):
            with pytest.raises(ValueError, match="reserved"):
                site.channel.topic(topic).publish(b"{}", type=name)

    def forge() -> None:
        for name in sorted(STREAM_TYPES):
            raw = {"v": 1, "type": name, "task": "t1", "at": 1, "state": "SUCCESS", "reason": "x"}
            for topic in (TASK, events.FEED):
                site.channel.topic(topic).publish(json.dumps(raw).encode())

    seen = site.events(TASK, events.FEED, published=forge)
    kinds = [each.get("event") for each in seen]
    assert kinds.count(None) == 2 * len(STREAM_TYPES)
    assert set(kinds) == {None, "snapshot", "last"}


def test_raw_json_is_seen_but_changes_no_state(site: Site) -> None:
    """Whoever may publish to the topic of a task can tell its viewers anything; the kept state stays."""
    raw = b'{"v":1,"type":"state","task":"t1","at":1,"state":"FAILURE"}'
    site.tell(State("t1", state="STARTED", attempt=1))
    seen = site.events(events.FEED, published=lambda: site.channel.topic(events.FEED).publish(raw))
    assert '"state":"FAILURE"' in "".join(each["data"] for each in seen)
    (snapshot, *_) = site.events(TASK)
    assert json.loads(snapshot["data"])["state"] == "STARTED"
