"""Child processes that end together with the demo."""

import contextlib
import functools
import os
import signal
import subprocess
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
STOP_SECONDS = 5
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM}

# Reads process groups from the demo. When the demo has ended, even by kill -9, it ends the remaining ones.
GUARD = """
trap '' INT TERM HUP
while read -r group; do groups="$groups -$group"; done
kill -TERM $groups; sleep 5; kill -KILL $groups
"""


class Stack:
    """The processes that the demo starts. Leaving the `with` block ends them.

    Signals, the end of a child and the deadline of `signal.alarm` raise `SystemExit` in the main thread.
    """

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        self.guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            text=True,
            bufsize=1,
        )
        for signum in SIGNALS:
            signal.signal(signum, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum in SIGNALS:
            signal.signal(signum, signal.SIG_DFL if signum == signal.SIGCHLD else signal.SIG_IGN)
        for process in reversed(self.processes.values()):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            # Pool processes may remain, or all of the group if it did not end in time.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.guard.kill()
        self.guard.communicate()

    def start(self, name: str, *command: str | Path, env: dict[str, str]) -> None:
        """Start a process in a new process group, with its output in a log file."""
        # Signals wait until the process is recorded; otherwise it could keep running after the demo.
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with (self.logs / f"{name}.log").open("wb") as log:
                self.processes[name] = process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=functools.partial(signal.pthread_sigmask, signal.SIG_UNBLOCK, SIGNALS),
                )
            print(process.pid, file=self.guard.stdin)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def log_tail(self, name: str) -> str:
        text = (self.logs / f"{name}.log").read_text(errors="replace")
        return "\n".join(f"    {line}" for line in text.splitlines()[-25:])

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        if signum == signal.SIGALRM:
            logs = "\n".join(f"{name}:\n{self.log_tail(name)}" for name in self.processes)
            raise SystemExit(f"demo: timed out. The last lines of the logs:\n{logs}")
        if signum != signal.SIGCHLD:
            raise SystemExit(128 + signum)
        for name, process in self.processes.items():
            if process.poll() is not None:
                tail = self.log_tail(name)
                raise SystemExit(f"demo: the {name} stopped unexpectedly. The last lines of its log:\n{tail}")
