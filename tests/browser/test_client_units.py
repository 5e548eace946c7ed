"""The parts of the client that need no browser, tested by Node, and what they share with Python."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bridge import FEED, task_topic
from bridge.celery.task_run import MOST_STEPS
from bridge.model import event_type, position, state
from bridge.streams import client_files, cursor
from bridge.streams.encoder import POSITION
from bridge.tasks import event_types
from bridge.tasks.changes import KEPT_ATTEMPTS
from bridge.tasks.events import tag_topic

ROOT = Path(__file__).resolve().parents[2]
STATIC = ROOT / "bridge" / "static"
SECONDS = 100


def test_the_parts_pass_their_own_tests() -> None:
    """The parser, `fold`, the streams and their parts hold what the files in `units` say."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js here; on Debian: apt-get install nodejs")
    units = sorted(str(path) for path in (ROOT / "tests" / "browser" / "units").glob("*.test.js"))
    done = subprocess.run(
        [node, "--test", *units], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert re.search(r"^# pass [1-9]", done.stdout, re.MULTILINE)


def constant(name: str, file: str = "fold.js") -> str:
    """Return the source text of a constant."""
    found = re.search(rf"const {name} = (.+?);\n", (STATIC / file).read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def strings(name: str) -> set[str]:
    return set(re.findall(r'"(\w+)"', constant(name)))


def test_the_client_and_the_server_have_the_same_constants() -> None:
    """Types, ends, limits and the names of topics are those of the server."""
    assert strings("EVENT_TYPES") == event_type.TASK_TYPES | {"snapshot", "reset", "end"}
    assert strings("FINISHED_STATES") == event_types.ENDS
    assert int(constant("KEPT_EVENTS")) == state.MAX_ENTRIES
    assert int(constant("KEPT_CHILDREN")) == state.MAX_ROWS
    assert int(constant("KEPT_STEPS")) == MOST_STEPS
    assert int(constant("KEPT_ATTEMPTS")) == KEPT_ATTEMPTS
    assert constant("FEED", "positions.js") == f'"{FEED}"'
    assert constant("TASK_PREFIX", "positions.js") == f'"{task_topic("")}"'
    assert constant("TAG_PREFIX", "positions.js") == f'"{tag_topic("")}"'
    assert constant("NOW", "positions.js") == f'"{cursor.NOW}"'
    assert constant("FROM_STATE", "positions.js") == f'"{cursor.FROM_STATE}"'
    handled = (STATIC / "topics.js").read_text() + (STATIC / "transport.js").read_text()
    assert f'type === "{POSITION}"' in handled
    assert f'type === "{event_types.Expired("").type}"' in handled


def test_a_position_has_the_same_form_on_both_sides() -> None:
    """The client compares positions, so it reads them as the server does."""
    assert constant("POSITION", "positions.js") == f"/^{position._TEXT.pattern}$/"


def test_every_file_of_the_client_is_served() -> None:
    """The list of files is that of the folder, and a file imports only files of the list."""
    assert {path.name for path in STATIC.glob("*.js")} == client_files.FILES
    for path in STATIC.glob("*.js"):
        imported = set(re.findall(r'from "(.+?)"', path.read_text()))
        assert imported <= {f"./{name}" for name in client_files.FILES} | {"react", "/bridge/bridge.js"}
