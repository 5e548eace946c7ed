"""What the README says is so: its commands run, its code works, its links lead somewhere."""

import re
import subprocess
import sys
from pathlib import Path

import httpx
import httpx_sse
import pytest

from tests.processes import running
from tests.servers import Valkey, eventually, free_port

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SECONDS = 30


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_command_is_run_by_ci() -> None:
    """The commands are the two that CI runs (test_demo runs the demo) and the installation, tested below."""
    assert [command.strip() for command in blocks("sh")] == [
        "make demo",
        "make test",
        "pip install 'celery-event-bridge[redis,celery,flask]'",
    ]


def test_the_package_installs_under_its_name_with_its_extras(tmp_path: Path) -> None:
    """The name and the extras that the README has people install are those of the wheel."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (requirement,) = re.findall(r"^pip install '(.*)'", README, re.MULTILINE)
    # All it needs is installed already; with --dry-run an unknown extra is a warning, so any output fails.
    find = ["--no-index", "--find-links", str(tmp_path), "--dry-run", "--no-deps", "--force-reinstall"]
    done = subprocess.run([*pip, "install", *find, requirement], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that the README links to or shows is there."""
    assert (ROOT / link).is_file()


def test_the_channel_example_works() -> None:
    """The example without Celery and Flask runs as it stands."""
    (example,) = [block for block in blocks("python") if "memory://" in block]
    exec(compile(example, "README.md", "exec"), {})


def test_the_celery_and_flask_examples_work(own_valkey: Valkey, tmp_path: Path) -> None:
    """The two modules, a worker and Flask's own server: a started job streams its progress to its end."""
    for block in blocks("python"):
        found = re.match(r"# (\w+\.py)\n", block)
        if found:
            own = block.replace("localhost:6379", f"127.0.0.1:{own_valkey.port}")
            (tmp_path / found[1]).write_text(own)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    worker = [sys.executable, "-m", "celery", "-A", "tasks", "worker", "-c", "1"]
    server = [sys.executable, "-m", "flask", "--app", "web", "run", "--port", str(port)]
    with running(worker, cwd=tmp_path), running(server, cwd=tmp_path):
        client = httpx.Client(base_url=address, timeout=SECONDS, trust_env=False)
        task = eventually(lambda: post(client), SECONDS)
        with client.stream("GET", f"/jobs/{task}/events") as response:
            names = [event.event for event in httpx_sse.EventSource(response).iter_sse()]
        assert names[0] == "snapshot"
        assert names[-1] == "end"
        assert set(names) <= {"snapshot", "progress", "log", "state", "end"}
        client.close()


def post(client: httpx.Client) -> str | None:
    """Start the job; None while the server is not up."""
    try:
        response = client.post("/jobs")
    except httpx.TransportError:
        return None
    task: str = response.raise_for_status().json()["id"]
    return task
