"""What is published, and what is pinned."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = (
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    )
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=100)
    (path,) = folder.iterdir()
    return zipfile.ZipFile(path)


def test_wheel_holds_all_of_bridge_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """The wheel is the library, typed and with its browser module, and nothing else."""
    files = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bridge").rglob("*") if path.is_file()}
    metadata = {
        name for name in wheel.namelist() if re.match(r"celery_event_bridge-[\w.]+\.dist-info/", name)
    }
    assert set(wheel.namelist()) - metadata == {name for name in files if "__pycache__" not in name}
    assert "bridge/py.typed" in files


def test_wheel_names_extras_and_no_requirement_without_one(wheel: zipfile.ZipFile) -> None:
    """Whatever the library needs from outside is behind an extra."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    assert metadata["Name"] == "celery-event-bridge"
    assert {"redis", "celery", "flask", "sql", "postgresql", "all"} <= set(
        metadata.get_all("Provides-Extra", [])
    )
    assert all("extra ==" in requirement for requirement in metadata.get_all("Requires-Dist", []))


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [re.fullmatch(r"([\w.-]+)==([\w.]+)", line) for line in lines]
    assert all(pairs), "constraints.txt holds name==version lines only"
    return {canonicalize_name(pair[1]): pair[2] for pair in pairs}


def wanted() -> list[Requirement]:
    lines = [line for extra in PROJECT["optional-dependencies"].values() for line in extra]
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines += [line for line in (ROOT / name).read_text().splitlines() if re.match(r"\w", line)]
    return [requirement for requirement in map(Requirement, lines) if requirement.name != PROJECT["name"]]


@pytest.mark.parametrize("requirement", wanted(), ids=lambda requirement: requirement.name)
def test_requirement_is_pinned_to_a_version_it_allows(requirement: Requirement) -> None:
    """Every requirement is pinned, to a version within its own bounds."""
    assert requirement.specifier.contains(pinned()[canonicalize_name(requirement.name)])
