"""A real Prometheus scrapes a web application and a worker that are set up as docs/metrics.md says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from celery import Celery

import bridge
from bridge.celery import install
from bridge.prometheus import install_worker
from tests.markdown import ROOT, block
from tests.processes import leader, running
from tests.prometheus.server import Prometheus, needs_prometheus, prometheus
from tests.prometheus.test_metrics import RULES, names, queries, used_in
from tests.servers import Valkey, eventually, free_port

SECONDS = 60

WEB = """
from flask import Flask
from bridge.flask import Bridge

app = Flask(__name__)
app.config.update(BRIDGE_URL={url!r}, BRIDGE_PUBLIC=True)
streams = Bridge(app)


@app.get("/stream/<path:topic>")
def stream(topic):
    return streams.stream(topic)


{example}
"""

TASKS = """
from celery import Celery
from bridge.celery import install

app = Celery("tasks", broker={url!r}, backend={url!r})
install(app, {url!r})
{example}


@app.task(name="double")
def double(number):
    return 2 * number


@app.task(name="fail", bind=True, max_retries=1)
def fail(self):
    raise self.retry(countdown=0, exc=ValueError("of a test"))
"""


@contextmanager
def web(folder: Path, url: str) -> Iterator[tuple[str, Path]]:
    """Run the application in two processes under gunicorn; yield its URL and its log."""
    example = block(
        "docs/metrics.md",
        "from flask import Response\nfrom prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry",
    )
    (folder / "shop_web.py").write_text(WEB.format(url=url, example=example))
    (folder / "gunicorn.conf.py").write_text(
        block("docs/metrics.md", "from prometheus_client import multiprocess\n")
    )
    directory = folder / "numbers"
    prepare = block("docs/metrics.md", "export PROMETHEUS_MULTIPROC_DIR").replace(
        "/tmp/metrics", str(directory)
    )
    port = free_port()
    listen = f"--no-control-socket -k gthread --threads 8 -w 2 -b 127.0.0.1:{port}"
    command = f"{prepare}\nexec {sys.executable} -m gunicorn {listen} shop_web:app"
    with running(["sh", "-c", command], cwd=folder, env={"PYTHONPATH": f"{ROOT}"}) as log:
        address = f"http://127.0.0.1:{port}"
        eventually(lambda: answers(f"{address}/metrics"), SECONDS)
        yield address, log


@contextmanager
def worker(folder: Path, url: str) -> Iterator[tuple[str, Celery]]:
    """Run a worker with two child processes; yield where its metrics are, and a client of its tasks."""
    port = free_port()
    example = block("docs/metrics.md", "from bridge.prometheus import install_worker\n").replace(
        "9540", f"{port}"
    )
    (folder / "shop_tasks.py").write_text(TASKS.format(url=url, example=example))
    command = [sys.executable, "-m", "celery", "-A", "shop_tasks", "worker", "-P", "prefork", "-c", "2"]
    with (
        running([*command, "-l", "INFO"], cwd=folder, env={"PYTHONPATH": f"{ROOT}"}),
        Celery(broker=url, backend=url, set_as_current=False) as client,
    ):
        install(client, url)
        address = f"http://127.0.0.1:{port}/metrics"
        eventually(lambda: answers(address), SECONDS)
        yield address, client


def answers(address: str) -> bool:
    try:
        return httpx.get(address, trust_env=False, verify=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def reaches(server: Prometheus, expression: str, value: float) -> None:
    """Wait until an expression has a value."""
    eventually(lambda: server.value(expression) == value, SECONDS, f"{expression} did not become {value}")


@needs_prometheus
def test_prometheus_scrapes_the_api_and_a_worker(tmp_path: Path, valkey: Valkey) -> None:
    """The numbers of both processes of the application and of all children of the worker are right.

    Every query of the dashboard can be evaluated, every metric exists, and every alert rule is loaded.
    """
    url = valkey.url("redis")
    with ExitStack() as stack:
        site, log = stack.enter_context(web(tmp_path, url))
        worker_metrics, tasks = stack.enter_context(worker(tmp_path, url))
        jobs = {"web": site, "worker": worker_metrics}
        scrapes = [
            {"job_name": job, "static_configs": [{"targets": [address.split("/")[2]]}]}
            for job, address in jobs.items()
        ]
        server = stack.enter_context(
            prometheus(tmp_path, {"scrape_configs": scrapes, "rule_files": [str(RULES)]})
        )
        client = stack.enter_context(httpx.Client(trust_env=False, verify=False, timeout=SECONDS))
        streams = [stack.enter_context(client.stream("GET", f"{site}/stream/task:1")) for _ in range(3)]
        lines = [stream.iter_lines() for stream in streams]
        for line in lines:
            # After the snapshot nothing can be missed any more.
            assert '"type":"snapshot"' in next(text for text in line if text.startswith("data:"))
        with bridge.connect(url) as channel:
            sent = channel.topic("task:1").publish(b"one")
        for line in lines:
            assert next(text for text in line if text.startswith("data:")) == "data: one"
        headers = {"Last-Event-ID": str(sent)}
        stack.enter_context(client.stream("GET", f"{site}/stream/task:1", headers=headers))
        assert [tasks.send_task("double", [n]).get(timeout=SECONDS) for n in range(3)] == [0, 2, 4]
        failed = tasks.send_task("fail")
        assert isinstance(failed.get(timeout=SECONDS, propagate=False), ValueError)

        reaches(server, "sum(bridge_viewers)", 4)
        reaches(server, "sum(bridge_deliveries_total)", 6)
        reaches(server, 'sum(bridge_replays_total{result="resumed"})', 1)
        reaches(server, "sum(bridge_backend_up) by (job)", 1)
        reaches(server, "sum(bridge_viewers_opened_total)", 4)
        reaches(server, 'sum(bridge_tasks_ended_total{task="double",ending="SUCCESS"})', 3)
        reaches(server, 'sum(bridge_tasks_ended_total{task="fail",ending="FAILURE"})', 1)
        reaches(server, 'sum(bridge_task_retries_total{task="fail"})', 1)
        reaches(server, 'sum(bridge_task_queue_seconds_count{task="double"})', 3)
        reaches(server, 'sum(bridge_task_run_seconds_count{task="fail"})', 2)
        reaches(server, 'sum(bridge_publisher_waiting_messages{job="worker"})', 0)
        eventually(lambda: server.value("sum(bridge_delivery_lag_seconds_count) > 0"), SECONDS)
        reaches(server, 'sum(bridge_published_messages_total{job="worker"})', 15)

        known = set(server.get("/api/v1/label/__name__/values"))
        assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in known} >= names()
        for query in queries():
            server.query(query)
        rules = [rule for group in server.get("/api/v1/rules")["groups"] for rule in group["rules"]]
        assert len(rules) >= 8
        assert {used for rule in rules for used in used_in(rule["query"])} <= names()

        for address in (f"{site}/metrics", worker_metrics):
            text = client.get(address).text
            assert failed.id not in text
            subprocess.run(["promtool", "check", "metrics"], input=text, text=True, check=True, timeout=60)

        for process in children(leader(log)):
            os.kill(process, signal.SIGKILL)
        reaches(server, "sum(bridge_viewers)", 0)


def children(process: int) -> list[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(process)], capture_output=True, text=True, check=True, timeout=30
    )
    return [int(pid) for pid in found.stdout.split()]


def test_install_worker_needs_install_and_a_port() -> None:
    """Without `install`, and with something else than a port, it says what to do."""
    with Celery(set_as_current=False) as app:
        with pytest.raises(bridge.ConfigurationError, match="install"):
            install_worker(app, port=9540)
        install(app, "memory://")
        for port in (-1, 70_000, True, "9540"):
            with pytest.raises(bridge.ConfigurationError, match="0 to 65535"):
                install_worker(app, port=port)  # type: ignore[arg-type]  # one of them is a str


WITHOUT_A_POOL = """
import logging, urllib.request
from celery import Celery, signals
from bridge.celery import install
from bridge.prometheus import install_worker

told = []

class Sender:
    def __init__(self, app):
        self.app = app

class Keep(logging.Handler):
    def emit(self, record):
        told.append(record)

logger = logging.getLogger("bridge.prometheus")
logger.setLevel(logging.INFO)
logger.addHandler(Keep())

def worker_of(name, port):
    app = Celery(name, broker="memory://", set_as_current=False)
    app.conf.task_always_eager = True
    install(app, "memory://metrics")
    install_worker(app, port=port)
    sender = Sender(app)
    for signal in (signals.worker_init, signals.worker_ready):
        signal.send(sender=sender)
    return app

app = worker_of("first", 0)
(served,) = told
assert served.event == "metrics_served", served.getMessage()

@app.task(name="double")
def double(number):
    return 2 * number

assert double.delay(4).get() == 8
address = f"http://127.0.0.1:{served.port}/metrics"
text = urllib.request.urlopen(address, timeout=30).read().decode()
assert 'bridge_tasks_ended_total{ending="SUCCESS",task="double"} 1.0' in text, text
assert "bridge_publisher_waiting_messages" in text

worker_of_other = Celery("other", broker="memory://", set_as_current=False)
install(worker_of_other, "memory://metrics")
install_worker(worker_of_other, port=served.port)
signals.worker_ready.send(sender=Sender(worker_of_other))
assert told[-1].event == "metrics_port_unusable", told[-1].getMessage()
signals.worker_shutdown.send(sender=None)
"""


@pytest.mark.parametrize("several", [False, True], ids=["one process", "multiprocess mode"])
def test_a_worker_serves_its_metrics_until_it_ends(several: bool, tmp_path: Path) -> None:
    """In both modes of prometheus_client the tasks are there; a port in use is an error in the log only."""
    environment = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if several else {})}
    subprocess.run([sys.executable, "-c", WITHOUT_A_POOL], cwd=ROOT, env=environment, check=True, timeout=90)
