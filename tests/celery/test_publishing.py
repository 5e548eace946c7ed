"""Events on their way: floods, outages, and events that are too large."""

import threading
import uuid
from typing import Any

import pytest
from celery import Celery

import bridge
from bridge.celery import install, log, publish
from tests import events
from tests.celery.workers import SECONDS, snapshot, worker
from tests.servers import Valkey


def test_a_flood_is_bounded_and_counted(own_valkey: Valkey) -> None:
    """100,000 events of one task: the newest arrive, what is left out is counted, the end is there."""
    url = own_valkey.url("redis")
    channel = bridge.connect(url, queue_size=200_000)
    with worker(url, url) as celery, channel.topic(bridge.task_topic("flood")).subscribe() as own:
        sent_task = celery.app.send_task("tests.celery_app.flood", [100_000], task_id="flood")
        seconds_a_call = sent_task.get(timeout=SECONDS)
        assert seconds_a_call < 0.001
        sent: list[dict[str, Any]] = []
        while not sent or not events.end_of(sent[-1]):
            sent.append(events.decode(own.receive(timeout=SECONDS) or b"") or {"type": "nothing came"})
        kept = [event["data"] for event in sent if event["type"] == "number"]
        left_out = [
            int(event["message"].split()[0].replace(",", "")) for event in sent if event["type"] == "log"
        ]
        assert kept == sorted(set(kept))
        assert kept[-1] == 99_999
        assert len(kept) + sum(left_out) == 100_000
    channel.close()


def test_a_task_neither_fails_nor_stalls_while_the_bridge_is_down(own_valkey: Valkey) -> None:
    """With no bridge in reach the result is unaffected, a call takes under 50 ms, a process logs one line."""
    server = Valkey()
    with worker(own_valkey.url("redis"), server.url("redis+pubsub")) as celery:
        for _ in range(3):
            _, seconds_a_call = celery.run("chatty", 200)
            assert seconds_a_call < 0.05
        lines = [line for line in celery.log().splitlines() if "task events cannot be sent" in line]
        assert len(lines) == 2, "one line from the main process, one from the child"
        server.start()
        channel = bridge.connect(server.url("redis+pubsub"))
        task, _ = celery.run("chatty", 1)
        assert snapshot(channel, task)["state"] == "SUCCESS"
        channel.close()
    server.stop()


def test_a_result_too_large_to_send_is_cut(eager: tuple[Celery, Any]) -> None:
    """The end of a task whose result exceeds max_payload is published, with the result cut."""
    app, channel = eager

    @app.task(name="work 4")
    def work() -> str:
        return "x" * 2_000_000

    found = snapshot(channel, work.delay().id)
    assert found["state"] == "SUCCESS"
    assert "cut" in found["result"]
    assert len(found["result"]) < 11_000


@pytest.mark.parametrize("max_payload", [1_000_000, 20_000, 3_000, 1_000])
def test_an_event_above_max_payload_is_cut(max_payload: int) -> None:
    """With any max_payload no event is missing and no call raises. A text that is cut says so."""
    app = Celery("small", set_as_current=False)
    app.conf.task_always_eager = True
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url, max_payload=max_payload, tracebacks=True)
    channel: Any = bridge.connect(url, max_payload=max_payload)

    @app.task(name=f"work 19 {max_payload}", shared=False)
    def work() -> None:
        publish("list", ["x"] * 2_000_000)
        publish("text", "\x01" * 2_000_000)
        log("y" * 2_000_000)
        raise ValueError("z" * 2_000_000)

    found = snapshot(channel, work.delay().id)
    assert [event["type"] for event in found["events"]] == ["list", "text", "log"]
    assert all("characters cut)" in event.get("data", event.get("message")) for event in found["events"])
    assert found["error"]["type"] == "ValueError"
    assert "characters cut)" in found["error"]["message"]
    channel.close()
    app.close()


def test_an_event_that_is_too_large_even_when_cut_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a process, with its type, its task and what to do; the task goes on."""
    monkeypatch.setattr("bridge.celery.publishing._too_large", threading.Event())
    app = Celery("tiny", set_as_current=False)
    app.conf.task_always_eager = True
    install(app, f"memory://{uuid.uuid4().hex}", max_payload=50)

    @app.task(name="work 20", shared=False)
    def work() -> str:
        log("hello")
        return "done"

    assert [work.delay().get() for _ in range(3)] == ["done"] * 3
    (record,) = [record for record in caplog.records if record.name == "bridge.celery"]
    assert "max_payload" in record.getMessage()
    app.close()
