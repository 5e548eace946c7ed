"""The Lua scripts: files that are all used, and that the servers take."""

import re
from importlib import resources

import pytest

from bridge.backends.redis import scripts
from bridge.backends.redis.backend import _settings
from bridge.backends.redis.scripts import SCRIPTS, Scripts, files_of
from bridge.backends.redis.servers import Servers
from bridge.model.state import Retention
from tests.environments import ROOT
from tests.servers import Valkey

FILES = {
    file.name.removesuffix(".lua"): file.read_text("utf-8")
    for file in resources.files("bridge.backends.redis").joinpath("lua").iterdir()
}


def test_every_file_is_used() -> None:
    """Each file is a script that is run, or is required by one; the code names each script."""
    used = {name for script in SCRIPTS for name in files_of(script)}
    assert used == set(FILES)
    code = "".join(path.read_text() for path in (ROOT / "bridge/backends/redis").glob("*.py"))
    assert all(code.count(f'"{script}"') >= 2 for script in SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_what_it_takes_and_answers(script: str) -> None:
    """The comment at the top names the keys; a script with arguments names those too, by name."""
    head = FILES[script].partition("\n\n")[0]
    assert head.startswith("-- ")
    assert "-- KEYS " in head
    assert ("ARGV" in head) == ("ARGV" in scripts.source(script))


@pytest.mark.parametrize("script", SCRIPTS)
def test_the_server_takes_a_script(valkey: Valkey, script: str) -> None:
    """The joined text compiles, and no setting is left in it."""
    settings = _settings(Retention(60, 1000), "PUBLISH")
    servers: Servers = None  # type: ignore[assignment]  # only `text` is called
    text = Scripts(servers, settings).text(script)
    assert valkey.command("SCRIPT", "LOAD", text)
    assert not set(settings) & set(re.findall(r"\w+", text))


def test_a_file_that_two_others_require_comes_once_before_both() -> None:
    """The text of a script has each file once, after those that it requires."""
    names = list(files_of("publish_batch"))
    assert len(names) == len(set(names))
    assert names.index("permissions") < names.index("append") < names.index("batch")
    assert names[-1] == "publish_batch"
    assert not re.search(r"^ *--", scripts.source("publish_batch"), re.MULTILINE)
