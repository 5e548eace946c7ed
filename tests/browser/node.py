"""The npm packages that tests use, as `make test` installs them."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node_modules"


def package(name: str) -> Path:
    """Return the folder of a package; the test is skipped where it is not installed."""
    folder = FOLDER / name
    if not folder.exists():
        pytest.skip(f"no {name} here; run: npm install --no-package-lock --prefix tests/browser")
    wanted = json.loads((FOLDER.parent / "package.json").read_text())["dependencies"]
    found = json.loads((folder / "package.json").read_text())["version"]
    assert found == wanted.get(name, found), "run npm install again in tests/browser"
    return folder
