"""The commands of docs/cli.md work as they are written there."""

import os
import shlex
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import bridge
from tests.cli.tools import SECONDS, say
from tests.markdown import block
from tests.servers import Valkey
from tests.test_packaging import PROJECT

TASKS = """
import os
from celery import Celery
from bridge.celery import install

app = Celery("tasks", broker=os.environ["BRIDGE_URL"])
install(app, namespace=os.environ["BRIDGE_NAMESPACE"])
"""

WEB = """
import os
from flask import Flask
from bridge.flask import Bridge

app = Flask("web")
app.config.update(BRIDGE_PUBLIC=True, BRIDGE_NAMESPACE=os.environ["BRIDGE_NAMESPACE"])
Bridge(app)
"""

MANAGE = """
import os, sys
from django.conf import settings
from django.core.management import execute_from_command_line

options = {"PUBLIC": True, "NAMESPACE": os.environ["BRIDGE_NAMESPACE"]}
settings.configure(BRIDGE=options, INSTALLED_APPS=["bridge.django"], SECRET_KEY="x")
execute_from_command_line(sys.argv)
"""


class Shell:
    """Runs the commands of the page in a folder with three applications."""

    def __init__(self, folder: Path, valkey: Valkey) -> None:
        for name, text in (("tasks.py", TASKS), ("web.py", WEB), ("manage.py", MANAGE)):
            (folder / name).write_text(text)
        (folder / "order.json").write_text('{"order": 2}')
        self._folder = folder
        self.url = valkey.url("redis")
        self.namespace = uuid.uuid4().hex
        self._env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "BRIDGE_URL": self.url,
            "BRIDGE_NAMESPACE": self.namespace,
            "PYTHONPATH": str(folder),
            "TASK": "t1",
            "OTHER": "t2",
        }

    def run(self, text: str, status: int = 0) -> str:
        """Run a block of the page with the server of the tests, and return what it prints."""
        words = text.replace("redis://localhost:6379/0", shlex.quote(self.url))
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", words],
            cwd=self._folder, env=self._env, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def broker() -> Iterator[Valkey]:
    """A server on which no other test has a worker."""
    server = Valkey().start()
    yield server
    server.stop()


@pytest.fixture
def shell(tmp_path: Path, broker: Valkey) -> Shell:
    return Shell(tmp_path, broker)


def test_the_extras_exist() -> None:
    """What is to be installed is offered."""
    named = Requirement(shlex.split(block("docs/cli.md", "pip install 'celery-event-bridge"))[2])
    assert named.extras <= set(PROJECT["optional-dependencies"])


def test_tasks_are_followed_and_listed(shell: Shell) -> None:
    """The commands about tasks print what was published, also as commands of an application."""
    with bridge.connect(shell.url, namespace=shell.namespace) as channel:
        for task in ("t1", "t2"):
            say(channel, task, ("state", {"state": "STARTED", "name": "pack"}), ("log", {"message": "one"}))
            say(channel, task, ("state", {"state": "SUCCESS"}))
    assert shell.run(block("docs/cli.md", "export BRIDGE_URL=")).count('"task":"t1","at"') >= 2
    assert shell.run(block("docs/cli.md", 'celery -A tasks bridge tail "$TASK"\n')).count('"end"') == 3
    assert '"message":"one"' in shell.run(block("docs/cli.md", 'bridge tail "$TASK"\n'))
    assert shell.run(block("docs/cli.md", 'if bridge tail "$TASK"')) == "done\n"
    assert '"SUCCESS":2' in shell.run(block("docs/cli.md", "bridge tasks --limit 10\n"))


def test_messages_are_published_and_read(shell: Shell) -> None:
    """Three are published, one of them a file; after the first there are two."""
    lines = shell.run(
        "bridge publish orders zero\n" + block("docs/cli.md", "ID=$(bridge publish")
    ).splitlines()
    assert [line.partition('"payload":')[2] for line in lines[2:]] == [
        r'"{\"order\": 2}"}',
        '"zero"}',
        r'"{\"order\": 1}"}',
        r'"{\"order\": 2}"}',
    ]


def test_the_doctor_says_that_no_worker_runs(shell: Shell) -> None:
    """Without a worker it exits with 1 and names the remedy."""
    first, second = block("docs/cli.md", "bridge doctor --wait 20\n").splitlines()
    assert "start a worker" in shell.run(first.replace("20", "0.3"), status=1)
    said = shell.run(f"{second} --wait 0.3", status=1)
    assert "no worker answers on the broker of this Celery app" in said


def test_the_rest_works(shell: Shell) -> None:
    """Tokens are printed, tables are made, and bash learns to complete."""
    assert all(
        line.count(".") == 2 for line in shell.run(block("docs/cli.md", "export BRIDGE_TOKEN_KEY")).split()
    )
    assert "schema version" in shell.run(block("docs/cli.md", "bridge migrate sqlite:///bridge.db\n"))
    completes = block("docs/cli.md", 'eval "$(_BRIDGE_COMPLETE=bash_source bridge)"\n')
    assert "_bridge_completion" in shell.run(f"{completes}\ncomplete -p bridge")
    asked = "COMP_WORDS='bridge ta' COMP_CWORD=1 _BRIDGE_COMPLETE=bash_complete bridge"
    assert shell.run(asked).split() == ["plain,tail", "plain,tasks"]
