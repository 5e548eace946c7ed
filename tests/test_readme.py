"""What the README says is so: its commands run, its code works, its links lead somewhere."""

import re
from pathlib import Path

import httpx
import httpx_sse
import pytest

from tests.environments import NAME, ROOT, build_wheel, environment
from tests.processes import running
from tests.servers import Valkey, eventually, free_port

README = (ROOT / "README.md").read_text()
SECONDS = 30
INSTALLED = re.findall(r"^pip install '(.*)'", README, re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def test_every_command_is_run_by_ci() -> None:
    """The commands are the two that CI runs (test_demo runs the demo) and the installation, tested below."""
    assert [command.strip() for command in blocks("sh")] == [
        "make demo",
        "make test",
        "pip install 'celery-event-bridge[redis,celery,flask]'",
    ]


@pytest.mark.parametrize("link", re.findall(r"\]\((?!http)([^)#]+)", README))
def test_links_lead_somewhere(link: str) -> None:
    """Every file that the README links to or shows is there."""
    assert (ROOT / link).is_file()


def test_the_channel_example_works() -> None:
    """The example without Celery and Flask runs as it stands."""
    (example,) = [block for block in blocks("python") if "memory://" in block]
    exec(compile(example, "README.md", "exec"), {})


@pytest.mark.timeout(300)
@pytest.mark.parametrize("requirement", [*INSTALLED, f"{NAME}[all]"])
def test_the_celery_and_flask_examples_work(requirement: str, own_valkey: Valkey, tmp_path: Path) -> None:
    """In a clean environment with what the README installs, a job of its code streams to its end."""
    write_examples(tmp_path, own_valkey.port)
    with environment(build_wheel(tmp_path / "wheel"), requirement) as python:
        names = stream_of_a_job(str(python), tmp_path)
    assert names[0] == "snapshot"
    assert names[-1] == "end"
    assert set(names) <= {"snapshot", "progress", "log", "state", "end"}


def write_examples(folder: Path, redis_port: int) -> None:
    """Write the README's modules into `folder`."""
    for block in blocks("python"):
        found = re.match(r"# (\w+\.py)\n", block)
        if found:
            (folder / found[1]).write_text(block.replace("localhost:6379", f"127.0.0.1:{redis_port}"))


def stream_of_a_job(python: str, folder: Path) -> list[str]:
    """Run the README's worker and server with `python`, start a job, and return its events' names."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    worker = [python, "-m", "celery", "-A", "tasks", "worker", "-c", "1"]
    server = [python, "-m", "flask", "--app", "web", "run", "--port", str(port)]
    alone = {"PYTHONPATH": ""}
    with (
        running(worker, cwd=folder, env=alone),
        running(server, cwd=folder, env=alone),
        httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client,
    ):
        task = eventually(lambda: post(client), SECONDS)
        with client.stream("GET", f"/jobs/{task}/events") as response:
            return [event.event for event in httpx_sse.EventSource(response).iter_sse()]


def post(client: httpx.Client) -> str | None:
    """Start the job; None while the server is not up."""
    try:
        response = client.post("/jobs")
    except httpx.TransportError:
        return None
    task: str = response.raise_for_status().json()["id"]
    return task
