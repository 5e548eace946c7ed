"""The examples work as they stand: a worker, the server that the docs recommend, and a browser."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from tests import readme
from tests.chromium import chromium
from tests.markdown import ROOT, block
from tests.processes import running
from tests.servers import Valkey, eventually, free_port
from tests.test_readme import MS, values_until

EXAMPLES = ROOT / "examples"
SECONDS = 60
LINES = 60

WORKER = block("docs/examples.md", "celery -A tasks worker\n")
KEY = block("docs/examples.md", "export SECRET_KEY=")
SERVERS = {
    "flask": block("docs/examples.md", "gunicorn --worker-class gevent"),
    "fastapi": block("docs/examples.md", "uvicorn --port 8000 web:app\n"),
    "django": block("docs/examples.md", "export DJANGO_SETTINGS_MODULE=settings\n"),
}
SHARED = {
    "tasks.py": block("docs/examples.md", "import time\n"),
    "index.html": block("docs/examples.md", "<!doctype html>\n"),
}
FILES = {
    "flask": {"web.py": block("docs/examples.md", "import os\n\nimport tasks\nfrom flask ")},
    "fastapi": {"web.py": block("docs/examples.md", "import os\nfrom pathlib import Path\nfrom typing ")},
    "django": {
        "settings.py": block("docs/examples.md", "import os\n\nSECRET_KEY"),
        "jobs.py": block("docs/examples.md", "import tasks\nfrom django.http "),
    },
}
"""What the docs show of each example. A line of Django's page is its own."""


@contextmanager
def serving(name: str, folder: Path, redis_port: int) -> Iterator[str]:
    """Run an example with the commands of the docs, but for the ports; yield its address.

    A job takes eight seconds instead of twenty.
    """
    shutil.copytree(EXAMPLES / name, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in folder.glob("*.py"):
        text = path.read_text().replace("localhost:6379", f"localhost:{redis_port}")
        path.write_text(text.replace("time.sleep(0.1)", "time.sleep(0.04)"))
    port = free_port()
    env = {"PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])), "PYTHONPATH": ""}
    worker, server = ["sh", "-c", WORKER], ["sh", "-c", KEY + SERVERS[name].replace("8000", str(port))]
    address = f"http://localhost:{port}"
    with running(worker, cwd=folder, env=env), running(server, cwd=folder, env=env) as log:
        eventually(lambda: readme.answers(address), SECONDS, f"{name}: the server did not start")
        yield address
        assert "cannot be taken over" not in log.read_text()


@pytest.mark.parametrize("name", SERVERS)
def test_a_browser_watches_its_own_job_to_the_end(name: str, own_valkey: Valkey, tmp_path: Path) -> None:
    """On a phone the bar moves to its end, across a reload; another browser may not watch that job."""
    with serving(name, tmp_path, own_valkey.port) as address, chromium() as browser:
        page = browser.new_page(viewport={"width": 360, "height": 640})
        page.goto(address)
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_role("status")).to_contain_text("resizing images", timeout=MS)
        before = values_until(page, "document.querySelector('progress').value >= 25")
        page.reload()
        page.wait_for_function("document.querySelector('progress').value > 0", timeout=MS)
        stranger = browser.new_context().new_page()
        stranger.goto(page.url)
        expect(stranger.get_by_role("status")).to_have_text(
            "This browser may not watch this job.", timeout=MS
        )
        after = values_until(page, "!document.querySelector('button').disabled")
        expect(page.get_by_role("status")).to_have_text("The job ended: SUCCESS")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        job = page.url.partition("#")[2]
        assert (
            httpx.get(f"{address}/events?topic=task:{job}", trust_env=False, verify=False).status_code == 403
        )
    assert before + after == sorted(before + after)
    assert len(set(before + after)) >= 20
    assert after[-1] == 100


def test_fastapi_documents_the_answers_of_a_stream(own_valkey: Valkey, tmp_path: Path) -> None:
    """OpenAPI lists each status of the stream of the example, and the type of its body."""
    with serving("fastapi", tmp_path, own_valkey.port) as address:
        document = httpx.get(f"{address}/openapi.json", trust_env=False, verify=False).json()
    responses = document["paths"]["/events"]["get"]["responses"]
    assert {"200", "204", "403", "404", "429", "503"} <= set(responses)
    assert list(responses["200"]["content"]) == ["text/event-stream"]


@pytest.mark.parametrize("name", FILES)
def test_the_docs_show_the_files(name: str) -> None:
    """The docs have every file of an example, letter for letter."""
    token = "<form>{% csrf_token %}" if name == "django" else "<form>"
    expected = {**SHARED, **FILES[name], "index.html": SHARED["index.html"].replace("<form>", token)}
    files = {path.name: path.read_text() for path in (EXAMPLES / name).iterdir() if path.is_file()}
    assert files == expected


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_short(name: str) -> None:
    """All Python files of an example together have at most 60 lines."""
    assert sum(len(path.read_text().splitlines()) for path in (EXAMPLES / name).glob("*.py")) <= LINES
