"""Processes for the time of a test."""

import faulthandler
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

ROOT = Path(__file__).parent.parent

_DUMP = signal.SIGXCPU
_running: dict[int, Path] = {}
"""The logs of the processes that run, by process group."""


def dump_on_signal() -> None:
    """Have this process, and those it forks, write their stacks to their log when `explain` asks."""
    faulthandler.register(_DUMP, all_threads=True)


def follow(process: int, log: Path) -> None:
    """Have `explain` show the log of another process too, as long as there is that file."""
    _running[process] = log


def leader(log: Path) -> int:
    """Return the process that `running` has started with this log."""
    return next(process for process, its_log in _running.items() if its_log == log)


def explain() -> None:
    """Print the stacks and logs of all processes that run: what a test that waits in vain has to tell."""
    assert sys.__stderr__ is not None
    faulthandler.dump_traceback(sys.__stderr__)
    for group in _running:
        for pid in _members(group):
            with suppress(ProcessLookupError):
                os.kill(pid, _DUMP)
    time.sleep(1)  # they write their stacks in that time; nothing tells when they have
    for group, log in _running.items():
        print(f"--- process group {group}: {_members(group)}", file=sys.stderr)
        with suppress(FileNotFoundError):
            print(log.read_text(errors="replace")[-100_000:], file=sys.stderr)


def _members(group: int) -> list[int]:
    """Return the processes of a group that write their stacks on demand; Linux only."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            pid = int(status.parent.name)
            caught = re.search(r"^SigCgt:\s*(\w+)", status.read_text(), re.MULTILINE)
            if os.getpgid(pid) == group and caught and int(caught[1], 16) >> (_DUMP - 1) & 1:
                found.append(pid)
    return sorted(found)


@contextmanager
def running(
    command: Sequence[str], *, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> Iterator[Path]:
    """Run `command`, yield the file with its output, and end it with all that it started.

    If the test fails meanwhile, the output is shown.
    """
    with tempfile.NamedTemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        _running[process.pid] = Path(log.name)
        try:
            yield Path(log.name)
        except BaseException:
            sys.stderr.write(Path(log.name).read_text(errors="replace"))
            raise
        finally:
            del _running[process.pid]
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
