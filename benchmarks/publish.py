"""What publishing costs, and how soon a reader has the message, beside bare redis-py."""

import itertools
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

import bridge
from benchmarks.common import ROUNDS, Column, Question, pick, prepare, report, say
from benchmarks.load import STAMP, payload
from benchmarks.servers import ROOT, has_scheme, pin
from bridge.channel.transport import transport_of
from bridge.tasks.changes import publication
from bridge.tasks.event_types import Progress
from tests.servers import Valkey

BLOCKS = pick(10, 3)
CALLS = pick(500, 200)
MESSAGES = pick(2000, 300)
RATE = 1000
TOPIC = "news"
TASK = "8f14e45f-ceea-467f-a3cb-1d2c6f0b7a11"

COLUMNS = (
    Column("us", "µs a call", ".1f", plot=True),
    Column("p99_us", "p99 µs", ".1f"),
    Column("to_xadd", "times XADD", ".2f"),
    Column("to_xadd_maxlen", "times XADD MAXLEN ~", ".2f"),
    Column("to_publish", "times PUBLISH", ".2f"),
)
NOTE = "One thread, one call at a time, no readers. The calls take turns, a block of each."
APART = Question("publish", "Publishing 122 bytes, Valkey on another core", COLUMNS, NOTE)
TOGETHER = Question("publish_together", "Publishing 122 bytes, Valkey on the same core", COLUMNS, NOTE)
LATENCY = Question(
    "latency",
    f"From publish to a reader in another process, {RATE:,} messages a second",
    (
        Column("p50_us", "p50 µs", ".0f", plot=True),
        Column("p99_us", "p99 µs", ".0f", plot=True),
        Column("to_listen", "p50, times bare listen()", ".2f"),
    ),
)
XADD, MAXLEN, PUBLISH = "redis-py XADD", "redis-py XADD MAXLEN ~", "redis-py PUBLISH"
LISTEN = "redis-py PUBLISH, listen()"
SCHEMES = ("redis", "redis+pubsub")

Call = Callable[[int], object]


@contextmanager
def calls(valkey: Valkey) -> Iterator[dict[str, Call]]:
    """Yield what is measured: each call publishes the message of a number."""
    client = redis.Redis(port=valkey.port)
    found: dict[str, Any] = {  # mypy infers no type for a lambda with a default
        XADD: lambda n: client.xadd("bare", {"p": payload(n)}),
        MAXLEN: lambda n: client.xadd("bare-maxlen", {"p": payload(n)}, maxlen=10_000, approximate=True),
        PUBLISH: lambda n: client.publish("bare", payload(n)),
    }
    with ExitStack() as stack:
        stack.callback(client.close)
        for scheme in filter(has_scheme, SCHEMES):
            channel = stack.enter_context(bridge.connect(valkey.url(scheme)))
            producer = channel.topic(TOPIC).as_producer()
            found[f"bridge, {scheme}://"] = lambda n, producer=producer: producer.publish(payload(n))
            found[f"bridge, {scheme}://, task event with snapshot"] = lambda n, channel=channel: transport_of(
                channel
            ).publish(
                publication(Progress(TASK, current=n, total=1_000_000, percent=12.34)),
            )
        yield found


def cost_round(measured: Mapping[str, Call], numbers: Iterator[int]) -> dict[str, dict[str, float]]:
    """Time every call, a block of each in turn."""
    taken: dict[str, list[int]] = {name: [] for name in measured}
    for _ in range(BLOCKS):
        for name, call in measured.items():
            for _ in range(CALLS):
                before = time.perf_counter_ns()
                call(next(numbers))
                taken[name].append(time.perf_counter_ns() - before)
    result = {
        name: {"us": statistics.median(times) / 1000, "p99_us": sorted(times)[int(0.99 * len(times))] / 1000}
        for name, times in taken.items()
    }
    for figures in result.values():
        for key, base in (("to_xadd", XADD), ("to_xadd_maxlen", MAXLEN), ("to_publish", PUBLISH)):
            figures[key] = figures["us"] / result[base]["us"]
    return result


def start(apart: bool = True) -> Valkey:
    """Cursor Valkey; publisher and reader are on the first core. The distance decides what a call costs."""
    pin(first=not apart)
    valkey = Valkey().start()
    pin(first=True)
    return valkey


def costs(question: Question) -> None:
    valkey = start(apart=question is APART)
    found: dict[str, list[dict[str, float]]] = {}
    numbers = itertools.count(1)
    try:
        with calls(valkey) as measured:
            for call in measured.values():
                for _ in range(CALLS):
                    call(next(numbers))
            for number in range(ROUNDS):
                for name, figures in cost_round(measured, numbers).items():
                    found.setdefault(name, []).append(figures)
                say(f"round {number + 1} of {ROUNDS}")
    finally:
        valkey.stop()
    report(question, found)


def _bare(port: int, way: str) -> Iterator[bytes]:
    pubsub = redis.Redis(port=port).pubsub(ignore_subscribe_messages=way != "listen")
    pubsub.subscribe(TOPIC)
    if way == "listen":
        next(pubsub.listen())
        yield b""
        for message in pubsub.listen():
            yield message["data"]
    pubsub.get_message(timeout=5)
    yield b""
    while True:
        message = pubsub.get_message(timeout=1)
        if message:
            yield message["data"]


def _ours(url: str) -> Iterator[bytes]:
    with bridge.connect(url) as channel, channel.topic(TOPIC).as_subscriber().subscribe() as subscription:
        yield b""
        yield from subscription


def read(way: str, address: str) -> None:
    """Be the reader: say when it is ready, then the nanoseconds that each message took."""
    messages = _ours(address) if way == "bridge" else _bare(int(address), way)
    next(messages)
    print("ready", flush=True)
    taken = [
        time.monotonic_ns() - int(message[1 : 1 + STAMP]) for message in itertools.islice(messages, MESSAGES)
    ]
    print(json.dumps(taken), flush=True)


def latency(way: str, address: str, publish: Call) -> dict[str, float]:
    """Publish at a steady rate to one reader in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.publish", way, address]
    reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert reader.stdout is not None
    try:
        if reader.stdout.readline() != "ready\n":
            raise RuntimeError("the reader did not start")
        began = time.monotonic()
        for number in range(MESSAGES):
            time.sleep(max(0.0, began + number / RATE - time.monotonic()))
            publish(number)
        taken = sorted(json.loads(reader.stdout.readline()))
    finally:
        reader.kill()
        reader.communicate()
    return {"p50_us": taken[len(taken) // 2] / 1000, "p99_us": taken[int(0.99 * len(taken))] / 1000}


def latencies() -> None:
    valkey = start()
    found: dict[str, list[dict[str, float]]] = {}
    try:
        client = redis.Redis(port=valkey.port)
        subjects: dict[str, tuple[str, str, Any]] = {  # see `calls`
            LISTEN: ("listen", str(valkey.port), lambda n: client.publish(TOPIC, payload(n))),
            "redis-py PUBLISH, get_message()": (
                "get_message",
                str(valkey.port),
                lambda n: client.publish(TOPIC, payload(n)),
            ),
        }
        for scheme in filter(has_scheme, SCHEMES):
            url = valkey.url(scheme)
            producer = bridge.connect(url).topic(TOPIC).as_producer()
            subjects[f"bridge, {scheme}://"] = (
                "bridge",
                url,
                lambda n, producer=producer: producer.publish(payload(n)),
            )
        for number in range(ROUNDS):
            measured = {name: latency(*subject) for name, subject in subjects.items()}
            for name, figures in measured.items():
                figures["to_listen"] = figures["p50_us"] / measured[LISTEN]["p50_us"]
                found.setdefault(name, []).append(figures)
            say(f"round {number + 1} of {ROUNDS}")
    finally:
        valkey.stop()
    report(LATENCY, found)


def main() -> None:
    prepare()
    if len(sys.argv) == 3:
        read(sys.argv[1], sys.argv[2])
        return
    costs(APART)
    costs(TOGETHER)
    latencies()


if __name__ == "__main__":
    main()
