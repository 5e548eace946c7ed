"""The documentation site is built, and its tutorial leads to a moving bar."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.chromium import chromium
from tests.environments import build_wheel
from tests.markdown import INCLUDE, ROOT, block
from tests.readme import following
from tests.test_examples import EXAMPLES, SERVERS
from tests.test_readme import MS

TUTORIAL = "docs/tutorial.md"
FOLDER = block("docs/tutorial.md", "mkdir tutorial\n")
INSTALL = {
    "flask": block("docs/tutorial.md", "pip install 'celery-event-bridge[redis,celery,flask]' gunicorn"),
    "fastapi": block("docs/tutorial.md", "pip install 'celery-event-bridge[redis,celery]' fastapi"),
    "django": block("docs/tutorial.md", "pip install 'celery-event-bridge[redis,celery,django]' gunicorn"),
}
BROKER = block("docs/tutorial.md", "valkey-server --port 6379\n")
IN_DOCKER = block("docs/tutorial.md", "docker run --rm -p 6379:6379 valkey/")
WORKER = block("docs/tutorial.md", ". .venv/bin/activate\ncelery -A tasks worker\n")
KEY = block("docs/tutorial.md", ". .venv/bin/activate\nexport SECRET_KEY=")
COMMANDS = {
    "flask": block("docs/tutorial.md", "gunicorn --worker-class gevent"),
    "fastapi": block("docs/tutorial.md", "uvicorn --port 8000 web:app\n"),
    "django": block("docs/tutorial.md", "export DJANGO_SETTINGS_MODULE=settings\n"),
}
DOCTOR = block("docs/tutorial.md", "pip install 'celery-event-bridge[cli]'\n")


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """Every page is in the navigation, and every link and anchor leads somewhere."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert "not included in the" not in done.stderr, done.stderr
    assert "Return the broadcast channel that" in (tmp_path / "api.html").read_text()


@pytest.mark.parametrize("framework", COMMANDS)
def test_the_tutorial_has_the_commands_of_the_examples(framework: str) -> None:
    """The page shows the files of the examples, so their server is started as theirs is."""
    assert COMMANDS[framework] == SERVERS[framework]
    text = (ROOT / TUTORIAL).read_text()
    shown = set(re.findall(rf'^ *{INCLUDE}{framework}/(.*)"$', text, re.MULTILINE)) | {"tasks.py"}
    assert shown == {path.name for path in (EXAMPLES / framework).iterdir() if path.is_file()}
    assert "[redis,celery" in INSTALL[framework]
    assert IN_DOCKER.split()[-1] in (ROOT / "README.md").read_text()
    assert "bridge doctor" in DOCTOR


@pytest.mark.timeout(420)
def test_the_tutorial_leads_to_a_moving_bar(tmp_path: Path) -> None:
    """In an empty environment its commands and files for FastAPI end in a bar that moves."""
    files = {path.name: path.read_text() for path in (EXAMPLES / "fastapi").iterdir() if path.is_file()}
    commands = (BROKER, WORKER, KEY + COMMANDS["fastapi"])
    install, wheel = FOLDER + INSTALL["fastapi"], build_wheel(tmp_path / "wheel")
    with (
        following(wheel, tmp_path / "tutorial", install, files, commands) as address,
        chromium() as browser,
    ):
        page = browser.new_page()
        page.goto(address)
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("status")).to_contain_text("resizing images", timeout=MS)
        page.wait_for_function("document.querySelector('progress').value >= 3", timeout=MS)
    shutil.rmtree(tmp_path / "tutorial")
