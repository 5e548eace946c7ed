"""Clients of npm, and the packages that they need."""

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def script(name: str) -> list[str]:
    """Return the command that runs a script of this folder; install its packages where they are missing.

    Without Node the test is skipped.
    """
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node or no npm here; on Debian: apt-get install nodejs npm")
    # Tests of several processes may get here together.
    with (HERE / "package.json").open() as package:
        fcntl.flock(package, fcntl.LOCK_EX)
        _install(package.read())
    return ["node", str(HERE / name)]


def _install(wanted: str) -> None:
    installed = HERE / "node_modules" / ".installed"
    if not installed.exists() or installed.read_text() != wanted:
        words = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(words, cwd=HERE, check=True, timeout=100)
        installed.write_text(wanted)
