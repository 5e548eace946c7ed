"""Runs the command `bridge` in the process of the test, or as a process on a terminal."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result

from bridge.channel.transport import transport_of
from bridge.cli.group import bridge
from tests import events

SECONDS = 90


def run(*arguments: str, **options: Any) -> Result:
    """Run the command with its output in a pipe."""
    return CliRunner().invoke(bridge, arguments, prog_name="bridge", **options)


def objects(result: Result) -> list[dict[str, Any]]:
    """Return the JSON objects that a command printed, one in each line."""
    return [json.loads(line) for line in result.stdout.splitlines()]


def say(channel: Any, task: str, *said: tuple[str, dict[str, Any]]) -> None:
    """Publish events of a task."""
    for kind, fields in said:
        transport_of(channel).publish(events.make(kind, task, **fields))


class Terminal:
    """A process whose terminal is read until it ends."""

    def __init__(self, process: "subprocess.Popen[bytes]", descriptor: int) -> None:
        self.process = process
        self.text = ""
        self._descriptor = descriptor

    def wait_for(self, text: str) -> None:
        """Read until `text` has come; fail if the process ends before."""
        while text not in self.text:
            assert self._read(), f"{text!r} is missing in {self.text!r}"

    def end(self) -> int:
        """Read all that follows, and return the exit status."""
        while self._read():
            pass
        return self.process.wait(SECONDS)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self._descriptor, b"\x03")

    def _read(self) -> bool:
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # Linux has no end of file here
            return False
        self.text += data.decode(errors="replace")
        return bool(data)


@contextmanager
def on_terminal(*arguments: str, columns: int = 120) -> Iterator[Terminal]:
    """Run the command on a terminal, and end it with the block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "bridge.cli", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # Ctrl-C then reaches it
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(ours)
