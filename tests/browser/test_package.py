"""The npm package, made from the files of the library, and its types."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

import bridge
from bridge.streams.client_files import FILES
from tests.browser.node import FOLDER, package
from tests.markdown import block

ROOT = Path(__file__).resolve().parents[2]
TYPES = Path(__file__).parent / "types"
SECONDS = 100


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as an application has it."""
    if shutil.which("npm") is None:
        pytest.skip("no npm here; on Debian: apt-get install npm")
    folder = tmp_path_factory.mktemp("npm")
    subprocess.run(["sh", ".ci/npm", folder], cwd=ROOT, check=True, capture_output=True, timeout=SECONDS)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    return folder / "package"


def test_the_package_has_every_file_and_the_version_of_the_library(unpacked: Path) -> None:
    """It has all modules, the types of the public ones, a licence and a README, and nothing else."""
    described = json.loads((unpacked / "package.json").read_text())
    assert described["version"] == bridge.__version__
    exported = {Path(file).name for entry in described["exports"].values() for file in entry.values()}
    types = {name for name in exported if name.endswith(".d.ts")}
    assert {path.name for path in unpacked.iterdir()} == {
        *FILES,
        *types,
        "package.json",
        "LICENSE",
        "README.md",
    }
    assert exported <= {*FILES, *types}
    assert "dependencies" not in described


@pytest.mark.parametrize(
    "entry", ["celery-event-bridge", "celery-event-bridge/fold", "celery-event-bridge/sse"]
)
def test_the_package_is_imported_on_a_server(unpacked: Path, tmp_path: Path, entry: str) -> None:
    """Node imports it, as a framework does that renders pages on a server; `connect` opens nothing there."""
    install(unpacked, tmp_path)
    script = f'import * as it from "{entry}"; it.connect?.({{ share: true }}).task("t").getSnapshot();'
    subprocess.run(["node", "--input-type=module", "-e", script], cwd=tmp_path, check=True, timeout=SECONDS)


def test_the_types_accept_what_is_right_and_nothing_else(unpacked: Path, tmp_path: Path) -> None:
    """`tsc --strict` accepts the examples, in which each mistake is marked and must be found."""
    compiler = package("typescript") / "bin" / "tsc"
    install(unpacked, tmp_path)
    for path in TYPES.iterdir():
        shutil.copy(path, tmp_path)
    documented = block("docs/browser.md", 'import { connect } from "celery-event-bridge"')
    (tmp_path / "documented.tsx").write_text(documented)
    done = subprocess.run(
        ["node", compiler, "-p", tmp_path], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout


def install(unpacked: Path, folder: Path) -> None:
    """Make the package, and those of the tests, importable in a folder."""
    modules = folder / "node_modules"
    modules.mkdir()
    shutil.copytree(unpacked, modules / "celery-event-bridge")
    for path in FOLDER.glob("*"):
        (modules / path.name).symlink_to(path)
    (folder / "package.json").write_text('{"type": "module"}')
