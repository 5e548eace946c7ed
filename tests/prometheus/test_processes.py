"""Multiprocess mode: whichever process is asked answers for all. test_worker.py has it under gunicorn."""

import os
import subprocess
import sys
from pathlib import Path

from tests.markdown import ROOT

SCRIPT = """
import os, signal, sys, time
from flask import Flask
from prometheus_client import CollectorRegistry
from bridge.flask import Bridge
from bridge.prometheus import collector

app = Flask("shop")
app.config.update(BRIDGE_URL="memory://", BRIDGE_PUBLIC=True)
streams = Bridge()
registry = CollectorRegistry()
registry.register(collector(streams))
streams.init_app(app)
app.add_url_rule("/orders", view_func=lambda: streams.stream("orders"), endpoint="orders")

def number(name):
    return registry.get_sample_value(name)

def open_stream():
    response = app.test_client().get("/orders")
    next(response.iter_encoded())
    return response

# The child is forked after the collector is made, as under gunicorn with --preload.
ready, tell = os.pipe()
leave, end = os.pipe()
child = os.fork()
if not child:
    opened = [open_stream(), open_stream()]
    while number("bridge_viewers") != 2:
        time.sleep(0.01)
    os.write(tell, b"1")
    os.read(leave, 1)
    for response in opened:
        response.close()
    sys.exit()
os.read(ready, 1)
mine = open_stream()
assert number("bridge_viewers") == 3, number("bridge_viewers")
os.write(end, b"1")
assert os.waitpid(child, 0)[1] == 0
assert number("bridge_viewers") == 1, number("bridge_viewers")
assert number("bridge_viewers_opened_total") == 3
assert number("bridge_backend_up") == 1
mine.close()
"""


def test_one_process_answers_for_all(tmp_path: Path) -> None:
    """The numbers are sums over the processes; those that can fall are gone with a process that has ended."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", SCRIPT], cwd=ROOT, env=environment, check=True, timeout=90)
