"""A real Prometheus server for the time of a test."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.processes import running
from tests.servers import eventually, free_port

START_SECONDS = 60

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no Prometheus here; on Debian: apt-get install prometheus"
)


class Prometheus:
    """What a test asks the server. Its API answers with JSON of many kinds."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, verify=False, timeout=30)

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of an answer. An error of the server fails the test."""
        answer = self._client.get(path, params=parameters).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Return the labels and the value of each series now."""
        found = self.get("/api/v1/query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def value(self, expression: str) -> float | None:
        """Return the one number that an expression has now, or `None` if it has none."""
        found = self.query(expression)
        return found[0][1] if found else None

    def close(self) -> None:
        self._client.close()


@contextmanager
def prometheus(folder: Path, configuration: Mapping[str, Any]) -> Iterator[Prometheus]:
    """Run a server with its data in `folder`, which scrapes every second."""
    fast = {"global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}}
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({**fast, **configuration}))
    subprocess.run(["promtool", "check", "config", path], check=True, capture_output=True, timeout=60)
    port = free_port()
    options = [f"--config.file={path}", f"--storage.tsdb.path={folder / 'data'}"]
    with running(["prometheus", *options, f"--web.listen-address=127.0.0.1:{port}"]):
        server = Prometheus(f"http://127.0.0.1:{port}")

        def ready() -> bool:
            try:
                return server._client.get("/-/ready").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, START_SECONDS)
        try:
            yield server
        finally:
            server.close()
