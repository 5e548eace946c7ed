"""What works on Windows, as far as a POSIX system can tell: what only POSIX has is hidden from a process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = 60

HIDE = """
import os, sys

HIDDEN = {"fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty"}


class Finder:
    def find_spec(self, name, path=None, target=None):
        if name in HIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Finder())
for name in HIDDEN:
    sys.modules.pop(name, None)
for name in ("fork", "register_at_fork", "forkpty", "set_blocking", "get_blocking", "getuid", "getgid"):
    delattr(os, name)
"""

FLASK = """
import threading
from flask import Flask
from werkzeug.serving import make_server
import bridge
from bridge.flask import Bridge
from bridge.channel.transport import transport_of

app = Flask(__name__)
app.config.update(BRIDGE_URL="memory://", BRIDGE_PUBLIC=True)
streams = Bridge(app)
app.get("/events")(lambda: streams.stream(bridge.task_topic("t1")))
server = make_server("127.0.0.1", 0, app, threaded=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
app.app_context().push()
channel = streams.channel
address = f"http://127.0.0.1:{server.server_port}/events"
"""

ASGI = """
import threading, time
from starlette.applications import Starlette
from starlette.routing import Route
import uvicorn
import bridge
from bridge.asgi import Bridge
from bridge.channel.transport import transport_of


async def events(request):
    return streams.stream(bridge.task_topic("t1"))


streams = Bridge("memory://", authorize=lambda request, topic: True)
app = Starlette(routes=[Route("/events", events)])
streams.install(app)
server = uvicorn.Server(uvicorn.Config(app, port=0, loop="asyncio", log_level="error"))
threading.Thread(target=server.run, daemon=True).start()
while not server.started:
    time.sleep(0.01)
channel = streams.channel
address = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/events"
"""

READ = """
import urllib.request
from tests import events

for state in ("STARTED", "SUCCESS"):
    transport_of(channel).publish(events.make("state", "t1", state=state))
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
body = opener.open(address, timeout=20).read()
assert body.count(b"event: end") == 1, body
assert streams.stats()["viewers_handed_over"] == 0
"""


@pytest.mark.parametrize("framework", [FLASK, ASGI], ids=["flask", "asgi"])
def test_a_task_is_streamed_without_posix(framework: str) -> None:
    """The development server streams a task to its end where neither forks nor POSIX modules exist."""
    run(framework + READ)


@pytest.mark.parametrize(
    "module", ["bridge.celery", "bridge.django", "bridge.aio", "bridge.litestar", "bridge.cli"]
)
def test_the_module_is_imported_without_posix(module: str) -> None:
    """The module needs nothing that only POSIX has."""
    # billiard asks sys.platform, and imports what it finds there.
    run(f"import {module}", first="import billiard.compat" if module == "bridge.celery" else "")


def run(code: str, first: str = "") -> None:
    """Run code in a process from which the POSIX parts of Python are hidden."""
    root = Path(__file__).resolve().parents[1]
    ended = subprocess.run(
        [sys.executable, "-c", f"{first}\n{HIDE}\n{code}"],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
