"""The whole application as real processes: a Valkey server, a Celery worker and gunicorn, on free ports."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import httpx
from celery import Celery
from kombu.exceptions import OperationalError

from tests.servers import Valkey, eventually, free_port

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 40
STOP_SECONDS = 10


class Stack:
    """`with Stack() as stack:` starts valkey, worker and api, and leaves nothing running.

    `start`, `kill` and `restart` take one of those three names. `bridge_scheme` picks what carries the
    events; `env` goes over the environment of worker and api.
    """

    def __init__(self, *, bridge_scheme: str = "redis", env: dict[str, str] | None = None) -> None:
        self.valkey = Valkey()
        self._folder = tempfile.TemporaryDirectory(prefix="bridge-test-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.data_dir = self.folder / "data"
        self.digest_root = self.folder / "files"
        self.digest_root.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.node = f"test-{self.port}@localhost"
        settings = {
            "CELERY_BROKER_URL": self.valkey.url("redis"),
            "CELERY_RESULT_BACKEND": "",
            "BRIDGE_URL": self.valkey.url(bridge_scheme),
            "BRIDGE_PUBLIC": "1",
            "DATA_DIR": str(self.data_dir),
            "DIGEST_ROOT": str(self.digest_root),
        }
        self.env = os.environ | settings | (env or {})
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        try:
            for part in ("valkey", "worker", "api"):
                self.start(part)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            print(self.logs())
        self.close()

    def start(self, part: str) -> None:
        """Start one part and wait until it answers."""
        if part == "valkey":
            self.valkey.start()
            return
        commands = {"worker": self._worker_command(), "api": self._api_command()}
        with (self.folder / f"{part}.log").open("ab") as log:
            self._processes[part] = subprocess.Popen(
                [sys.executable, "-m", *commands[part]],
                cwd=ROOT,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._wait(part, {"worker": self._worker_answers, "api": self._api_answers}[part])

    def kill(self, part: str, how: signal.Signals = signal.SIGKILL) -> None:
        """End one part: a signal to its whole process group, and SIGKILL to what then is left of it."""
        if part == "valkey":
            self.valkey.kill()
            return
        process = self._processes.pop(part)
        _signal_group(process, how)
        try:
            process.wait(STOP_SECONDS)
        finally:
            _signal_group(process, signal.SIGKILL)
            process.wait(STOP_SECONDS)

    def restart(self, part: str, how: signal.Signals = signal.SIGKILL) -> None:
        self.kill(part, how)
        self.start(part)

    def pid(self, part: str) -> int:
        return self._processes[part].pid

    @contextlib.contextmanager
    def pool_paused(self) -> Iterator[None]:
        """Stop the processes that run the tasks; the worker itself goes on, with its heartbeats."""
        with Celery(broker=self.valkey.url("redis"), set_as_current=False) as app:
            stats = app.control.inspect(destination=[self.node], timeout=STOP_SECONDS, limit=1).stats()
        assert stats is not None, "the worker does not answer"
        processes = stats[self.node]["pool"]["processes"]
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        try:
            yield
        finally:
            for process in processes:
                os.kill(process, signal.SIGCONT)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=30, trust_env=False)

    def close(self) -> None:
        for part in list(self._processes):
            self.kill(part)
        self.valkey.stop()
        self._folder.cleanup()

    def logs(self) -> str:
        """The end of each part's log."""
        texts = ((path.stem, path.read_text(errors="replace")) for path in sorted(self.folder.glob("*.log")))
        return "\n".join(f"--- {name}\n{text[-8000:]}" for name, text in texts)

    def _worker_command(self) -> list[str]:
        pool = ["--pool", "prefork", "--concurrency", "2"]
        return ["celery", "-A", "worker.app", "worker", *pool, "--hostname", self.node, "--loglevel", "INFO"]

    def _api_command(self) -> list[str]:
        listen = ["-k", "gevent", "-b", f"127.0.0.1:{self.port}"]
        return ["gunicorn", "--no-control-socket", *listen, "api.app:create_app()"]

    def _worker_answers(self) -> bool:
        with Celery(broker=self.valkey.url("redis"), set_as_current=False) as app:
            return bool(app.control.ping(destination=[self.node], timeout=0.5))

    def _api_answers(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=5, trust_env=False, verify=False).status_code == 200

    def _wait(self, part: str, answers: Callable[[], bool]) -> None:
        def answered() -> bool:
            if self._processes[part].poll() is not None:
                raise AssertionError(f"the {part} ended at once\n{self.logs()}")
            with contextlib.suppress(OSError, httpx.TransportError, OperationalError):
                return answers()
            return False

        try:
            eventually(answered, within=START_SECONDS)
        except AssertionError:
            print(self.logs())
            raise


def _signal_group(process: subprocess.Popen[bytes], how: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, how)
