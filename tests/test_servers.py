"""Tests of the servers that tests start."""

import subprocess
import sys

from tests.processes import ROOT
from tests.servers import free_port

DRAW = "from tests.servers import free_port; print(*(free_port() for _ in range(100)), flush=True); input()"


def test_processes_draw_different_ports() -> None:
    """Three processes draw 300 different ports, although nothing listens on them."""
    others = [
        subprocess.Popen(
            [sys.executable, "-c", DRAW], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    ports = [free_port() for _ in range(100)]
    for other in others:
        assert other.stdout is not None
        ports.extend(map(int, other.stdout.readline().split()))
    for other in others:
        other.communicate("\n", timeout=20)
    assert len(ports) == len(set(ports)) == 300
