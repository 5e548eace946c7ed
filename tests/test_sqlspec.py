"""`bridge.sqlspec`: SQLSpec's event channels as a carrier, on a real PostgreSQL."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlspec.adapters.asyncpg import AsyncpgConfig
from sqlspec.adapters.psycopg import PsycopgSyncConfig
from sqlspec.adapters.sqlite import SqliteConfig
from sqlspec.extensions.events import AsyncEventChannel, SyncEventChannel

import bridge
import bridge.sqlspec
from bridge import aio
from tests.servers import Postgres, eventually

SECONDS = 60


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


def sync_events(postgres: Postgres, mode: str = "notify") -> SyncEventChannel:
    """An event channel as its users make it, with a pool that does not wait long."""
    pool = {"conninfo": postgres.url(), "min_size": 1, "max_size": 4, "timeout": 2.0}
    return SyncEventChannel(
        PsycopgSyncConfig(connection_config=pool, extension_config={"events": {"backend": mode}})
    )


@pytest.fixture
def events(postgres: Postgres) -> Iterator[SyncEventChannel]:
    channel = sync_events(postgres)
    yield channel
    channel.shutdown()
    channel._config.close_pool()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in an event loop of its own, with a deadline."""
    return asyncio.run(asyncio.wait_for(work, SECONDS))


def test_every_instance_gets_every_message(postgres: Postgres, events: SyncEventChannel) -> None:
    """Two instances each get 100 of 100, any bytes, in order; another topic and namespace get none."""
    elsewhere = sync_events(postgres)
    with (
        bridge.sqlspec.connect(events) as one,
        bridge.sqlspec.connect(elsewhere) as other,
        bridge.sqlspec.connect(events, namespace="apart") as apart,
    ):
        sent = [bytes(range(number, number + 100)) for number in range(100)]
        with (
            one.topic("orders").subscribe() as first,
            other.topic("orders").subscribe() as second,
            other.topic("語" * 255).subscribe() as third,
            apart.topic("orders").subscribe() as fourth,
        ):
            for payload in sent:
                assert one.topic("orders").publish(payload) is None
            other.topic("語" * 255).publish(b"x" * 4096)
            apart.topic("orders").publish(b"end")
            assert [first.receive(timeout=10) for _ in range(100)] == sent
            assert [second.receive(timeout=10) for _ in range(100)] == sent
            assert third.receive(timeout=10) == b"x" * 4096
            assert fourth.receive(timeout=10) == b"end"
    elsewhere.shutdown()
    elsewhere._config.close_pool()


def test_nothing_published_after_subscribe_is_lost(events: SyncEventChannel) -> None:
    """Of 50 messages, each published right after a subscribe to a new topic returned, none is missing."""
    with bridge.sqlspec.connect(events) as channel:
        for number in range(50):
            topic = channel.topic(f"topic {number}")
            with topic.subscribe() as subscription:
                topic.publish(b"%d" % number)
                assert subscription.receive(timeout=5) == b"%d" % number


def test_subscriptions_cost_no_thread_each(events: SyncEventChannel) -> None:
    """100 subscriptions of 100 topics take the hub's thread, the consumer's and SQLSpec's own."""
    with bridge.sqlspec.connect(events) as channel:
        channel.topic("orders").publish(b"opens the pool")
        before = threading.active_count()
        opened = [channel.topic(f"topic {number}").subscribe() for number in range(100)]
        assert threading.active_count() <= before + 3
        for subscription in opened:
            subscription.close()
    eventually(lambda: "bridge-sqlspec" not in {thread.name for thread in threading.enumerate()})


def test_replay_is_refused(events: SyncEventChannel) -> None:
    """It is live only: cursors, durable readers and history are ConfigurationErrors."""
    with bridge.sqlspec.connect(events) as channel:
        topic = channel.topic("orders")
        with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
            topic.subscribe(after=bridge.BEGINNING)
        with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
            topic.history()


def test_a_lost_connection_is_a_gap(caplog: pytest.LogCaptureFixture) -> None:
    """After the server was killed and started again, readers get a Gap and then what is published."""
    caplog.set_level(logging.CRITICAL, "psycopg.pool")
    with Postgres() as server:
        events = sync_events(server)
        with (
            bridge.sqlspec.connect(events) as channel,
            channel.topic("orders").subscribe() as subscription,
        ):
            channel.topic("orders").publish(b"before")
            assert subscription.receive(timeout=10) == b"before"
            server.kill()
            with pytest.raises(bridge.PublishError):
                channel.topic("orders").publish(b"refused")
            server.start()
            assert isinstance(subscription.receive(timeout=30), bridge.Gap)
            eventually(lambda: published(channel), 30)
            assert subscription.receive(timeout=10) == b"after"
        events.shutdown()
        events._config.close_pool()


def published(channel: bridge.BroadcastChannel) -> bool:
    with suppress(bridge.PublishError):
        channel.topic("orders").publish(b"after")
        return True
    return False


def test_an_asynchronous_event_channel_works_in_its_loop(postgres: Postgres) -> None:
    """With asyncpg, coroutines subscribe and publish; what would block the loop is refused."""

    async def work() -> None:
        config = AsyncpgConfig(connection_config={"dsn": postgres.url()})
        events = AsyncEventChannel(config)
        channel = bridge.sqlspec.connect(events)
        topic = channel.topic("orders")
        async with aio.subscribe(topic) as messages:
            for number in range(20):
                await aio.publish(topic, b"%d" % number)
            with pytest.raises(bridge.PublishError, match="aio"):
                topic.publish(b"blocks")
            assert [await messages.receive(timeout=10) for _ in range(20)] == [b"%d" % n for n in range(20)]
        await asyncio.to_thread(channel.close)
        await events.shutdown()
        await config.close_pool()

    run(work())


def test_modes_that_share_messages_out_are_refused(postgres: Postgres, tmp_path: Path) -> None:
    """A table queue, alone or woken by NOTIFY, is a ConfigurationError that says why."""
    database = {"database": str(tmp_path / "events.db")}
    refused = [
        SyncEventChannel(SqliteConfig(connection_config=database)),
        sync_events(postgres, "poll_queue"),
        sync_events(postgres, "notify_queue"),
    ]
    for channel in refused:
        with pytest.raises(bridge.ConfigurationError, match=r"queue'.*one consumer.*each getting all"):
            bridge.sqlspec.connect(channel)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"max_payload": 5000}, "4096"), ({"timeout": 0}, "timeout"), ({"namespace": ""}, "namespace")],
)
def test_a_bad_option_is_refused(events: SyncEventChannel, options: dict[str, Any], says: str) -> None:
    """An option that will not do is a ConfigurationError that names it."""
    with pytest.raises(bridge.ConfigurationError, match=says):
        bridge.sqlspec.connect(events, **options)


def test_what_is_no_fitting_event_channel_is_refused(postgres: Postgres) -> None:
    """A URL is not an event channel, and an asynchronous one needs its event loop."""
    with pytest.raises(bridge.ConfigurationError, match="str"):
        bridge.sqlspec.connect("postgresql://localhost")  # type: ignore[arg-type]
    events = AsyncEventChannel(AsyncpgConfig(connection_config={"dsn": postgres.url()}))
    with pytest.raises(bridge.ConfigurationError, match="event loop"):
        bridge.sqlspec.connect(events)
