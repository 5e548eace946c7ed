"""The Celery side: what tasks publish, in real worker processes and in eager mode."""

import itertools
import logging
import sys
import threading
import uuid
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
import pytest
from celery import Celery, group
from celery._state import _tls
from celery.app.task import Context
from celery.signals import after_task_publish, before_task_publish, task_retry
from kombu.exceptions import OperationalError

import bridge
from bridge.celery import install, log, progress, publish, step, track
from bridge.celery import installation as publishers
from bridge.celery.installation import installed
from bridge.channel.transport import transport_of
from bridge.tasks import events
from tests.processes import running
from tests.servers import Valkey, eventually, free_port
from tests.tasks.test_events import AWKWARD, Awkward

SECONDS = 30
POOLS = ("prefork", "threads", "gevent", "solo")


class Worker:
    """A worker process, and a client of its broker."""

    def __init__(self, app: Celery, log_file: Path) -> None:
        self.app = app
        self._log_file = log_file

    def run(self, name: str, *args: object) -> tuple[str, Any]:
        """Run a task; return its id and its result or exception."""
        sent = self.app.send_task(f"tests.celery_app.{name}", args)
        return sent.id, sent.get(timeout=SECONDS, propagate=False)

    def log(self) -> str:
        return self._log_file.read_text(errors="replace")


@contextmanager
def worker(broker: str, bridge_url: str, pool: str = "prefork") -> Iterator[Worker]:
    """Start a real worker with one process, thread or greenlet; end it with everything it started."""
    celery = [sys.executable, "-m", "celery", "-A", "tests.celery_app", "worker"]
    name = f"{uuid.uuid4().hex}@localhost"
    environment = {"APP_BROKER": broker, "APP_BRIDGE": bridge_url}
    with (
        running([*celery, "-P", pool, "-c", "1", "-l", "INFO", "-n", name], env=environment) as log_file,
        Celery(broker=broker, backend=broker) as app,
    ):
        eventually(lambda: " ready." in log_file.read_text(), SECONDS)
        yield Worker(app, log_file)


def snapshot(channel: Any, task: str) -> dict[str, Any]:
    """The snapshot of a task that has ended."""

    def ended() -> dict[str, Any] | None:
        states = transport_of(channel).states(bridge.task_topic(task))
        whole = events.snapshot(states[0], task) if states else {"type": "snapshot"}
        return whole if events.end_of(whole) else None

    return eventually(ended, SECONDS) or {}


@pytest.mark.parametrize("pool", POOLS)
def test_every_ending_is_told_in_every_pool(own_valkey: Valkey, pool: str) -> None:
    """In each pool the lifecycle comes by itself, what a task says is kept, and every task has its end."""
    channel = bridge.connect(own_valkey.url("redis+pubsub"))
    with worker(own_valkey.url("redis"), own_valkey.url("redis+pubsub"), pool) as celery:
        added, result = celery.run("add", 1, 2)
        assert result == 3
        whole = snapshot(channel, added)
        assert (whole["state"], whole["result"], whole["attempt"]) == ("SUCCESS", 3, 1)
        assert whole["name"] == "tests.celery_app.add"
        assert whole["worker"].endswith("@localhost")
        assert whole["started_at"] <= whole["ended_at"]

        failed, _ = celery.run("fail")
        whole = snapshot(channel, failed)
        assert whole["state"] == "FAILURE"
        assert whole["error"] == {"type": "ValueError", "message": "no such file"}

        talked, _ = celery.run("chatty", 10)
        whole = snapshot(channel, talked)
        assert whole["progress"]["current"] == 9
        assert whole["progress"]["percent"] == 90.0
        assert [event["type"] for event in whole["events"]] == ["log", "preview"]

        retried, _ = celery.run("second_time_lucky")
        whole = snapshot(channel, retried)
        assert (whole["state"], whole["attempt"], whole["result"]) == ("SUCCESS", 2, 1)

        for name in ("custom", "shared"):
            task, _ = celery.run(name)
            assert [event["message"] for event in snapshot(channel, task)["events"]] == [name]

        awkward, _ = celery.run("unprintable")
        assert snapshot(channel, awkward)["error"]["type"] == "Unprintable"

        measured, result = celery.run("measured", 1000)
        assert result == sum(range(1000))
        whole = snapshot(channel, measured)
        assert (whole["progress"]["percent"], whole["progress"].get("step")) == (100.0, None)
        done = [(step["name"], step["status"]) for step in whole["steps"]]
        assert done == [("load", "succeeded"), ("save", "succeeded")]

        threaded, _ = celery.run("in_a_plain_thread")
        said = [event["message"] for event in snapshot(channel, threaded)["events"]]
        one_at_a_time = pool in ("prefork", "solo")
        assert said == (["from a plain thread"] if one_at_a_time else []) + ["from the task"]
    channel.close()


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_task_that_waits_for_its_next_attempt_says_why_and_until_when(
    own_valkey: Valkey, pool: str
) -> None:
    """From the retry until the attempt begins, though the worker has received it long before."""
    channel: Any = bridge.connect(own_valkey.url("redis"))
    with worker(own_valkey.url("redis"), own_valkey.url("redis"), pool) as celery:
        task = celery.app.send_task("tests.celery_app.later", [3.0]).id

        def waits() -> dict[str, Any] | None:
            states = transport_of(channel).states(bridge.task_topic(task))
            whole = events.snapshot(states[0], task) if states else {}
            return whole if whole.get("attempt") == 2 and "reason" in whole else None

        whole = eventually(waits, SECONDS)
        assert whole is not None
        assert whole["state"] == "RECEIVED"
        assert whole["reason"] == "not yet"
        assert whole["error"] == {"type": "ConnectionError", "message": "not yet"}
        assert 2.5 < whole["retry_at"] - whole["started_at"] < 4
        ended = snapshot(channel, task)
    assert (ended["state"], ended["result"], ended["attempt"]) == ("SUCCESS", 1, 2)
    assert not {"reason", "error", "retry_at"} & ended.keys()
    assert ended["first_started_at"] == whole["started_at"]
    assert ended["ended_at"] - ended["first_started_at"] >= 2.5
    assert ended["started_at"] >= whole["retry_at"] - 0.5
    channel.close()


def test_a_flood_is_bounded_and_told(own_valkey: Valkey) -> None:
    """100,000 events of one task: the newest arrive, what is left out is counted, the end is there."""
    url = own_valkey.url("redis")
    channel = bridge.connect(url, queue_size=200_000)
    with worker(url, url) as celery, channel.topic(events.FEED).as_subscriber().subscribe() as feed:
        _, seconds_a_call = celery.run("flood", 100_000)
        assert seconds_a_call < 0.001
        sent: list[dict[str, Any]] = []
        while not sent or not events.end_of(sent[-1]):
            sent.append(events.decode(feed.receive(timeout=SECONDS) or b"") or {"type": "nothing came"})
        kept = [event["data"] for event in sent if event["type"] == "number"]
        left_out = [
            int(event["message"].split()[0].replace(",", "")) for event in sent if event["type"] == "log"
        ]
        assert kept == sorted(set(kept))
        assert kept[-1] == 99_999
        assert len(kept) + sum(left_out) == 100_000
    channel.close()


def test_progress_in_a_thread_without_context_is_of_the_only_task(eager: tuple[Celery, Any]) -> None:
    """The thread's figures are shown in the step that the task is in; its own steps are within it."""
    app, channel = eager

    def elsewhere() -> None:
        progress(1, 2, "elsewhere")
        with step("inner"):
            log("hello")

    @app.task(name="work 8")
    def work() -> None:
        with step("outer"):
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert list(track([1, 2])) == [1, 2]

    whole = snapshot(channel, work.delay().id)
    assert [step["status"] for step in whole["steps"]] == ["succeeded", "succeeded"]
    assert [step.get("path") for step in whole["steps"]] == [["outer", "inner"], None]


@pytest.mark.parametrize("call", ["apply", "delay"])
def test_progress_of_an_eager_task(eager: tuple[Celery, Any], call: str) -> None:
    """The last figures are there with the end, also of a task that fails within a step and a loop."""
    app, channel = eager

    @app.task(name=f"work 9 {call}")
    def work() -> None:
        with step("load"):
            for number in track(iter(range(10)), total=10, message="loading"):
                if number == 7:
                    raise ValueError("no eighth")

    whole = snapshot(channel, getattr(work, call)().id)
    assert whole["state"] == "FAILURE"
    assert (whole["progress"]["current"], whole["progress"]["total"]) == (7, 10)
    assert whole["progress"]["message"] == "loading"
    assert whole["steps"] == [{"name": "load", "status": "failed"}]


def test_an_eager_task_within_a_task_has_its_own_progress(eager: tuple[Celery, Any]) -> None:
    """What the inner task says is told of it alone, and the outer one goes on where it was."""
    app, channel = eager

    @app.task(name="work 10")
    def inner() -> None:
        with step("inner"):
            progress(1, total=4)

    @app.task(name="work 11")
    def outer() -> str:
        with step("outer"):
            progress(1, total=2)
            called: str = inner.delay().id
            progress(2, total=2)
        return called

    whole = snapshot(channel, outer.delay().id)
    own = snapshot(channel, whole["result"])
    assert [step["name"] for step in whole["steps"]] == ["outer"]
    assert [step["name"] for step in own["steps"]] == ["inner"]


def test_a_second_attempt_begins_anew(eager: tuple[Celery, Any]) -> None:
    """After a retry neither the bar nor the steps of the first attempt are there."""
    app, channel = eager

    @app.task(name="work 12", bind=True, max_retries=1)
    def work(self: Any) -> None:
        if self.request.retries == 0:
            with step("first"):
                progress(9, total=10)
            raise self.retry(countdown=0)
        progress(1, total=10)

    whole = snapshot(channel, work.delay().id)
    assert (whole["attempt"], whole["progress"]["percent"], whole["steps"]) == (2, 10.0, [])


def test_a_step_may_decorate_a_function(eager: tuple[Celery, Any]) -> None:
    """Each call of the function is the step, with its arguments and its result as they were."""
    app, channel = eager

    @step("double")
    def double(number: int, *, plus: int) -> int:
        return 2 * number + plus

    assert double(1, plus=1) == 3

    @app.task(name="work 13")
    def work() -> int:
        return double(20, plus=2)

    whole = snapshot(channel, work.delay().id)
    assert (whole["result"], whole["steps"]) == (42, [{"name": "double", "status": "succeeded"}])


def test_steps_without_end_are_bounded(eager: tuple[Celery, Any]) -> None:
    """Of very many steps the snapshot has the last hundred, and those that are not over."""
    app, channel = eager

    @app.task(name="work 14")
    def work() -> None:
        with step("around"):
            for number in range(300):
                with step(f"number {number}"):
                    pass

    steps = snapshot(channel, work.delay().id)["steps"]
    assert len(steps) == 100
    assert steps[-1] == {"name": "around", "status": "succeeded"}
    assert steps[-2]["name"] == "number 299"


class Lengthless:
    """An iterable that does not know its length and says so the hard way."""

    def __len__(self) -> int:
        raise RuntimeError("ask the database")

    def __iter__(self) -> Iterator[int]:
        return iter([1, 2, 3])


@pytest.mark.parametrize("items", [Lengthless(), range(10**30), (n for n in range(3)), {"a": 1}, "abc"])
def test_anything_can_be_tracked(eager: tuple[Celery, Any], items: Any) -> None:
    """A length that cannot be had is an unknown total; the items come as they are."""
    app, channel = eager

    @app.task(name=f"work 15 {type(items).__name__}")
    def work() -> int:
        return len(list(itertools.islice(track(items), 3)))

    expected = len(list(itertools.islice(items, 3))) if not isinstance(items, Iterator) else 3
    assert snapshot(channel, work.delay().id)["result"] == expected


def test_a_task_neither_fails_nor_stalls_while_the_bridge_is_down(own_valkey: Valkey) -> None:
    """With no bridge in reach the result is unaffected, a call takes under 50 ms, a process logs one line."""
    server = Valkey()
    with worker(own_valkey.url("redis"), server.url("redis+pubsub")) as celery:
        for _ in range(3):
            _, seconds_a_call = celery.run("chatty", 200)
            assert seconds_a_call < 0.05
        said = [line for line in celery.log().splitlines() if "task events cannot be sent" in line]
        assert len(said) == 2, "one line from the main process, one from the child"
        server.start()
        channel = bridge.connect(server.url("redis+pubsub"))
        task, _ = celery.run("chatty", 1)
        assert snapshot(channel, task)["state"] == "SUCCESS"
        channel.close()
    server.stop()


def test_a_worker_says_at_its_start_where_its_tasks_publish(own_valkey: Valkey) -> None:
    """Once, with the namespace and without the password; if nothing answers there, what that means."""
    away = f"redis://user:pa%2Fss@127.0.0.1:{free_port()}/3"
    with worker(own_valkey.url("redis"), away) as celery:
        said = [line for line in celery.log().splitlines() if "the bridge cannot be reached" in line]
        assert len(said) == 1
        assert "WARNING" in said[0]
        assert "redis://127.0.0.1:" in said[0]
        assert "/3, namespace 'bridge'" in said[0]
        assert "pa%2Fss" not in celery.log()
        assert "pa/ss" not in celery.log()
    with worker(own_valkey.url("redis"), own_valkey.url("redis")) as celery:
        said = [line for line in celery.log().splitlines() if "task events are published at" in line]
        assert len(said) == 1
        assert f"127.0.0.1:{own_valkey.port}/0, namespace 'bridge'" in said[0]
        assert "cannot be reached" not in celery.log()


def test_who_queues_a_task_tells_so(own_valkey: Valkey) -> None:
    """A task that no worker has taken shows as PENDING, with its name, as soon as apply_async returns."""
    channel: Any = bridge.connect(own_valkey.url("redis+pubsub"))
    app = Celery("queueing", broker=own_valkey.url("redis"))
    install(app, own_valkey.url("redis+pubsub"))
    sent = app.send_task("anything")
    (state,) = transport_of(channel).states(bridge.task_topic(sent.id))
    whole = events.snapshot(state, sent.id)
    assert (whole["state"], whole["name"]) == ("PENDING", "anything")
    assert "queued_at" in whole
    channel.close()
    app.close()


def test_what_the_broker_refuses_is_not_queued() -> None:
    """A task that could not be queued shows nowhere: PENDING is said when the broker has taken it."""
    url = f"memory://{uuid.uuid4().hex}"
    app = Celery("refused", broker=f"redis://127.0.0.1:{free_port()}", set_as_current=False)
    install(app, url)
    channel: Any = bridge.connect(url)
    with pytest.raises(OperationalError):
        app.send_task("anything", task_id="t1", retry=False)
    assert transport_of(channel).states(bridge.task_topic("t1")) == []
    channel.close()
    app.close()


def test_each_of_several_apps_speaks_on_its_own_channel() -> None:
    """Of two apps with the bridge the one that has the task says that it is queued, whichever is current."""
    channels: list[Any] = []
    apps = []
    for name in ("one", "two"):
        url = f"memory://{uuid.uuid4().hex}"
        app = Celery(name, broker="memory://", set_as_current=name == "one")
        install(app, url)

        @app.task(name=f"task of {name}", shared=False)
        def work() -> None:
            """It is only queued."""

        channels.append(bridge.connect(url))
        apps.append(app)
    sent = apps[1].send_task("task of two")
    topic = bridge.task_topic(sent.id)
    assert [len(transport_of(channel).states(topic)) for channel in channels] == [0, 1]
    for thing in (*channels, *apps):
        thing.close()


@pytest.fixture
def two_apps(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Celery, Celery, Any, dict[str, set[str]]]]:
    """An app with the bridge, one without, the channel, and what headers of the bridge each task gets."""
    monkeypatch.setattr(publishers, "_installed", weakref.WeakKeyDictionary())
    url = f"memory://{uuid.uuid4().hex}"
    noted: dict[str, set[str]] = {}
    bridged, bare = (
        Celery(name, broker=f"memory://{uuid.uuid4().hex}", set_as_current=False)
        for name in ("bridged", "bare")
    )
    install(bridged, url)

    def note(sender: str, headers: dict[str, Any], **_: Any) -> None:
        noted[sender] = {name for name in headers if name.startswith("bridge")}

    after_task_publish.connect(note)
    channel = bridge.connect(url)
    yield bridged, bare, channel, noted
    after_task_publish.disconnect(note)
    for thing in (channel, bridged, bare):
        thing.close()


def told_of(channel: Any) -> set[str]:
    """The tasks that the feed knows."""
    return {events.task_of(state.topic) or "" for state in transport_of(channel).states(bridge.FEED)}


@pytest.mark.parametrize("current", ["bridged", "bare", None])
def test_tasks_of_an_app_without_the_bridge_are_no_concern_of_it(
    two_apps: tuple[Celery, Celery, Any, dict[str, set[str]]], current: str | None
) -> None:
    """Whichever app is current, its messages have no header of ours and it is not in the other's feed."""
    bridged, bare, channel, headers = two_apps
    before = _tls.current_app
    for app in (bridged, bare):
        if app.main == current:
            app.set_current()

    @bare.task(name="bare task", shared=False)
    def work() -> None:
        """It is only queued."""

    try:
        sent = [bare.send_task("bare"), work.delay(), work.apply_async(countdown=5), group([work.s()] * 2)()]
        assert len(sent) == 4
        bridged.send_task("bridged", task_id="known")
        eventually(lambda: "known" in told_of(channel))
    finally:
        _tls.current_app = before
    assert told_of(channel) == {"known"}
    assert headers.pop("bridged") == {"bridge_queued_at"}
    assert not any(headers.values())


def test_a_task_that_is_sent_while_another_app_sends_one(
    two_apps: tuple[Celery, Celery, Any, dict[str, set[str]]],
) -> None:
    """A handler of Celery's signals that sends a task of another app does not mix them up."""
    bridged, bare, channel, headers = two_apps

    def send_more(sender: str, **_: Any) -> None:
        if sender == "bridged":
            bare.send_task("bare", task_id="unknown")
            bridged.send_task("inner", task_id="inner")

    before_task_publish.connect(send_more)
    try:
        bridged.send_task("bridged", task_id="known")
    finally:
        before_task_publish.disconnect(send_more)
    eventually(lambda: "known" in told_of(channel))
    assert told_of(channel) == {"known", "inner"}
    assert headers == {"bridged": {"bridge_queued_at"}, "inner": {"bridge_queued_at"}, "bare": set()}


def test_an_installed_app_still_lets_its_send_task_be_replaced() -> None:
    """One of a subclass, and one that is put into the class later, are called."""

    class Own(Celery):
        called = 0

        def send_task(self, *args: Any, **kwargs: Any) -> Any:
            Own.called += 1
            return super().send_task(*args, **kwargs)

    app = Own("own", broker="memory://", set_as_current=False)
    install(app, f"memory://{uuid.uuid4().hex}")
    install(app, f"memory://{uuid.uuid4().hex}")
    app.send_task("anything")
    assert Own.called == 1
    Own.send_task = lambda *_, **__: "patched"  # type: ignore[method-assign]
    assert app.send_task("anything") == "patched"
    app.close()


def test_many_tasks_in_a_row_are_told_of_in_the_background(own_valkey: Valkey) -> None:
    """Whoever queues a thousand tasks does not wait for each to be told; all of them are, soon."""
    url = own_valkey.url("redis")
    app = Celery("many", broker="memory://", set_as_current=False)
    install(app, url)
    sent = [app.send_task("anything").id for _ in range(1000)]
    channel: Any = bridge.connect(url)
    eventually(lambda: transport_of(channel).states(bridge.task_topic(sent[-1])))
    assert {state.topic for state in transport_of(channel).states(bridge.FEED)} == {
        *map(bridge.task_topic, sent)
    }
    channel.close()
    app.close()


def test_a_traceback_is_told_only_where_it_was_allowed() -> None:
    """By default a failure tells type and message; with `tracebacks=True` where it happened too."""
    told = {}
    for allowed in (False, True):
        url = f"memory://{uuid.uuid4().hex}"
        app = Celery("traced", set_as_current=False)
        app.conf.task_always_eager = True
        install(app, url, tracebacks=allowed)

        @app.task(name="work 7", shared=False)
        def work() -> None:
            raise ValueError("no")

        channel = bridge.connect(url)
        told[allowed] = snapshot(channel, work.delay().id)["error"]
        channel.close()
        app.close()
    assert told[False] == {"type": "ValueError", "message": "no"}
    assert 'raise ValueError("no")' in told[True]["traceback"]


@pytest.mark.parametrize(("heartbeat", "stalls_after"), [(0, None), (-1, None), (5, 5), (5, 1)])
def test_heartbeats_that_cannot_be_missed_are_refused(heartbeat: float, stalls_after: float | None) -> None:
    """The limit has to leave room for at least one beat."""
    with pytest.raises(bridge.ConfigurationError, match="heartbeat"):
        install(
            Celery("x", set_as_current=False), "memory://", heartbeat=heartbeat, stalls_after=stalls_after
        )


@pytest.fixture
def eager() -> Iterator[tuple[Celery, Any]]:
    """An app that runs its tasks in this process, and the channel they publish on."""
    app = Celery("eager", set_as_current=False)
    app.conf.task_always_eager = True
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    channel = bridge.connect(url)
    yield app, channel
    channel.close()
    app.close()


def test_eager_tasks_speak_too(eager: tuple[Celery, Any]) -> None:
    """In eager mode the same events are published, under the task's own id."""
    app, channel = eager

    @app.task(name="work 1")
    def work() -> str:
        progress(1, total=2, message="half")
        log("hello")
        return "done"

    task = work.delay()
    whole = snapshot(channel, task.id)
    assert (whole["state"], whole["result"], whole["progress"]["message"]) == ("SUCCESS", "done", "half")
    assert [event["message"] for event in whole["events"]] == ["hello"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, GeneratorExit, SystemExit, gevent.Timeout])
def test_an_exception_that_ends_the_caller_ends_the_task(
    eager: tuple[Celery, Any], kind: type[BaseException]
) -> None:
    """An eager task fails with it too, and it passes through."""
    app, channel = eager

    @app.task(name=f"work 21 {kind.__name__}", time_limit=60)
    def work() -> None:
        raise kind

    with pytest.raises(kind):
        work.apply(task_id=kind.__name__)
    whole = snapshot(channel, kind.__name__)
    assert (whole["state"], whole["error"]["type"]) == ("FAILURE", kind.__name__)


def test_a_greenlet_that_is_killed_ends_its_task(eager: tuple[Celery, Any]) -> None:
    """By whom does not matter: it was terminated."""
    app, channel = eager

    @app.task(name="work 23")
    def work() -> None:
        raise gevent.GreenletExit

    with pytest.raises(gevent.GreenletExit):
        work.apply(task_id="killed")
    whole = snapshot(channel, "killed")
    assert (whole["state"], whole["reason"]) == ("REVOKED", "terminated")


def test_a_task_that_its_worker_stops_and_the_broker_delivers_again(eager: tuple[Celery, Any]) -> None:
    """Celery signals a retry without a reason; the task is queued if it is acknowledged late."""
    app, channel = eager

    @app.task(name="work 22", acks_late=True)
    def work() -> None:
        """It is only told of."""

    request = Context(id="stopped", retries=0, hostname="w1")
    task_retry.send(sender=work, request=request, einfo=None)
    installed(app).publisher.flush(5)  # type: ignore[union-attr]
    (state,) = transport_of(channel).states(bridge.task_topic("stopped"))
    whole = events.snapshot(state, "stopped")
    assert (whole["state"], whole["reason"]) == ("PENDING", "requeued")
    transport_of(channel).publish(events.make("state", "stopped", state="STARTED", redelivered=True))
    (state,) = transport_of(channel).states(bridge.task_topic("stopped"))
    assert events.snapshot(state, "stopped")["state"] == "STARTED"


def test_a_task_called_by_a_task_speaks_for_its_caller(eager: tuple[Celery, Any]) -> None:
    """A task called as a function within a task publishes under the id of the one that runs."""
    app, channel = eager

    @app.task(name="work 2")
    def inner() -> None:
        log("inner")

    @app.task(name="work 3")
    def outer() -> None:
        inner()
        log("outer")

    whole = snapshot(channel, outer.delay().id)
    assert [event["message"] for event in whole["events"]] == ["inner", "outer"]


def test_a_result_too_large_to_send_is_told_in_words(eager: tuple[Celery, Any]) -> None:
    """A result over max_payload does not keep the end from being told: it is cut with a mark."""
    app, channel = eager

    @app.task(name="work 4")
    def work() -> str:
        return "x" * 2_000_000

    whole = snapshot(channel, work.delay().id)
    assert whole["state"] == "SUCCESS"
    assert "cut" in whole["result"]
    assert len(whole["result"]) < 11_000


@pytest.mark.parametrize("name", AWKWARD)
def test_no_value_makes_a_helper_fail_its_task(eager: tuple[Celery, Any], name: str) -> None:
    """Whatever a task publishes or logs, it goes on, and viewers get an event for it."""
    app, channel = eager
    value = AWKWARD[name]

    @app.task(name=f"work 16 {name}")
    def work() -> None:
        publish("value", value)
        publish("values", {"in": [value], "plain": 1})
        log(value)
        progress(1, total=2, message=value)
        next(iter(track([1], message=value)))

    whole = snapshot(channel, work.delay().id)
    assert whole["state"] == "SUCCESS"
    assert [event["type"] for event in whole["events"]] == ["value", "values", "log"]
    assert whole["events"][1]["data"]["plain"] == 1
    assert isinstance(whole["progress"]["message"], str)


def test_lone_surrogates_are_replaced(eager: tuple[Celery, Any]) -> None:
    """Such as a file name has that is no UTF-8: in the name of a step, a message, a type, a key."""
    app, channel = eager

    @app.task(name="work 17 \udcff")
    def work() -> None:
        with step("caf\udce9.csv"):
            log("\ud800")
            publish("type\ud800", {"\ud800": "\udfff"})

    whole = snapshot(channel, work.apply(task_id="id \udcff").id)
    assert whole["name"] == "work 17 \ufffd"
    assert whole["steps"] == [{"name": "caf\ufffd.csv", "status": "succeeded"}]
    assert [(event["type"], event.get("message", event.get("data"))) for event in whole["events"][1:3]] == [
        ("log", "\ufffd"),
        ("type\ufffd", {"\ufffd": "\ufffd"}),
    ]


def test_a_process_that_can_start_no_thread_runs_its_tasks(
    eager: tuple[Celery, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be published, for whatever reason, is logged once in a task; the task goes on."""
    app, _ = eager

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    @app.task(name="work 18")
    def work() -> str:
        for number in range(10):
            publish("number", number)
            log("hello")
            progress(number)
        with step("parse"):
            return "done"

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with caplog.at_level(logging.ERROR, "bridge.celery"):
        assert work.delay().get() == "done"
    assert len([record for record in caplog.records if record.name == "bridge.celery"]) == 1


@pytest.mark.parametrize("max_payload", [1_000_000, 20_000, 3_000, 1_000])
def test_an_event_above_max_payload_is_cut(max_payload: int) -> None:
    """However small the payload may be, no event is missing and no call raises; what is cut says so."""
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

    whole = snapshot(channel, work.delay().id)
    assert [event["type"] for event in whole["events"]] == ["list", "text", "log"]
    assert all("characters cut)" in event.get("data", event.get("message")) for event in whole["events"])
    assert whole["error"]["type"] == "ValueError"
    assert "characters cut)" in whole["error"]["message"]
    channel.close()
    app.close()


def test_an_event_that_is_too_large_even_when_cut_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in a process, with its type, its task and what to do; the task goes on."""
    monkeypatch.setattr("bridge.celery.installation._too_large", threading.Event())
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


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: publish("a\nb"), "line break"),
        (lambda: publish("state"), "state"),
        (lambda: publish(""), "1 to 100"),
        (lambda: progress("1"), "current"),  # type: ignore[arg-type]
        (lambda: progress(float("nan")), "current"),
        (lambda: progress(1, total=float("inf")), "total"),
        (lambda: progress(10**400), "current"),
        (lambda: track([1], total="many"), "total"),  # type: ignore[arg-type]
        (lambda: step(""), "name"),
        (lambda: step("a\nb"), "name"),
        (lambda: step("a", weight=-1), "weight"),
        (lambda: step(Awkward()), "name"),  # type: ignore[arg-type]
        (lambda: publish(Awkward()), "event type"),  # type: ignore[arg-type]
        (lambda: progress(Awkward()), "current"),  # type: ignore[arg-type]
        (lambda: log("x", level=Awkward()), "level"),  # type: ignore[arg-type]
        (lambda: step("a", weight=float("nan")), "weight"),
        (lambda: log("x", level="loud"), "level"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(call: Any, says: str) -> None:
    """What could not be published is a ValueError where it was said, inside a task or out of one."""
    with pytest.raises(ValueError, match=says):
        call()


def test_outside_a_task_the_helpers_do_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Called directly, outside any task, they say at debug level that there is nothing to publish."""
    with caplog.at_level(logging.DEBUG, "bridge.celery"):
        progress(1)
        log("hello")
        publish("preview", {})
        assert list(track([1, 2])) == [1, 2]
        with step("parse"):
            pass
    assert len(caplog.records) == 5


def test_tasks_of_other_apps_are_left_alone(
    eager: tuple[Celery, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """A task of an app without the bridge runs as ever and publishes nothing."""
    _, channel = eager
    other = Celery("other", set_as_current=False)
    other.conf.task_always_eager = True

    @other.task(name="work 5")
    def work() -> str:
        log("hello")
        return "done"

    task = work.delay()
    assert task.get() == "done"
    assert transport_of(channel).states(bridge.task_topic(task.id)) == []


def test_install_refuses_what_it_cannot_use() -> None:
    """A wrong URL or something that is no Celery app is refused when the app is made."""
    with pytest.raises(bridge.ConfigurationError, match="kafka"):
        install(Celery("x", set_as_current=False), "kafka://localhost")
    with pytest.raises(bridge.ConfigurationError, match="str"):
        install("app", f"redis+pubsub://127.0.0.1:{free_port()}")  # type: ignore[arg-type]


def test_installing_twice_publishes_once(eager: tuple[Celery, Any]) -> None:
    """A second install replaces the first: each event is published once, on the second channel."""
    app, first = eager
    url = f"memory://{uuid.uuid4().hex}"
    install(app, url)
    second: Any = bridge.connect(url)

    @app.task(name="work 6")
    def work() -> None:
        log("hello")

    task = work.delay()
    assert len(snapshot(second, task.id)["events"]) == 1
    assert first.states(bridge.task_topic(task.id)) == []
    second.close()
