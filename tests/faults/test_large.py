"""Large states and long histories: what is bounded is bytes, and one topic never holds up another."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest

import bridge
from bridge.channel.transport import transport_of
from tests import events
from tests.listener import SECONDS, Listener, body_of
from tests.readers import Reader, read_until
from tests.servers import Postgres, Valkey, eventually
from tests.serving import logged

BACKENDS = ("redis", "sqlite", "postgresql")

Publish = Callable[..., None]


class Served:
    """A server with viewers, and a channel that publishes to them."""

    def __init__(self, address: str, log: Path, channel: Any) -> None:
        self.address = address
        self.port = int(address.rpartition(":")[2])
        self.log = log
        self.channel = channel

    def told(self, path: str) -> dict[str, int]:
        told: dict[str, int] = httpx.get(
            f"{self.address}{path}", timeout=SECONDS, trust_env=False, verify=False
        ).json()
        return told

    def say(self, kind: str, task: str, **fields: Any) -> None:
        transport_of(self.channel).publish(events.make(kind, task, **fields))


@contextmanager
def served(url: str, **settings: str) -> Iterator[Served]:
    namespace = uuid.uuid4().hex
    needed = {"BRIDGE_URL": url, "BRIDGE_PUBLIC": "true", "BRIDGE_NAMESPACE": namespace}
    with (
        bridge.connect(url, namespace=namespace) as channel,
        logged("gunicorn gthread", **needed, **settings) as (address, log),
    ):
        yield Served(address, log, channel)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/bridge.db"
    server: Valkey | Postgres = request.getfixturevalue(
        "postgres" if request.param == "postgresql" else "valkey"
    )
    return server.url(request.param) if isinstance(server, Valkey) else server.url()


def frames(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """The events of a stream, by their types."""
    found = []
    for frame in body.split(b"\n\n"):
        lines = dict(line.split(b": ", 1) for line in frame.split(b"\n") if b": " in line)
        if b"data" in lines:
            found.append((lines.get(b"event", b"").decode(), json.loads(lines[b"data"])))
    return found


@pytest.mark.parametrize("url", BACKENDS, indirect=True)
@pytest.mark.parametrize(("lines", "size"), [(1000, 1500), (300, 9000)])
def test_a_large_state_is_shown_whole(url: str, lines: int, size: int) -> None:
    """A task with megabytes of log has its snapshot, what follows it, and its end."""
    with served(url) as server:
        for number in range(lines):
            server.say("log", "t1", level="info", message=f"{number} " + "x" * size)
        listener = Listener(server.address, "task:t1")
        listener.until(b"event: snapshot")
        server.say("state", "t1", state="SUCCESS")
        (kind, snapshot), *rest = frames(body_of(listener.rest()))
        assert kind == "snapshot"
        assert [int(line["message"].split()[0]) for line in snapshot["events"]] == list(range(lines))
        assert [kind for kind, _ in rest] == ["state", "end"]


@pytest.mark.parametrize("url", [*BACKENDS, "redis+pubsub"], indirect=True)
def test_a_large_feed_is_shown_whole_while_tasks_go_on(url: str) -> None:
    """A feed of many megabytes has every task, and each log line of a task that goes on is seen once."""
    tasks, stop = 300, threading.Event()
    with served(url) as server:
        for number in range(tasks):
            server.say("state", f"t{number}", state="STARTED")
            server.say("log", f"t{number}", level="info", message="x" * 36_000)
        lines: list[str] = []

        def go_on() -> None:
            while not stop.is_set():
                lines.append(f"line {len(lines)}.")
                server.say("log", f"t{len(lines) * 37 % tasks}", level="info", message=lines[-1])

        speaker = threading.Thread(target=go_on)
        speaker.start()
        listener = Listener(server.address, bridge.FEED)
        eventually(lambda: lines, SECONDS)
        listener.until_body(lambda body: b'"t0"' in body)
        stop.set()
        speaker.join()
        server.say("state", "last", state="SUCCESS")
        body = listener.until_body(lambda body: b'"last"' in body and body.count(b"event: snapshot") >= tasks)
        states: dict[str, list[str]] = {}
        for kind, event in frames(body):
            if kind == "snapshot":
                states[event["task"]] = [line["message"] for line in event["events"]]
            elif kind == "log":
                states.setdefault(event["task"], []).append(event["message"])
        seen = [message for messages in states.values() for message in messages if message.startswith("line")]
        assert sorted(seen) == sorted(lines)
        assert len(states) >= tasks


@pytest.mark.parametrize("url", BACKENDS, indirect=True)
def test_whoever_missed_many_bytes_gets_all_of_them(url: str) -> None:
    """40 viewers that come back for 60 MB each get every message, and the process stays small."""
    count, size = 400, 150_000
    with served(url) as server:
        topic = server.channel.topic("news")
        first = topic.publish(b"the first")
        for number in range(count):
            topic.publish(b"#%d#" % number + b"x" * size)
        before = server.told("/pid")["peak"]
        header = f"Last-Event-ID: {first}\r\n"
        readers = [Reader(server.port, "/stream?topic=news", header) for _ in range(40)]
        read_until(readers, count, within=60)
        assert server.told("/pid")["peak"] - before < 100_000_000
        assert server.told("/stats")["viewers_cut_off"] == 0
        topic.publish(b"#%d#" % count)
        read_until(readers, count + 1, within=10)


@pytest.mark.parametrize("url", BACKENDS, indirect=True)
def test_a_message_as_large_as_a_backlog_arrives(url: str) -> None:
    """Each of three messages that are larger than what may wait for a viewer comes, live and from history."""
    with served(url, BRIDGE_VIEWER_BACKLOG="100000") as server:
        topic = server.channel.topic("news")
        first = topic.publish(b"the first")
        for number in range(3):
            topic.publish(b"#%d#" % number + b"x" * 1_000_000)
        reader = Reader(server.port, "/stream?topic=news", f"Last-Event-ID: {first}\r\n")
        read_until([reader], 3, within=20)
        topic.publish(b"#3#" + b"x" * 1_000_000)
        read_until([reader], 4, within=20)


@pytest.mark.parametrize("url", BACKENDS, indirect=True)
def test_a_long_history_holds_up_no_other_topic(url: str) -> None:
    """While one viewer gets 200 messages of 300 KB, another topic's arrive, and no connection is lost."""
    with served(url) as server:
        for number in range(200):
            server.channel.topic("large").publish(b"#%d#" % number + b"x" * 300_000)
        other = Listener(server.address, "small")
        other.until(b"retry: ")
        reader = Reader(server.port, "/stream?topic=large&last_event_id=beginning")
        took = []
        for number in range(20):
            began = time.monotonic()
            server.channel.topic("small").publish(b"<%d>" % number)
            other.until(b"<%d>" % number)
            took.append(time.monotonic() - began)
            with_data = reader.next
            read_until([reader], min(200, with_data + 10), within=20)
        read_until([reader], 200, within=20)
        assert max(took) < 1
        assert server.told("/stats")["connections_lost"] == 0


def test_viewers_that_never_read_hold_little(valkey: Valkey) -> None:
    """100 viewers that read nothing of a history or of a state share what waits for them."""
    with served(valkey.url("redis")) as server:
        for number in range(500):
            server.channel.topic("news").publish(b"#%d#" % number + b"x" * 20_000)
        for number in range(200):
            server.say("log", "t1", level="info", message=f"{number} " + "x" * 9000)
        before = server.told("/pid")["peak"]
        stuck = [
            Reader(server.port, f"/stream?topic={topic}&last_event_id={cursor}", receive_buffer=4096)
            for topic, cursor in (("news", "beginning"), ("task:t1", ""))
            for _ in range(50)
        ]
        eventually(lambda: server.told("/stats")["viewers_handed_over"] == 100, SECONDS)
        quick = Reader(server.port, "/stream?topic=news&last_event_id=beginning")
        read_until([quick], 500, within=20)
        assert server.told("/pid")["peak"] - before < 60_000_000
        assert len(stuck) == 100


def test_what_loses_its_connection_twice_fails_alone(own_valkey: Valkey) -> None:
    """A topic whose history the server will not send ends; another goes on, and the log names the first."""
    with served(own_valkey.url("redis")) as server:
        for number in range(20):
            server.channel.topic("large").publish(b"#%d#" % number + b"x" * 300_000)
        other = Listener(server.address, "small")
        other.until(b"retry: ")
        own_valkey.command("CONFIG", "SET", "client-output-buffer-limit", "normal 100000 0 0")
        reader = Listener(server.address, "large&last_event_id=beginning")
        assert b"data: " not in reader.rest()
        server.channel.topic("small").publish(b"still here")
        other.until(b"still here")
        assert server.told("/stats")["connections_lost"] == 0
        assert "'large'" in server.log.read_text()


@pytest.mark.parametrize("refusal", ["NOPERM", "WRONGTYPE"])
def test_a_topic_that_the_server_refuses_fails_alone(own_valkey: Valkey, refusal: str) -> None:
    """Every message of another topic arrives, and whoever asked for the refused one is told its name."""
    namespace = uuid.uuid4().hex
    if refusal == "NOPERM":
        keys = f"%R~{namespace}:{{t:good*"
        own_valkey.command("ACL", "SETUSER", "web", "on", ">secret", "+@all", "allchannels", keys)
    url = (
        f"redis://web:secret@127.0.0.1:{own_valkey.port}/0"
        if refusal == "NOPERM"
        else own_valkey.url("redis")
    )
    with (
        bridge.connect(own_valkey.url("redis"), namespace=namespace) as publisher,
        bridge.connect(url, namespace=namespace) as channel,
    ):
        if refusal == "WRONGTYPE":
            own_valkey.command("SET", f"{namespace}:{{t:bad}}:meta", "a string")
        with channel.topic("good").subscribe() as good:
            for number in range(8):
                with pytest.raises(bridge.ConnectionLost, match=f"'bad'.*{refusal}"):
                    channel.topic("bad").subscribe()
                publisher.topic("good").publish(b"%d" % number)
                assert good.receive(5) == b"%d" % number
        stats = transport_of(channel).hub.stats()
        assert stats["connections_lost"] == 0


def test_every_loss_is_counted(own_valkey: Valkey) -> None:
    """Each time the server closes the reading connection, one more is counted."""
    with bridge.connect(own_valkey.url("redis")) as channel, channel.topic("a").subscribe() as subscription:

        def has_lost(count: int) -> bool:
            return transport_of(channel).hub.stats()["connections_lost"] == count

        for number in range(1, 4):
            own_valkey.command("CLIENT", "KILL", "TYPE", "pubsub")
            eventually(partial(has_lost, number))
            channel.topic("a").publish(b"%d" % number)
            assert subscription.receive(10) == b"%d" % number


def test_a_viewer_that_is_cut_off_is_logged_with_the_reason(valkey: Valkey) -> None:
    """One line names the topic, the client and what waits for it."""
    with served(valkey.url("redis"), BRIDGE_VIEWER_BACKLOG="100000") as server:
        stuck = Listener(server.address, "news", receive_buffer=4096)
        stuck.until(b"retry: ")
        deadline = time.monotonic() + SECONDS
        while not server.told("/stats")["viewers_cut_off"]:
            assert time.monotonic() < deadline
            for _ in range(10):
                server.channel.topic("news").publish(b"x" * 10_000)
        (line,) = [line for line in server.log.read_text().splitlines() if "closed a stream" in line]
        assert "'news' to 127.0.0.1: it does not read, and " in line


@pytest.mark.parametrize("url", BACKENDS, indirect=True)
def test_retention_is_the_same_for_who_has_just_read_and_for_others(url: str) -> None:
    """A place that is no longer kept is lost also in a process that still has what follows it at hand."""
    namespace = uuid.uuid4().hex
    with bridge.connect(url, namespace=namespace, retention_messages=10) as channel:
        topic = channel.topic("news")
        first = topic.publish(b"0")
        with topic.subscribe(after=first) as subscription:
            for number in range(1, 8):
                topic.publish(b"%d" % number)
            with topic.subscribe(after=first) as another:
                assert [another.receive(5) for _ in range(7)] == [b"%d" % n for n in range(1, 8)]
            received = [subscription.receive(5) for _ in range(7)]
            for number in range(8, 52):
                topic.publish(b"%d" % number)
                received.append(subscription.receive(5))
            assert received == [b"%d" % n for n in range(1, 52)]
            with bridge.connect(url, namespace=namespace, retention_messages=10) as other:
                for place in (channel, other):
                    with (
                        pytest.raises(bridge.PositionLost),
                        place.topic("news").subscribe(after=first) as lost,
                    ):
                        lost.receive(5)
                    kept = place.topic("news").history(limit=10)[0].id
                    with place.topic("news").subscribe(after=quote(kept or "")) as at_hand:
                        assert at_hand.receive(5) == b"43"
