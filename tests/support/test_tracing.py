"""Spans: one trace from the request to the end that viewers see, and nothing without OpenTelemetry."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bridge.support import tracing
from bridge.support.tracing import template_of
from tests.markdown import ROOT, block
from tests.processes import running
from tests.servers import Valkey, eventually

SECONDS = 60

APP = """
import os, time
from celery import Celery
from bridge.celery import install, publish

app = Celery("traced_tasks", broker={url!r}, backend={url!r}, set_as_current=False)
install(app, {url!r})


@app.task(name="double")
def double(number):
    publish("halfway", number)
    while not os.path.exists("go"):  # until somebody watches
        time.sleep(0.01)
    return 2 * number
"""

EXPORT = """
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class ToFile(SpanExporter):
    def export(self, spans):
        with open({path!r}, "a") as file:
            file.writelines(span.to_json(indent=None) + "\\n" for span in spans)
        return SpanExportResult.SUCCESS

exporter = ToFile()
"""

WEB = """
import traced_tasks
from flask import Flask
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from bridge import task_topic
from bridge.flask import Bridge

exporter = InMemorySpanExporter()
{example}
flask = Flask("web")
flask.config.update(BRIDGE_URL={url!r}, BRIDGE_PUBLIC=True)
streams = Bridge(flask)
tracer = trace.get_tracer("a framework")

@flask.post("/jobs")
def start():
    streams.channel.topic("room:1").publish(b"a job begins")
    return traced_tasks.double.delay(4).id

@flask.get("/jobs/<job>/events")
def events(job):
    return streams.stream(task_topic(job))

client = flask.test_client()
with tracer.start_as_current_span("POST /jobs", kind=trace.SpanKind.SERVER):
    job = client.post("/jobs").text
for _ in range(2):  # the second viewer comes after the end
    with tracer.start_as_current_span("GET /jobs/<job>/events", kind=trace.SpanKind.SERVER):
        response = client.get(f"/jobs/{{job}}/events")
        text = b""
        for chunk in response.iter_encoded():
            text += chunk
            if b"halfway" in text:
                open("go", "w").close()
    assert b"event: end" in text, text
# The spans of streams are ended once a second.
import time
deadline = time.monotonic() + 30
while True:
    provider.force_flush()
    spans = exporter.get_finished_spans()
    if sum(span.name.startswith("replay") for span in spans) == 2 or time.monotonic() > deadline:
        break
    time.sleep(0.05)
for span in spans:
    print(span.to_json(indent=None))
"""


def named(spans: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [span for span in spans if span["name"] == name]


def trace_of(span: dict[str, Any]) -> str:
    found: str = span["context"]["trace_id"]
    return found


def states(spans: list[dict[str, Any]]) -> list[str]:
    """Return the states of which there is a span."""
    return [span["attributes"]["celery.state"] for span in named(spans, "publish task:{id}")]


def test_one_trace_from_the_request_to_the_end(tmp_path: Path, valkey: Valkey) -> None:
    """With the examples of docs/tracing.md and a real worker, every span of the task is in the POST's trace.

    The streams have traces of their own, which link to it.
    """
    url, exported = valkey.url("redis"), tmp_path / "spans.jsonl"
    exported.touch()
    (tmp_path / "traced_tasks.py").write_text(APP.format(url=url))
    worker = block("docs/tracing.md", "from celery.signals import worker_process_init\n")
    set_up = "from traced_tasks import app\n" + EXPORT.format(path=str(exported)) + worker
    (tmp_path / "traced_worker.py").write_text(set_up)
    web = WEB.format(url=url, example=block("docs/tracing.md", "from opentelemetry import trace\n"))
    environment = {"PYTHONPATH": str(ROOT), "OTEL_BSP_SCHEDULE_DELAY": "50"}
    command = [sys.executable, "-m", "celery", "-A", "traced_worker", "worker", "-c", "1", "-l", "INFO"]
    (tmp_path / "web.py").write_text(web)
    with running(command, cwd=tmp_path, env=environment) as log:
        eventually(lambda: " ready." in log.read_text(), SECONDS)
        done = subprocess.run(
            [sys.executable, "web.py"],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", **environment},
            capture_output=True,
            text=True,
            timeout=2 * SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        eventually(lambda: '"run/double"' in exported.read_text(), SECONDS)
    here = [json.loads(line) for line in done.stdout.splitlines()]
    there = [json.loads(line) for line in exported.read_text().splitlines()]

    (post,) = named(here, "POST /jobs")
    assert {trace_of(span) for span in there} == {trace_of(post)}
    assert states(here) == ["PENDING"]
    assert states(there) == ["STARTED", "SUCCESS"]
    (sent,) = named(here, "publish room:{id}")
    (delivered,) = named(here, "deliver task:{id}")
    assert trace_of(sent) == trace_of(delivered) == trace_of(post)
    assert delivered["attributes"]["bridge.viewers"] == 1
    success = next(s for s in there if s["attributes"].get("celery.state") == "SUCCESS")
    (run,) = named(there, "run/double")
    assert success["parent_id"] == run["context"]["span_id"]
    assert delivered["parent_id"] == success["context"]["span_id"]

    gets, replays = named(here, "GET /jobs/<job>/events"), named(here, "replay task:{id}")
    assert [trace_of(span) for span in replays] == [trace_of(span) for span in gets]
    assert trace_of(gets[0]) != trace_of(post)
    for replay in replays:
        assert {link["context"]["trace_id"] for link in replay["links"]} == {trace_of(post)}
        assert replay["kind"] == "SpanKind.CONSUMER"
        assert replay["attributes"]["messaging.system"] == "celery-event-bridge"
        assert replay["attributes"]["messaging.operation.type"] == "receive"


WITHOUT = """
import sys
from celery import Celery
from celery.contrib.testing.worker import start_worker
import bridge
from bridge.celery import install
{first}
app = Celery(broker="memory://", backend="cache+memory://")
install(app, "memory://tracing")

@app.task
def double(number):
    return 2 * number

with bridge.connect("memory://tracing") as channel, start_worker(app, perform_ping_check=False):
    result = double.delay(4)
    assert result.get(timeout=30) == 8
    channel.topic("orders").publish(b"one")
    history = channel.topic(bridge.task_topic(result.id)).as_subscriber().history()
assert history and not any(b"traceparent" in message for message in history)
{last}
"""


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("", "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"),
        ("from opentelemetry import trace", "assert not trace.get_current_span().is_recording()"),
    ],
    ids=["not loaded", "without an SDK"],
)
def test_nothing_is_made_without_a_trace(first: str, last: str) -> None:
    """Without OpenTelemetry nothing of it is imported; without an SDK no event has a `traceparent`."""
    script = WITHOUT.format(first=first, last=last)
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=90)


@pytest.mark.parametrize(
    ("topic", "template"),
    [("orders", "orders"), ("tasks", "tasks"), ("task:8f2c", "task:{id}"), ("room:1:2", "room:{id}")],
)
def test_the_name_of_a_span_has_no_id(topic: str, template: str) -> None:
    """Topics of a kind share one name."""
    assert template_of(topic) == template


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (f"00-{'a' * 32}-{'b' * 16}-01", True),
        (f"00-{'a' * 32}-{'b' * 16}-00", False),
        ("anything", False),
        (7, False),
        (None, False),
    ],
)
def test_a_process_without_opentelemetry_passes_a_trace_on(
    given: object, passed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Readers get the trace in the headers of a task if it is recorded, and nothing malformed."""
    monkeypatch.setattr(tracing, "tracer", lambda: None)
    found = tracing.publish_state("task:1", {tracing.TRACEPARENT: given}, "STARTED")
    assert found == (given if passed_on else None)


def test_a_process_without_an_sdk_passes_a_trace_on() -> None:
    """The span that nobody records has the context of the task's message."""
    given = f"00-{'a' * 32}-{'b' * 16}-01"
    script = (
        "from opentelemetry import trace\nfrom bridge.support import tracing\n"
        f"print(tracing.publish_state('task:1', {{'headers': {{'traceparent': '{given}'}}}}, 'STARTED'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == given
