"""Clean environments: the project's wheel and what pip finds for it, in the newest versions allowed."""

import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "celery-event-bridge"
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
SECONDS = 250


def build_wheel(folder: Path) -> Path:
    """Build the project's wheel into `folder`."""
    options = ("--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    subprocess.run([*PIP, "wheel", *options, str(ROOT)], check=True, timeout=SECONDS)
    (wheel,) = folder.glob("*.whl")
    return wheel


@contextmanager
def environment(wheel: Path, requirement: str) -> Iterator[Path]:
    """Make an environment, install `requirement` from `wheel`, and yield its interpreter.

    Nothing of the tests' own environment counts: no constraints, no installed package.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("PIP_CONSTRAINT", "PYTHONPATH")}
    with tempfile.TemporaryDirectory(prefix="bridge-environment-") as folder:
        venv.create(folder, with_pip=False, symlinks=True)
        python = Path(folder, "bin", "python")
        install = ("--python", str(python), "install", "--no-compile", f"{requirement} @ {wheel.as_uri()}")
        done = subprocess.run(
            [*PIP, *install], env=env, capture_output=True, text=True, timeout=SECONDS, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "does not provide the extra" not in done.stderr
        yield python
