"""A cursor is what a stranger sends: no answer is a 500, and none shows another topic's data."""

import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from flask import Flask, Response, request

import bridge
from bridge.channel.transport import transport_of
from bridge.flask import Bridge
from tests import events
from tests.servers import Valkey
from tests.serving import serving

SECRET = b"only for the viewers of the other topic"
OWN = b"for the viewers of this one"

HOSTILE = [
    "end,end",
    "0",
    "-1",
    "$",
    "+",
    "*",
    "0-0",
    "0-0-0",
    "x" * 8,
    "--",
    "1-1-1-1",
    "00000000-1-1",
    "deadbeef-99999999999999999999999999-1",
    "deadbeef--1-1",
    "deadbeef-1e3-1",
    "deadbeef-٣-1",
    "NaN",
    "null",
    "{}",
    '{"task:mine":"1-1"}',
    ",",
    ",,",
    "a,b",
    "a" * 7000,
    "1-" * 3000,
    "\N{SNOWMAN}",
    "' OR 1=1 --",
    "%00",
    "%0d%0a",
    "\x7f",
    "\t",
    " ",
]
CONTROL = ["\0", "\n", "\r\n", "a\0b", "a\nid: 1\n\ndata: forged", "a\r\nX-Forged: 1", "\x1b[0m"]

TOPICS = {"task": ("task:mine", "task:theirs"), "plain": ("mine", "theirs")}


@pytest.fixture(scope="module")
def namespace() -> str:
    return uuid.uuid4().hex


@pytest.fixture(scope="module")
def cursors(valkey: Valkey, namespace: str) -> Iterator[dict[str, str]]:
    """Publish to every topic; return the id of the first of two messages of each."""
    channel: Any = bridge.connect(valkey.url("redis"), namespace=namespace)
    yield {name: _publish_two(channel, name) for names in TOPICS.values() for name in names}
    channel.close()


def _publish_two(channel: Any, topic: str) -> str:
    text = (OWN if topic.endswith("mine") else SECRET).decode()
    first, _ = (_publish(channel, topic, f"{text} {number}") for number in range(2))
    return first


def _publish(channel: Any, topic: str, text: str) -> str:
    """Publish a text as what the topic carries; return the id."""
    task = events.task_of(topic)
    if task is None:
        message_id = channel.topic(topic).publish(text.encode())
    else:
        message_id = transport_of(channel).publish(events.make("log", task, level="info", message=text))
    assert isinstance(message_id, str)
    return message_id


@pytest.fixture(scope="module")
def app(valkey: Valkey, namespace: str) -> Iterator[Flask]:
    app = Flask(__name__)
    app.config.update(
        BRIDGE_URL=valkey.url("redis"), BRIDGE_PUBLIC=True, BRIDGE_NAMESPACE=namespace, BRIDGE_HEARTBEAT=5
    )
    extension = Bridge(app)

    @app.get("/stream")
    def stream() -> Response:
        return extension.stream(*request.args.getlist("topic"))

    yield app
    app.extensions["bridge"].channel.close()


def shown(app: Flask, topic: str, cursor: str, way: str) -> tuple[int, bytes]:
    """What a viewer with this cursor gets, up to a message that is published when its stream is open."""
    headers, query = {}, [("topic", topic)]
    if way == "header":
        headers["Last-Event-ID"] = cursor
    else:
        query.append(("last_event_id", cursor))
    response = app.test_client().get("/stream", query_string=query, headers=headers)
    chunks = response.iter_encoded()
    last = uuid.uuid4().hex
    text = next(chunks, b"")
    if text:
        _publish(app.extensions["bridge"].channel, topic, last)
    while text and last.encode() not in text:
        text += next(chunks)
    response.close()
    return response.status_code, text


def check(status: int, text: bytes) -> None:
    assert status in (200, 204)
    assert SECRET not in text


def kinds(text: bytes) -> list[bytes]:
    return re.findall(rb"^event: (\w+)", text, re.MULTILINE)


way = pytest.mark.parametrize("way", ["header", "query"])
kind = pytest.mark.parametrize("kind", TOPICS)


@way
@kind
def test_what_is_no_cursor_begins_anew(app: Flask, cursors: dict[str, str], kind: str, way: str) -> None:
    """A malformed cursor is treated as none, with a reset: then comes the snapshot, if there is one."""
    mine, _ = TOPICS[kind]
    for cursor in HOSTILE + (CONTROL if way == "query" else []):
        if way == "header" and (not cursor.strip() or not cursor.isascii()):
            continue
        status, text = shown(app, mine, cursor, way)
        check(status, text)
        expected = [b"reset", b"snapshot"] if kind == "task" else [b"reset"]
        assert kinds(text)[:2] == expected, (cursor, text)


@way
@kind
def test_the_cursor_of_another_topic_is_a_lost_one(
    app: Flask, cursors: dict[str, str], kind: str, way: str
) -> None:
    """A real id of another topic gives a reset, and only this topic's data."""
    mine, _ = TOPICS[kind]
    for other in {name for names in TOPICS.values() for name in names} - {mine}:
        status, text = shown(app, mine, cursors[other], way)
        check(status, text)
        assert kinds(text)[:1] == [b"reset"]
    status, text = shown(app, mine, cursors[mine], way)
    check(status, text)
    assert kinds(text)[:1] != [b"reset"]
    assert OWN + b" 1" in text
    assert OWN + b" 0" not in text


@kind
def test_forgeries_of_a_cursor_show_only_this_topic(app: Flask, cursors: dict[str, str], kind: str) -> None:
    """A cursor with any one character changed, left out or doubled is lost, or a place in this topic."""
    mine, theirs = TOPICS[kind]
    good = cursors[mine]
    forged = {
        good[:at] + new + good[at + 1 :] for at in range(len(good)) for new in ("", "0", "f", "9", "-", ",")
    }
    forged |= {good[:at] + good[at:] * 2 for at in range(0, len(good), 3)}
    forged |= {f"{good},{cursors[theirs]}", f"{cursors[theirs]},{good}", f"{good},end", good.upper()}
    for cursor in forged - {good}:
        status, text = shown(app, mine, cursor, "query")
        check(status, text)
        assert OWN in text or kinds(text) == [b"reset"], (cursor, text)


@pytest.mark.parametrize("forged", ["f" * 8, "0" * 8, "", "f" * 32])
@kind
def test_a_forged_epoch_is_a_lost_position(
    app: Flask, cursors: dict[str, str], kind: str, forged: str
) -> None:
    """The right place in another epoch is no place: a reset."""
    mine, _ = TOPICS[kind]
    _, place = cursors[mine].split("-", 1)
    status, text = shown(app, mine, f"{forged}-{place}", "header")
    check(status, text)
    assert kinds(text)[:1] == [b"reset"]


def test_a_subscriber_with_another_topics_id_is_told(
    valkey: Valkey, namespace: str, cursors: dict[str, str]
) -> None:
    """In the API too another topic's id raises PositionLost, and what is no id a ValueError."""
    channel = bridge.connect(valkey.url("redis"), namespace=namespace)
    with (
        pytest.raises(bridge.PositionLost),
        channel.topic("mine").subscribe(after=cursors["theirs"]) as other,
    ):
        other.receive(timeout=5)
    for text in (*HOSTILE[1:14], *CONTROL):
        if re.fullmatch(r"[0-9a-f]*-\d+-\d+", text, re.ASCII):
            continue
        with pytest.raises(ValueError, match="cursor"):
            channel.topic("mine").subscribe(after=text)
    channel.close()


def ask(address: str, head: bytes) -> tuple[int | None, bytes]:
    """Send raw bytes; return the status and the answer, as far as the first data of any topic."""
    parts = urlsplit(address)
    answer = b""
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as connection:
        with suppress(ConnectionError):  # a server may hang up on what it will not read
            connection.sendall(head)
        with suppress(ConnectionResetError):
            while OWN not in answer and SECRET not in answer and (more := connection.recv(65536)):
                answer += more
    status = re.match(rb"HTTP/1\.[01] (\d+)", answer)
    return int(status[1]) if status else None, answer


SIZES = (7_000, 60_000, 100_000)


@pytest.mark.parametrize("server", ["gunicorn sync", "gunicorn gevent", "pywsgi", "flask"])
def test_servers_survive_hostile_requests(
    server: str, valkey: Valkey, namespace: str, cursors: dict[str, str]
) -> None:
    """NUL, line breaks, bytes that are no text, 100 KB, in header and query: never a 500, never a secret."""
    given = {"URL": valkey.url("redis"), "PUBLIC": "true", "NAMESPACE": namespace, "HEARTBEAT": "0.1"}
    values = [b"\0", b"a\0b", b"\r", b"a\rb", b"a\nb", b"a\r\n folded", b"\xff\xfe", b"\xed\xa0\x80"]
    values += [b"x" * size for size in SIZES] + [b"1-" * (size // 2) for size in SIZES]
    values += [cursors["task:theirs"].encode()]
    path = "GET /stream?topic=task:mine"
    rest = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    requests = [f"{path}{rest}Last-Event-ID: ".encode() + value + b"\r\n\r\n" for value in values]
    requests += [f"{path}&last_event_id={quote(value)}{rest}\r\n".encode() for value in values]
    with serving(server, **{f"BRIDGE_{name}": value for name, value in given.items()}) as address:
        for sent in requests:
            status, answer = ask(address, sent)
            assert SECRET not in answer
            assert status is None or status < 500, (sent[:200], answer[:500])
            assert status != 200 or OWN in answer, (sent[:200], answer[:500])
        assert ask(address, f"{path}{rest}\r\n".encode())[0] == 200
