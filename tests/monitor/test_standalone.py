"""The monitor alone, as a real process: what it serves, to whom, and that it ends at once."""

import os
import re
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

import bridge
from bridge.channel.transport import transport_of
from tests import events
from tests.monitor.test_mounts import settings_in
from tests.processes import leader, running
from tests.servers import Valkey, eventually

SECONDS = 30


class Alone(NamedTuple):
    """A monitor that runs, and the deployment that it shows."""

    address: str
    log: Path
    channel: bridge.BroadcastChannel

    def get(self, path: str, **headers: str) -> httpx.Response:
        return httpx.get(
            f"{self.address}{path}", headers=headers, trust_env=False, verify=False, timeout=SECONDS
        )


@contextmanager
def alone(valkey: Valkey, *options: str) -> Iterator[Alone]:
    """Run `bridge monitor`."""
    namespace, url = uuid.uuid4().hex, valkey.url("redis")
    command = [sys.executable, "-m", "bridge.cli", "monitor", url, "--namespace", namespace, "--port", "0"]

    def address() -> str | None:
        found = re.search(r"http://\S+", log.read_text())
        return found and found[0]

    with bridge.connect(url, namespace=namespace) as channel, running([*command, *options]) as log:
        found = eventually(address, SECONDS, "the monitor did not start")
        assert found is not None
        yield Alone(found.rstrip("/"), log, channel)


def test_it_shows_a_deployment_and_ends_although_a_stream_is_open(valkey: Valkey) -> None:
    """Page, files, tasks and stream are there without an application; SIGTERM ends it with a stream open."""
    with alone(valkey) as monitor:
        transport_of(monitor.channel).publish(events.make("state", "t1", state="STARTED", name="work"))
        page = monitor.get("/?view=list")
        assert page.status_code == 200
        settings = settings_in(page.text)
        assert settings["canCancel"] is False
        assert monitor.get(f"/{settings['files']}/static/bridge.js").status_code == 200
        assert [row["name"] for row in monitor.get("/api/tasks").json()["tasks"]] == ["work"]
        assert monitor.get("/api/tasks", Host="evil.example").status_code == 403
        with httpx.stream(
            "GET", f"{monitor.address}/events", trust_env=False, verify=False, timeout=SECONDS
        ) as stream:
            assert any("t1" in line for line in stream.iter_lines())
            process = leader(monitor.log)
            os.kill(process, signal.SIGTERM)
            eventually(lambda: _has_ended(process), SECONDS, "the monitor does not end")
        assert "Traceback" not in monitor.log.read_text()


def _has_ended(process: int) -> bool:
    done, _ = os.waitpid(process, os.WNOHANG)
    return done == process


def test_another_address_needs_the_printed_url(valkey: Valkey) -> None:
    """Without its token nothing is shown; the URL gives a cookie without it, which opens everything."""
    with alone(valkey, "--host", "0.0.0.0") as monitor:
        url = httpx.URL(monitor.address)
        token = url.params["token"]
        base = f"http://127.0.0.1:{url.port}"
        with httpx.Client(base_url=base, trust_env=False, verify=False, timeout=SECONDS) as client:
            for path in ("/", "/api/tasks", "/events", "/files/1/static/bridge.js", "/?token=wrong"):
                assert client.get(path).status_code == 403
            opened = client.get("/", params={"token": token, "view": "workers"})
            assert (opened.status_code, opened.headers["Location"]) == (303, "./?view=workers")
            assert "HttpOnly" in opened.headers["Set-Cookie"]
            assert token not in opened.headers["Set-Cookie"]
            assert client.get("/?view=workers").status_code == 200
            assert client.get("/api/tasks").json()["tasks"] == []
        assert monitor.log.read_text().count(token) == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--run-again"], "--broker"),
        (["--host", "203.0.113.1"], "cannot listen"),
        (["--port", "70000"], "65535"),
    ],
)
def test_what_cannot_be_served_is_told_in_one_line(valkey: Valkey, options: list[str], reason: str) -> None:
    """The command ends with the reason instead of a traceback."""
    with running([sys.executable, "-m", "bridge.cli", "monitor", valkey.url("redis"), *options]) as log:
        eventually(lambda: reason in log.read_text(), SECONDS)
        assert "Traceback" not in log.read_text()
