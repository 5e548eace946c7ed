"""The commands that read and publish, on every backend."""

import uuid
from typing import Any

import pytest

import bridge
from bridge.backends.base import Listing
from bridge.channel.transport import transport_of
from bridge.tasks.heartbeats import WORKERS
from tests.cli.tools import objects, run, say
from tests.conftest import LIVE_ONLY, REPLAYING

HOSTILE = "evil\x1b[2J\u202e\x9b31m"


def test_each_command_works_on_every_backend(url: str) -> None:
    """What is published is read, listed and counted; a backend without messages says what it cannot do."""
    namespace = ("--namespace", uuid.uuid4().hex)
    replays = url.partition("://")[0] not in LIVE_ONLY
    with bridge.connect(url, namespace=namespace[1]) as channel:
        say(channel, "t1", ("state", {"state": "STARTED", "name": "shop.pack"}), ("log", {"message": "one"}))
        say(channel, "t1", ("state", {"state": "SUCCESS", "name": "shop.pack", "result": 7}))
        say(channel, "t2", ("state", {"state": "PENDING", "name": HOSTILE}))
        published = run("publish", url, "orders", "héllo", "--type", "placed", *namespace)
        assert published.exit_code == 0, published.output
        assert bool(published.stdout.strip()) == replays

        listed = run("tasks", url, *namespace)
        assert [(each["task"], each["state"]) for each in objects(listed)] == [
            ("t2", "PENDING"),
            ("t1", "SUCCESS"),
        ]
        assert objects(listed)[0]["name"] == HOSTILE
        assert not set(listed.stdout) & set("\x1b\x9b\u202e")

        (counted,) = objects(run("stats", url, *namespace))
        assert counted["states"] == {"PENDING": 1, "SUCCESS": 1}
        assert ("topics" in counted) == replays

        followed = run("tail", url, "t1", *namespace)
        assert followed.exit_code == 0
        assert [each["type"] for each in objects(followed)] == ["snapshot", "end"]

        if replays:
            _reads(url, namespace, published.stdout.strip())
        else:
            for command in (("topics", url), ("read", url, "orders", "--after", "beginning")):
                refused = run(*command, *namespace)
                assert refused.exit_code == 1
                assert "keeps messages" in refused.stderr or "keeps no messages" in refused.stderr


def _reads(url: str, namespace: tuple[str, ...], first: str) -> None:
    found = objects(run("topics", url, *namespace))
    assert found == [{"topic": name} for name in ("orders", "task:t1", "task:t2", "tasks")]
    few = run("topics", url, "--limit", "2", *namespace)
    assert len(objects(few)) == 2
    assert "there are more topics" in few.stderr
    second = run("publish", url, "orders", *namespace, input=b"\xff\x00").stdout.strip()
    read = run("read", url, "orders", "--after", "beginning", "--count", "2", *namespace)
    assert objects(read) == [
        {"id": first, "topic": "orders", "type": "placed", "payload": "héllo"},
        {"id": second, "topic": "orders", "type": None, "base64": "/wA="},
    ]
    (last,) = objects(run("read", url, "orders", "--after", first, "--count", "1", *namespace))
    assert last["id"] == second


@pytest.mark.parametrize("url", [each for each in REPLAYING if each != "memory"], indirect=True)
def test_namespaces_do_not_show_each_other(url: str) -> None:
    """Each lists its own topics, also if its name has characters of patterns and keys; all are found."""
    names = [f"{uuid.uuid4().hex}{end}" for end in ("*[a-z]?", "%7B{x", "plain")]
    for name in names:
        with bridge.connect(url, namespace=name) as channel:
            channel.topic(WORKERS).publish(b"{}")
            channel.topic(f"of {name}").publish(b"1")
    for name in names:
        assert [each["topic"] for each in objects(run("topics", url, "--namespace", name))] == [
            f"of {name}",
            WORKERS,
        ]
    with bridge.connect(url) as channel:
        backend: Any = transport_of(channel).backend
        assert isinstance(backend, Listing)
        assert set(names) <= set(backend.namespaces(WORKERS))


def test_bad_arguments_are_refused_with_the_reason() -> None:
    """Names that are no topics, types that are reserved and ids that are none: usage errors, status 2."""
    for command, says in (
        (("publish", "memory://", "x", "1", "--type", "end"), "reserved"),
        (("publish", "memory://", "a\nb", "1"), "control characters"),
        (("read", "memory://", "x", "--after", "abc"), "a message's id"),
        (("tail", "memory://", "a\x1bb"), "control characters"),
        (("tail", "memory://"), "expected [URL] TASK..."),
        (("tasks", "memory://", "--tag", "x" * 300), "255 characters"),
    ):
        result = run(*command)
        assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
        assert "\x1b" not in result.stderr


def test_the_url_comes_from_the_environment(valkey: Any) -> None:
    """With BRIDGE_URL the first argument is a topic; an argument with a scheme still is the URL."""
    name = uuid.uuid4().hex
    given = {"BRIDGE_URL": valkey.url("redis"), "BRIDGE_NAMESPACE": name}
    assert run("publish", "orders", "one", env=given).exit_code == 0
    assert objects(run("topics", env=given)) == [{"topic": "orders"}]
    assert objects(run("topics", f"memory://{name}", env=given)) == []


def test_memory_says_that_it_lives_in_one_process() -> None:
    """Every command says so on standard error, and for `doctor` it is the problem."""
    assert "memory:// lives in one process" in run("tasks", "memory://").stderr
    looked = run("doctor", "memory://")
    assert looked.exit_code == 1
    assert "PROBLEM: memory:// lives in one process" in looked.stdout
    assert "use redis://" in looked.stdout
