"""What a fault strikes: Valkey, a Celery worker and a web server, as processes to be killed and started."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlencode

import httpx
from celery import Celery

import bridge
from tests import asgi_app, django_app
from tests.processes import ROOT
from tests.servers import Replicated, Valkey, eventually, free_port
from tests.serving import answers, command

START_SECONDS = 60

Framework = Literal["flask", "fastapi", "django"]
"""Flask under gunicorn with gevent, FastAPI under uvicorn, or Django under gunicorn with threads."""


class Process:
    """A command that is started, killed with all that it started, and started again."""

    def __init__(self, words: Sequence[str], log: Path, env: Mapping[str, str]) -> None:
        self._words = words
        self.log = log
        self._env = {**os.environ, **env}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, ready: Callable[[], bool]) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, cwd=ROOT, env=self._env, stdout=log, stderr=log, start_new_session=True
            )
        eventually(ready, START_SECONDS, f"{self.log.stem} did not start")

    def kill(self) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


class Stage:
    """`with Stage() as stage:` runs all of it and leaves nothing.

    `valkey`, or the servers given, which are running, carry the bridge and may be tortured. Celery has a
    broker of its own, which is left alone. Everyone may read, unless `token_keys` verify tokens.
    """

    def __init__(
        self,
        servers: Replicated | None = None,
        *,
        framework: Framework = "flask",
        token_keys: Sequence[str] = (),
    ) -> None:
        self.valkey = Valkey.durable()
        broker_server = Valkey()
        self._servers = [broker_server] if servers else [broker_server, self.valkey]
        self._folder = tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        url = servers.url() if servers else self.valkey.url("redis")
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        broker = broker_server.url("redis")
        self._app = Celery("faults", broker=broker, backend=broker, set_as_current=False)
        celery = [sys.executable, "-m", "celery", "-A", "tests.faults.tasks", "worker", "--without-mingle"]
        self.worker = Process(
            [*celery, "-P", "prefork", "-c", "8", "-l", "INFO", "-n", f"{uuid.uuid4().hex}@localhost"],
            self.folder / "worker.log",
            {"FAULTS_BROKER": broker, "FAULTS_BRIDGE": url},
        )
        words, given = _web_server(framework, port, url, token_keys)
        self.api = Process(words, self.folder / "api.log", given)

    def __enter__(self) -> Self:
        try:
            for server in self._servers:
                server.start()
            self.start_api()
            self.worker.start(lambda: " ready." in self.worker.log.read_text(errors="replace"))
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def start_api(self) -> None:
        self.api.start(lambda: answers(self.address))

    def events(self, *tasks: str) -> str:
        """The address of the stream of these tasks; with none, of the feed of all."""
        topics = [bridge.task_topic(task) for task in tasks] or [bridge.FEED]
        return f"{self.address}/stream?{urlencode([('topic', topic) for topic in topics])}"

    def send(self, task: str, total: int, **options: Any) -> Any:
        """Queue a task that counts; return its future result."""
        return self._app.send_task("tests.faults.tasks.count", [total], options, task_id=task)

    def stats(self) -> dict[str, int]:
        """What the API's bridge counts."""
        counted: dict[str, int] = httpx.get(
            f"{self.address}/stats", timeout=10, trust_env=False, verify=False
        ).json()
        return counted

    def _close(self) -> None:
        for process in (self.worker, self.api):
            process.kill()
            if process.log.exists():  # pytest shows it if the test failed
                print(f"--- {process.log.stem}\n{process.log.read_text(errors='replace')[-8000:]}")
        self._app.close()
        for server in (self.valkey, *self._servers):
            server.stop()
        self._folder.cleanup()


def _web_server(
    framework: Framework, port: int, url: str, token_keys: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return the command line of the web server, and its environment."""
    options: dict[str, Any] = {"HEARTBEAT": 1}
    options |= {"TOKEN_KEYS": list(token_keys)} if token_keys else {"PUBLIC": True}
    if framework == "fastapi":
        in_lower_case = {"public": False, **{name.lower(): value for name, value in options.items()}}
        return asgi_app.command("uvicorn", port), {"ASGI_URL": url, "ASGI_OPTIONS": json.dumps(in_lower_case)}
    options["URL"] = url
    if framework == "django":
        return django_app.command("gunicorn gthread", port), {
            "DJANGO_OPTIONS": json.dumps({"BRIDGE": options})
        }
    return command("gunicorn gevent", port), {
        f"SERVING_BRIDGE_{name}": json.dumps(value) for name, value in options.items()
    }


def names(count: int) -> list[str]:
    """Return ids for `count` tasks."""
    return [f"{number:03}-{uuid.uuid4().hex[:8]}" for number in range(count)]
