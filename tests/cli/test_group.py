"""The command `bridge`: its help, its version, its errors, and what it says without click."""

import subprocess
import sys

import pytest

import bridge
from bridge import cli
from bridge.cli.group import COMMANDS


def test_the_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    """`bridge --help` names each command with a sentence, and exits with 0."""
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name in COMMANDS:
        assert f"\n  {name} " in text


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    """`bridge --version` prints the version of the package."""
    assert cli.main(["--version"]) == 0
    assert bridge.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "no URL: give one as the first argument, such as redis://localhost:6379/0, or set BRIDGE_URL"),
        (("localhost:6379",), "for Redis write redis://localhost:6379/0"),
        (("memory://",), "only a database has tables, such as postgresql:// or sqlite:///"),
        (("memory://", "more"), "expected [URL]"),
        (("redis://h/\x1b[2J",), "the path must be the number of a database"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    arguments: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """No traceback, no control character of what was given, and a status that is not 0."""
    assert cli.main(["migrate", *arguments]) != 0
    error = capsys.readouterr().err
    assert says in error
    assert "Traceback" not in error
    assert "\x1b" not in error


WITHOUT = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name in {"click", "rich"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from bridge.cli import main

sys.exit(main(["--version"]))
"""


def test_without_click_one_line_says_what_to_install() -> None:
    """Without the extra the command says how to install it, and shows no traceback."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "bridge: the command bridge needs a package that is not installed (click): "
        "pip install 'celery-event-bridge[cli]'\n"
    )
