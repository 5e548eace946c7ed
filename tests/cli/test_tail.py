"""`bridge tail`: what it shows, what it waits for, and how it ends."""

import os
import signal
import subprocess
import sys
import threading
import uuid
from typing import Any

import pytest

import bridge
from tests.cli.tools import SECONDS, objects, on_terminal, run, say
from tests.servers import Valkey, eventually

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e[bold red]x[/] :smile:"


@pytest.mark.parametrize(
    ("states", "status"),
    [
        (("SUCCESS",), 0),
        (("REVOKED",), 3),
        (("FAILURE",), 4),
        (("REJECTED",), 4),
        (("IGNORED",), 4),
        (("STALLED",), 5),
        (("SUCCESS", "FAILURE", "REVOKED"), 4),
        (("STALLED", "SUCCESS"), 5),
    ],
)
def test_the_exit_status_is_that_of_the_tasks(states: tuple[str, ...], status: int) -> None:
    """Each way in which a task is left has a status, and the highest of several tasks counts."""
    url = f"memory://{uuid.uuid4().hex}"
    with bridge.connect(url) as channel:
        for number, state in enumerate(states):
            say(channel, f"t{number}", ("state", {"state": "STARTED"}), ("state", {"state": state}))
        tasks = [f"t{number}" for number in range(len(states))]
        assert run("tail", url, *tasks).exit_code == status


def test_it_waits_for_a_task_that_does_not_exist_yet() -> None:
    """It ends when the task, which is queued later, has ended; a stalled task that goes on is no end."""
    url = f"memory://{uuid.uuid4().hex}"
    results: list[Any] = []
    with bridge.connect(url) as channel:
        say(channel, "other", ("state", {"state": "STARTED"}))
        following = threading.Thread(target=lambda: results.append(run("tail", url, "late", "other")))
        following.start()
        say(channel, "other", ("state", {"state": "STALLED"}))
        say(channel, "late", ("state", {"state": "STARTED"}), ("progress", {"percent": 50.0}))
        say(channel, "other", ("state", {"state": "STARTED", "resumed": True}))
        say(channel, "other", ("state", {"state": "SUCCESS"}))
        say(channel, "late", ("state", {"state": "SUCCESS", "result": 7}))
        following.join(SECONDS)
    (result,) = results
    assert result.exit_code == 0
    late = [each for each in objects(result) if each["task"] == "late"]
    assert late[0]["type"] == "snapshot"
    assert late[-1]["type"] == "end"


def test_a_terminal_shows_bars_steps_and_the_log(valkey: Valkey) -> None:
    """Names, steps, lines, figures and the error are there, and nothing that a task says moves the cursor."""
    url, namespace = valkey.url("redis"), uuid.uuid4().hex
    with bridge.connect(url, namespace=namespace) as channel:
        say(channel, "t1", ("state", {"state": "STARTED", "name": "shop.pack"}))
        with on_terminal("tail", url, "t1", "t2", "--namespace", namespace) as terminal:
            terminal.wait_for("shop.pack")
            say(channel, "t1", ("step", {"name": "wrap", "status": "started"}))
            say(channel, "t1", ("log", {"message": f"first {HOSTILE}\nsecond", "level": "warning"}))
            say(channel, "t1", ("preview", {"data": {"url": HOSTILE}}))
            say(channel, "t1", ("progress", {"percent": 40.0, "current": 2, "total": 5, "message": HOSTILE}))
            terminal.wait_for("2/5")
            say(channel, "t1", ("state", {"state": "SUCCESS", "result": HOSTILE}))
            say(channel, "t2", ("state", {"state": "FAILURE", "error": {"type": "E", "message": HOSTILE}}))
            assert terminal.end() == 4
    for shown in (
        "▸ wrap",
        "second",
        r"first \x1b[2J",
        "[bold red]x[/] :smile:",
        "40 %",
        "SUCCESS",
        "FAILURE",
    ):
        assert shown in terminal.text, shown
    for obeyed in ("\x1b[2J", "\x1b]0;", "\x07", "\x9b", "\u202e"):
        assert obeyed not in terminal.text


def test_ctrl_c_ends_it_cleanly(valkey: Valkey) -> None:
    """On a terminal and in a pipe it ends with 130 and no traceback, and the cursor is visible again."""
    url = valkey.url("redis")
    with on_terminal("tail", url, uuid.uuid4().hex) as terminal:
        terminal.wait_for("PENDING")
        terminal.interrupt()
        assert terminal.end() == 130
        assert terminal.text.rfind("\x1b[?25h") > terminal.text.rfind("\x1b[?25l")
        assert "Traceback" not in terminal.text
    with in_pipe("tail", url, uuid.uuid4().hex) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_a_broken_pipe_ends_it_silently(valkey: Valkey) -> None:
    """When nobody reads its output any more it ends, and says nothing."""
    url, namespace = valkey.url("redis"), uuid.uuid4().hex
    with (
        bridge.connect(url, namespace=namespace) as channel,
        in_pipe("tail", url, "t1", "--namespace", namespace) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()

        def ended() -> bool:
            say(channel, "t1", ("log", {"message": "x" * 10_000}))
            return process.poll() is not None

        eventually(ended, SECONDS)
        assert process.stderr.read() == b""


def test_a_lost_connection_has_a_status_of_its_own(own_valkey: Valkey) -> None:
    """A server that dies and does not come back ends it with 6 and a reason, as does one that never was."""
    url = own_valkey.url("redis")
    with in_pipe("tail", url, "t1", "--give-up-after", "0.5") as process:
        assert process.stdout is not None
        process.stdout.readline()
        own_valkey.kill()
        assert process.wait(SECONDS) == 6
        assert process.stderr is not None
        assert b"the connection is lost" in process.stderr.read()
    never = run("tail", url, "t1")
    assert never.exit_code == 6
    assert "did not answer" in never.stderr


def in_pipe(*arguments: str) -> "subprocess.Popen[bytes]":
    """Start the command with its output in pipes."""
    command = [sys.executable, "-m", "bridge.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ})
