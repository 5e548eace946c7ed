"""The README keeps its promises: the quick start works, the example runs, and links lead somewhere."""

import re
import shlex
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page, expect

from tests.chromium import chromium
from tests.environments import build_wheel
from tests.markdown import PAGES, ROOT, block
from tests.readme import events_of, quick_start

README = (ROOT / "README.md").read_text()
MS = 60_000


def test_the_first_sentence_says_what_this_is() -> None:
    """The README opens with one short sentence, which the package's description repeats."""
    title, sentence, _ = README.split("\n\n", 2)
    assert title == "# celery-event-bridge"
    assert sentence.count(".") == 1
    assert sentence.endswith(".")
    assert f'description = "{sentence}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """Each file that a page links to or shows exists, and so does each heading."""
    for file, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", (ROOT / page).read_text()):
        target = (ROOT / page).parent / file if file else ROOT / page
        assert target.is_file(), file
        if anchor:
            assert anchor in anchors(target), f"{page}: {file}#{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_channel_example_works() -> None:
    """The example without Celery and Flask runs as it stands."""
    example = block("README.md", "import bridge\n\nwith bridge.connect")
    exec(compile(example, "README.md", "exec"), {})


def test_the_docker_command_starts_the_server_of_the_compose_file() -> None:
    """The image is that of docker-compose.yml, and the port is that of the files of the quick start."""
    command = shlex.split(block("README.md", "docker run"))
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert command == ["docker", "run", "--rm", "-p", "6379:6379", compose["services"]["valkey"]["image"]]


def test_the_commands_of_the_example_application_are_targets_of_make() -> None:
    """CI runs both: `make test` is what it does, and tests/api/test_demo.py runs the demo."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for command in (block("README.md", "make demo\n"), block("README.md", "make test\n")):
        assert command.split()[1] in targets


def test_the_memory_of_a_viewer_is_what_was_measured() -> None:
    """The figures in the README are those of docs/benchmarks.md."""
    _, _, after = (ROOT / "docs" / "benchmarks.md").read_text().partition("### Memory")
    table, _, _ = after.partition("###")
    rows = re.findall(r"^\| ([^|]+) \| ([\d.]+) \|", table, re.MULTILINE)
    assert (
        "about 1 KB of memory; with a coroutine or a greenlet for each viewer it costs about 20 KB" in README
    )
    for name, kilobytes in rows:
        if name.startswith("bridge"):
            assert float(kilobytes) < 1.5
        elif re.search("gevent|uvicorn", name):
            assert float(kilobytes) > 18


@pytest.mark.timeout(420)
def test_the_quick_start_shows_a_bar_that_reaches_its_end(tmp_path: Path) -> None:
    """With what the README installs, a press of the button moves the bar to its end, across a reload.

    A viewer that comes late reads a snapshot first, then events, and one end.
    """
    with quick_start(build_wheel(tmp_path / "wheel"), tmp_path) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("status")).to_contain_text("resizing images", timeout=MS)
        with ThreadPoolExecutor(1) as thread:
            late = thread.submit(events_of, address, page.url.partition("#")[2])
            before = values_until(page, "document.querySelector('progress').value >= 25")
            page.reload()
            page.wait_for_function("document.querySelector('progress').value > 0", timeout=MS)
            after = values_until(page, "!document.querySelector('button').disabled")
            names = late.result(timeout=60)
        assert before + after == sorted(before + after)
        assert len(set(before + after)) >= 20
        assert after[-1] == 100
        expect(page.get_by_role("status")).to_have_text("The task ended: SUCCESS")
    assert names[0] == "snapshot"
    assert names[-1] == "end"
    assert set(names) <= {"snapshot", "progress", "log", "state", "end"}
    assert "progress" in names


def values_until(page: Page, condition: str) -> list[float]:
    """Return what the bar shows, ten times a second, until the condition holds."""
    values: list[float] = []
    deadline = time.monotonic() + MS / 1000
    finished = False
    while not finished:
        assert time.monotonic() < deadline, values
        finished = page.evaluate(condition)
        values.append(page.evaluate("document.querySelector('progress').value"))
        page.wait_for_timeout(100)
    return values
