"""A Firefox that tests drive by WebDriver BiDi, which it speaks itself: no other program is needed."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# `Any` in this module: the parameters and results of WebDriver BiDi are JSON.
from typing import Any

import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.servers import eventually, free_port

SECONDS = 60
COMMANDS = ("firefox-esr", "firefox", "/Applications/Firefox.app/Contents/MacOS/firefox")


class FirefoxTab:
    """One tab."""

    def __init__(self, browser: "Firefox", context: str) -> None:
        self._browser = browser
        self._context = context

    def goto(self, url: str) -> None:
        parameters = {"context": self._context, "url": url, "wait": "complete"}
        self._browser.send("browsingContext.navigate", parameters)

    def evaluate(self, script: str, argument: Any = None) -> Any:
        """Return what the function `script` returns for `argument`, or its promise gives, as JSON."""
        expression = f"(async () => JSON.stringify((await ({script})({json.dumps(argument)})) ?? null))()"
        target = {"context": self._context}
        parameters = {"expression": expression, "awaitPromise": True, "target": target}
        result = self._browser.send("script.evaluate", parameters)
        if result["type"] == "exception":
            raise AssertionError(result["exceptionDetails"]["text"])
        return json.loads(result["result"]["value"])

    def close(self) -> None:
        self._browser.send("browsingContext.close", {"context": self._context})


class Firefox:
    """A session with a running Firefox."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._count = 0
        self.send("session.new", {"capabilities": {}})

    def send(self, method: str, parameters: dict[str, Any]) -> Any:
        """Send a command and return its result."""
        self._count += 1
        self._connection.send(json.dumps({"id": self._count, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self._connection.recv(SECONDS))
            if answer.get("id") == self._count:
                assert answer["type"] == "success", answer
                return answer["result"]

    def new_tab(self) -> FirefoxTab:
        return FirefoxTab(self, self.send("browsingContext.create", {"type": "tab"})["context"])


@contextmanager
def firefox() -> Iterator[Firefox]:
    """A Firefox without a window; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, COMMANDS)), None)
    if program is None:
        pytest.skip("no Firefox here; on Debian: apt-get install firefox-esr")
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bridge-firefox-", ignore_cleanup_errors=True) as folder:
        command = [program, "--headless", "--no-remote", "--profile", folder]
        process = subprocess.Popen(
            [*command, "--remote-debugging-port", str(port)],
            env={**os.environ, "HOME": folder},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        connections: list[ClientConnection] = []

        def opened() -> bool:
            assert process.poll() is None, "Firefox ended at once"
            try:
                connections.append(
                    connect(f"ws://127.0.0.1:{port}/session", max_size=None, proxy=None, open_timeout=SECONDS)
                )
            except (OSError, WebSocketException):
                return False
            return True

        try:
            eventually(opened, SECONDS, "Firefox did not start")
            with connections[0] as connection:
                yield Firefox(connection)
        finally:
            process.terminate()
            process.wait(SECONDS)
