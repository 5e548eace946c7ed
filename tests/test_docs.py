"""Tests run every block of code in the documentation, and every file that it names exists."""

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.markdown import PAGES, ROOT, Block, block, blocks
from tests.nginx import PROGRAM, check
from tests.test_floors import FLOORS

BLOCKS = [block for page in PAGES for block in blocks(page)]
MAINTAINERS = ("docs/architecture.md", "CONTRIBUTING.md")


def used_blocks() -> set[tuple[str, str]]:
    """Return the arguments of the calls `block(page, start)` in the tests."""
    found = set()
    for path in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Name("block"), args=[ast.Constant(str(page)), ast.Constant(str(start))]
                ):
                    found.add((page, start))
    return found


USED = used_blocks()


@pytest.mark.parametrize("found", BLOCKS, ids=lambda found: f"{found.page}: {found.first_line}")
def test_a_test_runs_each_block(found: Block) -> None:
    """Some test takes the block from its page, with `tests.markdown.block`, and runs it."""
    used = any(found.page == page and found.text.startswith(start) for page, start in USED)
    assert used, "run this block in a test: take its text with tests.markdown.block"


LOOKS_RIGHT: dict[str, Callable[[str], bool]] = {
    "tsx": lambda text: 'from "celery-event-bridge' in text,  # the compiler of TypeScript checks it
    "html": lambda text: text.count("<script") == text.count("</script>"),  # a browser runs it
    "mermaid": lambda text: text.startswith("flowchart "),
    "yaml": lambda text: isinstance(yaml.safe_load(text), dict),
}


@pytest.mark.parametrize("found", BLOCKS, ids=lambda found: f"{found.page}: {found.first_line}")
def test_each_block_is_valid_in_its_language(found: Block) -> None:
    """Python compiles, shell parses, nginx accepts its configuration; a block of another language fails."""
    match found.language:
        case "python":
            compile(found.text, found.page, "exec")
        case "sh":
            subprocess.run(["sh", "-n"], input=found.text, text=True, check=True, timeout=10)
        case "nginx":
            if PROGRAM is None:
                pytest.skip("no nginx here; on Debian: apt-get install nginx-light")
            check(found.text)
        case "js":
            if shutil.which("node") is None:
                pytest.skip("no Node.js here; on Debian: apt-get install nodejs")
            command = ["node", "--input-type=module", "--check"]
            subprocess.run(command, input=found.text, text=True, check=True, timeout=30)
        case language if language in LOOKS_RIGHT:
            assert LOOKS_RIGHT[language](found.text)
        case _:
            pytest.fail(f"nothing here can check {found.language or 'a block without a language'}")


@pytest.mark.parametrize("page", MAINTAINERS)
def test_every_file_that_is_named_exists(page: str) -> None:
    """Paths in backquotes, and those of the diagram, are files or folders of the repository."""
    text = (ROOT / page).read_text()
    named = re.findall(r"`([\w./-]+/[\w./-]*|[\w-]+\.(?:py|md|toml|txt|js|lua|yml))`", text)
    named += re.findall(r"\b(?:bridge|api|worker|tests)/[\w/]+\.(?:py|js|lua)\b", text)
    assert named
    missing = sorted({name for name in named if not exists(name)})
    assert not missing, f"{page} names files that do not exist: {missing}"


def exists(name: str) -> bool:
    return (ROOT / name).exists() or any(ROOT.glob(name))


def test_the_diagram_names_a_file_for_each_step() -> None:
    """Each step of the diagram has a second line with the file or folder that does it."""
    diagram = block("docs/architecture.md", "flowchart TB\n")
    steps = re.findall(r'\w+\["(.*)"\]', re.sub(r"^ *subgraph .*$", "", diagram, flags=re.MULTILINE))
    assert len(steps) >= 10
    for step in steps:
        assert exists(step.partition("<br>")[2]), step


def test_the_table_of_floors_is_that_of_the_test() -> None:
    """The layers of docs/architecture.md are those that test_floors.py checks."""
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    documented = {int(floor): set(re.findall(r"`([\w.]+)`", packages)) for floor, packages in rows}
    assert documented == dict(enumerate(FLOORS))


def test_the_table_of_changes_names_at_most_three_files() -> None:
    """At least fifteen changes, each in at most three files outside tests and docs."""
    _, _, table = (ROOT / "docs" / "architecture.md").read_text().partition("## To change this, open that")
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)[2:]
    assert len(rows) >= 15
    for change, files in rows:
        assert 1 <= len(re.findall(r"`\w+/", files)) <= 3, change


def test_the_commands_for_contributors_work() -> None:
    """The targets of make exist, and the command that runs one file of tests passes."""
    setup, checks = block("CONTRIBUTING.md", "make setup\n"), block("CONTRIBUTING.md", "make check\n")
    for command in (setup + checks).splitlines():
        subprocess.run([*command.split(), "-n"], cwd=ROOT, check=True, capture_output=True, timeout=30)
    one = block("CONTRIBUTING.md", ".venv/bin/python -m pytest tests/test_floors.py\n").split()
    subprocess.run([sys.executable, *one[1:]], cwd=ROOT, check=True, capture_output=True, timeout=100)


def test_a_page_has_one_sentence_on_a_line() -> None:
    """A change of one sentence is then a change of one line. Tables and code are left out."""
    wrong = [
        f"{page}: {line}"
        for page in PAGES
        for line in prose(ROOT / page)
        if re.search(r"[a-z\])`*]{2}[.!?] +(?:\*\*)?[A-Z]", line)
    ]
    assert not wrong, "\n".join(wrong)


def prose(path: Path) -> list[str]:
    """Return the lines of a page that are neither code nor a table nor generated."""
    text = re.sub(r"^(`{3,}).*?^\1$", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!-- results: begin -->.*<!-- results: end -->", "", text, flags=re.DOTALL)
    return [line for line in text.splitlines() if not line.startswith("|")]
