"""Litestar's channels: how soon another process has a message, and how fast it takes what has piled up."""

import asyncio
import json
import os
import signal
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from litestar.channels.backends.base import ChannelsBackend

import bridge
from benchmarks.common import Column, Question, pick, prepare, report, rounds
from benchmarks.servers import ROOT, has_scheme, pin
from bridge.litestar import BridgeChannelsBackend
from tests.servers import Postgres, Valkey

LATENCIES = pick(200, 50)
PILE = pick(2000, 300)
PAUSE = 0.01
PATIENCE = pick(20.0, 10.0)
"""Seconds that taking the pile may last."""
SETTLE = 1.0
"""Seconds from subscribe to the first message: some backends do not listen yet when it returns."""
CHANNEL = "news"
FILLING = b"x" * 100

QUESTION = Question(
    "litestar",
    "Litestar's channels, messages of about 120 bytes",
    (
        Column("p50_ms", "publish to receive, p50 ms", ".2f", plot=True, log=True),
        Column("p99_ms", "p99 ms", ".2f"),
        Column("publish_rate", "published/s, 20 at once"),
        Column("drain_rate", "taken/s", plot=True),
        Column("lost", "lost"),
    ),
    f"Two processes, each with a backend of its own. First {LATENCIES} messages, one "
    f"each {PAUSE * 1000:.0f} ms. Then the receiver is stopped while {PILE:,} messages are published, and "
    f"timed from when it goes on; what has not come {PATIENCE:.0f} s after the first counts as lost. "
    "memory:// has one process, which is timed from the first publish on. SQLSpec's queue modes give a "
    "message to one of several readers only; here there is one.",
)

Opened = AbstractAsyncContextManager[ChannelsBackend]


@dataclass(frozen=True)
class Subject:
    """A backend to measure: the server it needs, and how it is opened on that server's address."""

    name: str
    server: str
    open: Callable[[str], Opened]


@asynccontextmanager
async def ours(address: str) -> AsyncIterator[ChannelsBackend]:
    with bridge.connect(address) as channel:
        yield BridgeChannelsBackend(channel)


@asynccontextmanager
async def litestar_redis(kind: str, address: str) -> AsyncIterator[ChannelsBackend]:
    from litestar.channels.backends.redis import RedisChannelsPubSubBackend, RedisChannelsStreamBackend
    from redis.asyncio import Redis

    async with Redis.from_url(address) as client:
        if kind == "pubsub":
            yield RedisChannelsPubSubBackend(redis=client)
        else:
            yield RedisChannelsStreamBackend(history=10_000, redis=client)


@asynccontextmanager
async def litestar_postgres(kind: str, address: str) -> AsyncIterator[ChannelsBackend]:
    if kind == "asyncpg":
        from litestar.channels.backends.asyncpg import AsyncPgChannelsBackend

        yield AsyncPgChannelsBackend(address)
    else:
        from litestar.channels.backends.psycopg import PsycoPgChannelsBackend

        yield PsycoPgChannelsBackend(address)


@asynccontextmanager
async def sqlspec(mode: str, address: str) -> AsyncIterator[ChannelsBackend]:
    """SQLSpec's backend for Litestar, in one mode of its event channels, as its documentation sets it up."""
    from sqlspec.adapters.aiosqlite import AiosqliteConfig
    from sqlspec.adapters.aiosqlite.events.store import AiosqliteEventQueueStore
    from sqlspec.adapters.asyncpg import AsyncpgConfig
    from sqlspec.adapters.asyncpg.events.store import AsyncpgEventQueueStore
    from sqlspec.extensions.events import AsyncEventChannel
    from sqlspec.extensions.litestar.channels import SQLSpecChannelsBackend

    # SQLSpec declares a union of the settings of each extension.
    extension: dict[str, Any] = {"events": {"backend": mode}}
    config: Any
    store: Any
    if address.startswith("postgresql"):
        config = AsyncpgConfig(connection_config={"dsn": address}, extension_config=extension)
        store = AsyncpgEventQueueStore(config)
    else:
        config = AiosqliteConfig(connection_config={"database": address}, extension_config=extension)
        store = AiosqliteEventQueueStore(config)
    async with config.provide_session() as driver:
        for statement in store.create_statements():
            await driver.execute_script(statement)
        await driver.commit()
    try:
        yield SQLSpecChannelsBackend(AsyncEventChannel(config))
    finally:
        await config.close_pool()


def subjects() -> list[Subject]:
    listed = [
        Subject(f"bridge, {scheme}://", server, ours)
        for scheme, server in (
            ("memory", "memory"),
            ("redis", "redis"),
            ("redis+pubsub", "redis+pubsub"),
            ("sqlite", "file"),
            ("postgresql", "postgresql"),
        )
        if has_scheme(scheme)
    ]
    measured = (
        ("Litestar, Redis {}", "redis", litestar_redis, ("pubsub", "stream")),
        ("Litestar, {}", "postgresql", litestar_postgres, ("asyncpg", "psycopg")),
        ("SQLSpec, asyncpg, {}", "postgresql", sqlspec, ("notify", "notify_queue", "poll_queue")),
        ("SQLSpec, aiosqlite, {}", "path", sqlspec, ("poll_queue",)),
    )
    listed += [
        Subject(name.format(kind), server, partial(open_backend, kind))
        for name, server, open_backend, kinds in measured
        for kind in kinds
    ]
    chosen = [name for name in os.environ.get("PEERS", "").split(",") if name]
    return [subject for subject in listed if not chosen or any(name in subject.name for name in chosen)]


@asynccontextmanager
async def running(opened: Opened) -> AsyncIterator[ChannelsBackend]:
    async with opened as backend:
        await backend.on_startup()
        yield backend
        await backend.on_shutdown()


async def receive(backend: ChannelsBackend, tell: Callable[[Any], None]) -> None:
    """Tell that it is subscribed, then what each message took, then how many of the pile came by when."""
    await backend.subscribe([CHANNEL])
    stream = backend.stream_events()
    await asyncio.sleep(SETTLE)
    tell("ready")
    taken = []
    for _ in range(LATENCIES):
        _, data = await anext(stream)
        taken.append((time.monotonic_ns() - int(data.split()[0])) / 1e6)
    tell(taken)
    await anext(stream)
    count, last = 1, time.monotonic_ns()
    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            while count < PILE:
                await anext(stream)
                count, last = count + 1, time.monotonic_ns()
    tell([count, last])


async def pile_up(backend: ChannelsBackend) -> float:
    """Publish the pile, 20 calls at once; return messages a second."""
    began = time.monotonic()
    numbers = iter(range(PILE))

    async def publish() -> None:
        for _ in numbers:
            await backend.publish(stamped(), [CHANNEL])

    await asyncio.gather(*(publish() for _ in range(20)))
    return PILE / (time.monotonic() - began)


def stamped() -> bytes:
    return b"%d %s" % (time.monotonic_ns(), FILLING)


def figures(taken: list[float], rate: float, resumed: int, count: int, last: int) -> dict[str, float]:
    taken = sorted(taken)
    return {
        "p50_ms": taken[len(taken) // 2],
        "p99_ms": taken[int(len(taken) * 0.99)],
        "publish_rate": rate,
        "drain_rate": count / ((last - resumed) / 1e9) if count else 0.0,
        "lost": PILE - count,
    }


async def between_processes(subject: Subject, address: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.litestar", subject.name, address]
    pipe = asyncio.subprocess.PIPE
    reader = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=pipe, limit=2**24)
    assert reader.stdout is not None
    try:
        async with running(subject.open(address)) as backend:
            await said(reader.stdout)
            for _ in range(LATENCIES):
                await backend.publish(stamped(), [CHANNEL])
                await asyncio.sleep(PAUSE)
            taken = await said(reader.stdout)
            reader.send_signal(signal.SIGSTOP)
            rate = await pile_up(backend)
            resumed = time.monotonic_ns()
            reader.send_signal(signal.SIGCONT)
            count, last = await said(reader.stdout)
            return figures(taken, rate, resumed, count, last)
    finally:
        reader.kill()
        await reader.wait()


async def said(stream: asyncio.StreamReader) -> Any:
    return json.loads(await asyncio.wait_for(stream.readline(), 4 * PATIENCE))


async def within_one(subject: Subject, address: str) -> dict[str, float]:
    told: asyncio.Queue[Any] = asyncio.Queue()
    async with running(subject.open(address)) as backend:
        reader = asyncio.create_task(receive(backend, told.put_nowait))
        await told.get()
        for _ in range(LATENCIES):
            await backend.publish(stamped(), [CHANNEL])
            await asyncio.sleep(PAUSE)
        taken = await told.get()
        resumed = time.monotonic_ns()
        rate = await pile_up(backend)
        count, last = await told.get()
        await reader
        return figures(taken, rate, resumed, count, last)


def measure(subject: Subject) -> dict[str, float]:
    pin(first=False)
    if subject.server == "memory":
        return asyncio.run(within_one(subject, f"memory://{uuid.uuid4().hex}"))
    server: Valkey | Postgres = Postgres() if subject.server == "postgresql" else Valkey()
    with server:
        file = Path(server.directory) / "messages.db"
        match subject.server:
            case "file":
                address = f"sqlite:///{file}"
            case "path":
                address = str(file)
            case scheme:
                address = server.url(scheme) if isinstance(server, Valkey) else server.url()
        return asyncio.run(between_processes(subject, address))


async def read(subject: Subject, address: str) -> None:
    """Be the receiver."""
    async with running(subject.open(address)) as backend:
        await receive(backend, lambda thing: print(json.dumps(thing), flush=True))


def main() -> None:
    prepare()
    if len(sys.argv) == 3:
        pin(first=True)
        (subject,) = [subject for subject in subjects() if subject.name == sys.argv[1]]
        asyncio.run(read(subject, sys.argv[2]))
        return
    report(QUESTION, rounds({subject.name: partial(measure, subject) for subject in subjects()}))


if __name__ == "__main__":
    main()
