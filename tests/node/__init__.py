"""Clients of npm, and the packages that they need."""

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
    installed, wanted = HERE / "node_modules" / ".installed", (HERE / "package.json").read_text()
    if not installed.exists() or installed.read_text() != wanted:
        words = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"]
        subprocess.run(words, cwd=HERE, check=True, timeout=100)
        installed.write_text(wanted)
    return ["node", str(HERE / name)]
