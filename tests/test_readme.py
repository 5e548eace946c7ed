"""What the README says is so: its commands run, its code works, its links lead somewhere."""

import re
from pathlib import Path

import pytest

from tests.environments import ROOT, build_wheel, environment
from tests.readme import README, blocks, events_of_a_job
from tests.servers import Valkey


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
def test_the_celery_and_flask_examples_work(own_valkey: Valkey, tmp_path: Path) -> None:
    """In a clean environment with what the README installs, a job of its code streams to its end."""
    (requirement,) = re.findall(r"^pip install '(.*)'", README, re.MULTILINE)
    with environment(build_wheel(tmp_path / "wheel"), requirement) as python:
        names = events_of_a_job(python, tmp_path, own_valkey.port)
    assert names[0] == "snapshot"
    assert names[-1] == "end"
    assert set(names) <= {"snapshot", "progress", "log", "state", "end"}
