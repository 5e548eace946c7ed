"""The README's code, and a job of it run by an interpreter of one's choice."""

import re
from pathlib import Path

import httpx
import httpx_sse

from tests.environments import ROOT
from tests.processes import running
from tests.servers import eventually, free_port

README = (ROOT / "README.md").read_text()
SECONDS = 60


def blocks(language: str) -> list[str]:
    """Return the README's blocks of code in `language`."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


def events_of_a_job(python: Path, folder: Path, redis_port: int) -> list[str]:
    """Run the README's worker and Flask's own server, start a job, and return the names of its events."""
    for block in blocks("python"):
        found = re.match(r"# (\w+\.py)\n", block)
        if found:
            (folder / found[1]).write_text(block.replace("localhost:6379", f"127.0.0.1:{redis_port}"))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    worker = [str(python), "-m", "celery", "-A", "tasks", "worker", "-c", "1"]
    server = [str(python), "-m", "flask", "--app", "web", "run", "--port", str(port)]
    alone = {"PYTHONPATH": ""}
    with (
        running(worker, cwd=folder, env=alone),
        running(server, cwd=folder, env=alone),
        httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client,
    ):
        task = eventually(lambda: _post(client), SECONDS)
        with client.stream("GET", f"/jobs/{task}/events") as response:
            return [event.event for event in httpx_sse.EventSource(response).iter_sse()]


def _post(client: httpx.Client) -> str | None:
    """Start the job; None while the server is not up."""
    try:
        response = client.post("/jobs")
    except httpx.TransportError:
        return None
    task: str = response.raise_for_status().json()["id"]
    return task
