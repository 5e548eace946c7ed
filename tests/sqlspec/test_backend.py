"""`bridge.sqlspec`: SQLSpec's event channels as a carrier, on a real PostgreSQL."""

import asyncio
import logging
import threading
from collections.abc import Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.channels import ChannelsPlugin
from litestar.testing import TestClient
from sqlspec.adapters.asyncpg import AsyncpgConfig
from sqlspec.adapters.psycopg import PsycopgSyncConfig
from sqlspec.adapters.sqlite import SqliteConfig
from sqlspec.extensions.events import AsyncEventChannel, SyncEventChannel

import bridge
import bridge.sqlspec
from bridge import aio
from bridge.channel.transport import transport_of
from bridge.litestar import BridgeChannelsBackend
from bridge.model.publication import Publication
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


def test_the_type_of_a_message_arrives(events: SyncEventChannel) -> None:
    """The type of an event comes beside its payload; other messages have none."""
    with bridge.sqlspec.connect(events) as channel, channel.topic("orders").subscribe() as subscription:
        for kind in ("log", None, "größe"):
            transport_of(channel).publish(Publication("orders", b"one", kind))
            message = subscription.receive(timeout=10)
            assert message == b"one"
            assert message.type == kind


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


def test_what_is_no_event_channel_is_refused() -> None:
    """A URL is not an event channel."""
    with pytest.raises(bridge.ConfigurationError, match="str"):
        bridge.sqlspec.connect("postgresql://localhost")  # type: ignore[arg-type]  # wrong on purpose


@pytest.fixture
def async_events(postgres: Postgres) -> AsyncEventChannel:
    """An asynchronous event channel as a module has it: made outside of any event loop, never closed."""
    return AsyncEventChannel(AsyncpgConfig(connection_config={"dsn": postgres.url()}))


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("owner_closes", [True, False])
def test_one_event_loop_after_another_may_use_an_asynchronous_event_channel(
    async_events: AsyncEventChannel, owner_closes: bool
) -> None:
    """Connected outside of any loop it serves four in turn, whether or not each closes the pool."""
    channel = bridge.sqlspec.connect(async_events, timeout=10)
    topic = channel.topic("orders")

    async def work(number: int) -> None:
        if number == 3:  # the loop publishes only
            await aio.publish(topic, b"alone")
            return
        async with aio.subscribe(topic) as messages:
            for count in range(10):
                await aio.publish(topic, b"%d %d" % (number, count))
            assert [await messages.receive(timeout=10) for _ in range(10)] == [
                b"%d %d" % (number, count) for count in range(10)
            ]
            await asyncio.to_thread(topic.publish, b"of a thread")
            assert await messages.receive(timeout=10) == b"of a thread"
        if owner_closes:
            await async_events.shutdown()
            await async_events._config.close_pool()

    for number in (1, 2, 3, 4):
        run(work(number))
    channel.close()


def test_a_subscription_goes_on_in_the_loop_that_is_left(async_events: AsyncEventChannel) -> None:
    """When the loop that used it first ends, one that used it too takes over; its reader gets a Gap."""
    channel = bridge.sqlspec.connect(async_events, timeout=10)
    topic = channel.topic("orders")
    ends = threading.Event()

    async def first(started: threading.Event) -> None:
        async with aio.subscribe(topic):
            started.set()
            await asyncio.to_thread(ends.wait, SECONDS)

    async def work() -> None:
        started = threading.Event()
        other = threading.Thread(target=run, args=[first(started)])
        other.start()
        await asyncio.to_thread(started.wait, SECONDS)
        async with aio.subscribe(topic) as messages:
            await aio.publish(topic, b"one")
            assert await messages.receive(timeout=10) == b"one"
            ends.set()
            await asyncio.to_thread(other.join)
            assert isinstance(await messages.receive(timeout=30), bridge.Gap)
            await aio.publish(topic, b"two")
            assert await messages.receive(timeout=10) == b"two"

    run(work())
    channel.close()


def test_litestar_serves_one_test_client_after_another(async_events: AsyncEventChannel) -> None:
    """An application whose event channel is made at module level serves three TestClients in turn."""
    backend = BridgeChannelsBackend(bridge.sqlspec.connect(async_events, timeout=10))
    plugin = ChannelsPlugin(backend, channels=["news"], create_ws_route_handlers=True)
    app = Litestar(plugins=[plugin])
    for number in range(3):
        with TestClient(app) as client, client.websocket_connect("/news") as socket:
            client.blocking_portal.call(plugin.wait_published, f"{number}", "news")
            assert socket.receive_text(timeout=10) == f"{number}"


def test_without_an_event_loop_an_asynchronous_event_channel_says_so(
    async_events: AsyncEventChannel,
) -> None:
    """Used by a thread before any event loop has used it, it says what to do."""
    with bridge.sqlspec.connect(async_events, timeout=0.5) as channel:
        with pytest.raises(bridge.PublishError, match=r"no event loop.*bridge\.aio"):
            channel.topic("orders").publish(b"one")
        with pytest.raises(bridge.ConnectionLost, match=r"no event loop.*bridge\.aio"):
            channel.topic("orders").subscribe()
