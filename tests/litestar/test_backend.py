"""`bridge.litestar`: a Litestar channels backend on every backend of the bridge."""

import asyncio
import itertools
import logging
import queue
import signal
import statistics
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, post
from litestar.channels import ChannelsPlugin
from litestar.testing import TestClient
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as connect_websocket

import bridge
from bridge.channel.transport import transport_of
from bridge.litestar import BridgeChannelsBackend
from bridge.litestar.names import topic_name
from tests.conftest import LIVE_ONLY, REPLAYING, Connect
from tests.markdown import block
from tests.processes import running
from tests.servers import Valkey, eventually, free_port

SECONDS = 60
ANY_NAMES = ["", "x" * 300, "y" * 300, "a\nb", "\0", "\ud800", "語" * 255, "a b:c*{d}?[e]", "news", "news.#"]

replaying = pytest.mark.parametrize("url", REPLAYING, indirect=True)
live_only = pytest.mark.parametrize("url", LIVE_ONLY, indirect=True)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in an event loop of its own, with a deadline."""
    return asyncio.run(asyncio.wait_for(work, SECONDS))


class Events:
    """What a started backend streams."""

    def __init__(self, backend: BridgeChannelsBackend) -> None:
        self.seen: list[tuple[str, bytes]] = []
        self._stream = backend.stream_events()

    async def next(self) -> tuple[str, bytes]:
        event = await asyncio.wait_for(anext(self._stream), 10)
        self.seen.append(event)
        return event

    async def until(self, data: bytes) -> list[tuple[str, bytes]]:
        """What comes before the first event with this data."""
        found = []
        while (event := await self.next())[1] != data:
            found.append(event)
        return found


@asynccontextmanager
async def started(
    channel: bridge.BroadcastChannel, **options: Any
) -> AsyncIterator[tuple[BridgeChannelsBackend, Events]]:
    backend = BridgeChannelsBackend(channel, **options)
    await backend.on_startup()
    try:
        yield backend, Events(backend)
    finally:
        await backend.on_shutdown()


async def until(look: Callable[[], Any]) -> None:
    """Wait in the loop until `look()` is true."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_nothing_published_after_subscribe_is_lost(channel: bridge.BroadcastChannel) -> None:
    """Of 100 messages, each published right after another channel was subscribed to, none is missing."""

    async def work() -> None:
        async with started(channel) as (backend, events):
            for number in range(100):
                name = f"channel {number}"
                await backend.subscribe([name])
                await backend.publish(b"%d" % number, [name])
                assert await events.next() == (name, b"%d" % number)

    run(work())


def test_every_instance_gets_every_message(connect: Connect) -> None:
    """Two applications on the same server each get 100 of 100, in order, whichever published them."""

    async def work() -> None:
        async with started(connect()) as (one, first), started(connect()) as (other, second):
            await one.subscribe(["news"])
            await other.subscribe(["news"])
            for number in range(100):
                await (one, other)[number % 2].publish(b"%d" % number, ["news"])
            expected = [("news", b"%d" % number) for number in range(100)]
            assert [await first.next() for _ in range(100)] == expected
            assert [await second.next() for _ in range(100)] == expected

    run(work())


def test_any_name_and_any_bytes_come_through_unchanged(connect: Connect) -> None:
    """Empty and long names, control characters and every byte arrive in another instance as they were."""
    data = bytes(range(256))

    async def work() -> None:
        async with started(connect()) as (one, events), started(connect()) as (other, _):
            await one.subscribe(ANY_NAMES)
            for name in ANY_NAMES:
                await other.publish(data + name.encode("utf-8", "surrogatepass"), [name])
            found = {await events.next() for _ in ANY_NAMES}
            assert found == {(name, data + name.encode("utf-8", "surrogatepass")) for name in ANY_NAMES}

    run(work())


def test_names_never_meet() -> None:
    """Each name has a topic of its own, the same in every process, also beside other prefixes."""
    names = [*ANY_NAMES, topic_name("litestar", ""), topic_name("litestar", "")[9:]]
    topics = [topic_name(prefix, name) for prefix in ("litestar", "litestar_x") for name in names]
    assert len(set(topics)) == len(topics)
    assert topic_name("litestar", "news") == "litestar.news"
    assert topic_name("litestar", "a\nb") == (
        "litestar#7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78"
    )


def test_one_publish_reaches_several_channels(channel: bridge.BroadcastChannel) -> None:
    """Data goes once to each of the channels named, though one is named twice."""

    async def work() -> None:
        async with started(channel) as (backend, events):
            await backend.subscribe(["a", "b", "c"])
            await backend.publish(b"one", ["a", "b", "a"])
            for name in ("a", "b", "c"):  # channels have no order among them
                await backend.publish(b"end", [name])
            received = [await events.next() for _ in range(5)]
            assert sorted(received) == [
                ("a", b"end"),
                ("a", b"one"),
                ("b", b"end"),
                ("b", b"one"),
                ("c", b"end"),
            ]
            assert [data for name, data in received if name != "c"].count(b"one") == 2

    run(work())


def test_unsubscribe_filters_at_once(channel: bridge.BroadcastChannel) -> None:
    """What was received of a channel but not streamed yet is not delivered after unsubscribe."""

    async def work() -> None:
        async with started(channel) as (backend, events):
            await backend.subscribe(["gone", "kept"])
            for _ in range(50):
                await backend.publish(b"one", ["gone"])
            await backend.publish(b"first", ["kept"])
            assert ("kept", b"first") not in await events.until(b"one")
            await backend.unsubscribe(["gone", "never"])
            await backend.publish(b"one", ["gone"])
            await backend.publish(b"end", ["kept"])
            assert await events.until(b"end") in ([], [("kept", b"first")])
            await backend.subscribe(["gone"])
            await backend.publish(b"again", ["gone"])
            assert await events.next() == ("gone", b"again")

    run(work())


@replaying
def test_history_of_a_channel_that_nobody_reads(connect: Connect) -> None:
    """History is there without a reader, limited, and exactly what `history` and retention leave of it."""

    async def work() -> None:
        backend = BridgeChannelsBackend(connect(retention_messages=20), history=10)
        everything = BridgeChannelsBackend(connect(retention_messages=20))
        for number in range(25):
            await backend.publish(b"%d" % number, ["news", ""])
        for name in ("news", ""):
            assert await backend.get_history(name) == [b"%d" % number for number in range(15, 25)]
            assert await backend.get_history(name, 3) == [b"22", b"23", b"24"]
            assert await backend.get_history(name, 50) == [b"%d" % number for number in range(15, 25)]
            assert await backend.get_history(name, 0) == []
            assert await everything.get_history(name) == [b"%d" % number for number in range(5, 25)]
        assert await backend.get_history("other") == []

    run(work())


@live_only
def test_history_that_cannot_be_is_refused(
    channel: bridge.BroadcastChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no messages are kept, `history` is refused, and get_history says once that it has none."""
    with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
        BridgeChannelsBackend(channel, history=10)

    async def work() -> None:
        backend = BridgeChannelsBackend(channel)
        assert await backend.get_history("news", 5) == []
        assert await backend.get_history("news") == []

    run(work())
    assert [record.message for record in caplog.records] == [
        "there is no history: the bridge channel's backend keeps no messages"
    ]


def test_it_starts_and_stops_again_in_any_loop(channel: bridge.BroadcastChannel) -> None:
    """One object serves three event loops in turn, the second of which never stopped it."""
    backend = BridgeChannelsBackend(channel)

    async def serve(stop: bool) -> None:
        await backend.on_startup()
        await backend.subscribe(["news"])
        await backend.publish(b"one", ["news"])
        stream = backend.stream_events()
        assert await asyncio.wait_for(anext(stream), 10) == ("news", b"one")
        if stop:
            await backend.on_shutdown()
            await backend.on_shutdown()
            with pytest.raises(StopAsyncIteration):
                await asyncio.wait_for(anext(stream), 10)
            with pytest.raises(RuntimeError, match="on_startup"):
                backend.stream_events()

    for stop in (True, False, True):
        run(serve(stop))
    assert transport_of(channel).hub.stats()["subscriptions"] == 0


def test_a_subscription_made_before_the_start_is_kept(channel: bridge.BroadcastChannel) -> None:
    """What is published to it before and after the start arrives; a second start changes nothing."""

    async def work() -> None:
        backend = BridgeChannelsBackend(channel)
        await backend.unsubscribe(["never"])
        await backend.subscribe(["early", "gone"])
        await backend.subscribe(["early"])
        await backend.publish(b"before", ["early", "gone"])
        await backend.unsubscribe(["gone"])
        await backend.on_startup()
        events = Events(backend)
        await backend.publish(b"after", ["early", "gone"])
        assert [await events.next() for _ in range(2)] == [("early", b"before"), ("early", b"after")]
        await backend.subscribe(["late"])
        await backend.on_startup()
        await backend.publish(b"end", ["late"])
        assert await events.next() == ("late", b"end")
        await backend.on_shutdown()
        await backend.subscribe(["next"])
        await backend.publish(b"of the next run", ["next", "early"])
        async with asyncio.timeout(10):
            await backend.on_startup()
            assert await Events(backend).next() == ("next", b"of the next run")
        await backend.on_shutdown()
        assert transport_of(channel).hub.stats()["subscriptions"] == 0

    run(work())


def test_a_subscription_may_be_made_in_another_event_loop(channel: bridge.BroadcastChannel) -> None:
    """Channels subscribed to in a loop that has ended, and in another thread's, reach the stream."""
    backend = BridgeChannelsBackend(channel)
    run(backend.subscribe(["early"]))
    run(backend.publish(b"one", ["early"]))

    async def work() -> None:
        await backend.on_startup()
        events = Events(backend)
        assert await events.next() == ("early", b"one")
        await asyncio.to_thread(run, backend.subscribe(["aside", "early"]))
        await asyncio.to_thread(run, backend.publish(b"two", ["aside"]))
        assert await events.next() == ("aside", b"two")
        await backend.on_shutdown()

    run(work())


@pytest.mark.parametrize("url", ["memory", "redis"], indirect=True)
def test_an_application_subscribes_in_its_own_lifespan(channel: bridge.BroadcastChannel) -> None:
    """An application that subscribes before the plugin has started starts, and hears what is published."""
    heard: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    plugin = ChannelsPlugin(BridgeChannelsBackend(channel), channels=["news"])

    async def hear(event: bytes) -> None:
        heard.put(event)

    @asynccontextmanager
    async def listening(app: Litestar) -> AsyncIterator[None]:
        async with plugin.start_subscription("news") as subscriber, subscriber.run_in_background(hear):
            yield

    @post("/")
    async def publish() -> None:
        await plugin.wait_published(b"one", "news")

    for _ in range(2):
        with TestClient(Litestar([publish], lifespan=[listening], plugins=[plugin])) as client:
            assert client.post("/").status_code == 201
            assert heard.get(timeout=10) == b"one"


def test_a_message_published_while_a_subscribe_is_under_way_arrives(channel: bridge.BroadcastChannel) -> None:
    """Of 50 subscribes, each with two messages published before it has returned, none misses one."""

    async def work() -> None:
        async with started(channel) as (backend, events):
            for number in range(50):
                name = f"channel {number}"
                subscribing = asyncio.create_task(backend.subscribe([name]))
                await asyncio.sleep(0)
                await asyncio.gather(*(backend.publish(data, [name]) for data in (b"one", b"two")))
                await subscribing
                assert [await events.next(), await events.next()] == [(name, b"one"), (name, b"two")]

    run(work())


@pytest.mark.parametrize("url", ["memory", "redis"], indirect=True)
def test_websockets_get_what_is_published_when_they_are_accepted(channel: bridge.BroadcastChannel) -> None:
    """Each of 100 WebSockets gets the message that is published at the moment it is accepted."""
    plugin = ChannelsPlugin(
        BridgeChannelsBackend(channel), arbitrary_channels_allowed=True, create_ws_route_handlers=True
    )
    app = Litestar(plugins=[plugin])

    async def accepted(name: str) -> str:
        received: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        events = iter([{"type": "websocket.connect"}])

        async def receive() -> Any:
            for event in events:
                return event
            await asyncio.wait({received}, timeout=10)
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            if message["type"] == "websocket.accept":
                plugin.publish(name, name)
            else:
                received.set_result(message["text"])

        path = {"path": f"/{name}", "raw_path": f"/{name}".encode(), "query_string": b""}
        scope: Any = {"type": "websocket", **path, "headers": [], "extensions": {}}
        await app(scope, receive, send)
        return received.result() if received.done() else "nothing"

    async def work() -> None:
        async with plugin:
            names = [f"socket-{number}" for number in range(100)]
            assert await asyncio.gather(*map(accepted, names)) == names

    run(work())


def test_a_publish_waits_for_a_subscribe_no_longer_than_the_timeout(own_valkey: Valkey) -> None:
    """While the server hangs and who subscribed has left, a publish fails in time, and works after it."""

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis+pubsub"), timeout=0.5) as channel:
            async with started(channel) as (backend, events):
                own_valkey.signal(signal.SIGSTOP)
                subscribing = asyncio.create_task(backend.subscribe(["news"]))
                await until(lambda: transport_of(channel).hub.stats()["subscriptions"] == 1)
                subscribing.cancel()
                with pytest.raises(bridge.PublishError):
                    await asyncio.wait_for(backend.publish(b"lost", ["news"]), 10)
                own_valkey.signal(signal.SIGCONT)
                await until_subscribed(backend)
                await backend.publish(b"one", ["news"])
                assert await events.next() == ("news", b"one")

    run(work())


async def until_subscribed(backend: BridgeChannelsBackend) -> None:
    """Subscribe to `news` as soon as the server answers."""
    for _ in range(20):
        with suppress(bridge.ConnectionLost):
            await backend.subscribe(["news"])
            return


def test_unsubscribing_logs_nothing(
    channel: bridge.BroadcastChannel, caplog: pytest.LogCaptureFixture
) -> None:
    """Channels that are unsubscribed while the stream is read end without a word."""

    async def work() -> None:
        async with started(channel, poll_interval=0.01) as (backend, events):
            for name in ("a", "b", "c"):
                await backend.subscribe([name])
                await backend.publish(b"one", [name])
                assert await events.next() == (name, b"one")
                await backend.unsubscribe([name])
            await backend.subscribe(["end"])
            await backend.publish(b"end", ["end"])
            assert await events.next() == ("end", b"end")

    run(work())
    assert [record for record in caplog.records if record.name == "bridge.litestar"] == []


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_delivery_in_one_process_takes_less_than_ten_milliseconds(channel: bridge.BroadcastChannel) -> None:
    """The median from publish to the stream is below 10 ms."""

    async def work() -> list[float]:
        taken = []
        async with started(channel) as (backend, events):
            await backend.subscribe(["news"])
            for _ in range(100):
                began = time.monotonic()
                await asyncio.gather(backend.publish(b"one", ["news"]), events.next())
                taken.append(time.monotonic() - began)
        return taken

    assert statistics.median(run(work())) < 0.01


def test_an_exception_in_one_channel_leaves_the_others_alive(
    own_valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    """A position lost under one channel, twice, is logged each time; it and its neighbours go on."""

    async def lose(backend: BridgeChannelsBackend, events: Events, times: int) -> None:
        own_valkey.command("DEL", "n:{t:litestar.lost}:meta", "n:{t:litestar.lost}:log")
        with bridge.connect(own_valkey.url("redis"), namespace="n") as another:
            another.topic("litestar.lost").publish(b"of another course")
            another.topic("litestar.kept").publish(b"two")
        assert (await events.next()) == ("kept", b"two")
        await until(lambda: caplog.text.count("messages may be missing") == times)
        back = b"back %d" % times

        async def knock() -> None:
            while ("lost", back) not in events.seen:
                await backend.publish(back, ["lost"])
                await asyncio.sleep(0.05)

        knocking = asyncio.create_task(knock())
        await events.until(back)
        await knocking
        await backend.publish(b"end", ["lost"])
        await events.until(b"end")

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis"), namespace="n") as channel:
            async with started(channel) as (backend, events):
                await backend.subscribe(["lost", "kept"])
                for name in ("lost", "kept"):
                    await backend.publish(b"one", [name])
                    assert await events.next() == (name, b"one")
                for times in (1, 2):
                    await lose(backend, events, times)
        assert len([record for record in caplog.records if "litestar" in record.name]) == 2

    caplog.set_level(logging.INFO)
    run(work())


@replaying
def test_a_stream_that_is_not_read_loses_nothing(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """With 3,000 messages ahead of a queue of 100, the reader falls behind and still gets each once."""

    async def work() -> None:
        channel = connect(queue_size=100)
        async with started(channel, poll_interval=0.01) as (backend, events):
            await backend.subscribe(["news"])
            topic = channel.topic("litestar.news")
            await asyncio.to_thread(lambda: [topic.publish(b"%d" % number) for number in range(3000)])
            found = [(await events.next())[1] for _ in range(3000)]
            assert found == [b"%d" % number for number in range(3000)]

    run(work())
    assert "fell 100 messages behind" in caplog.text


@pytest.mark.parametrize("scheme", ["redis", "redis+pubsub"])
def test_the_plugin_outlives_an_outage(scheme: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the server killed and back, the plugin goes on; what was lost is logged once."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url(scheme), timeout=1.0) as channel:
            plugin = ChannelsPlugin(BridgeChannelsBackend(channel), channels=["news", "other"])
            async with plugin, plugin.start_subscription("news") as subscriber:
                events = subscriber.iter_events()
                plugin.publish("before", "news")
                assert await asyncio.wait_for(anext(events), 10) == b"before"
                await asyncio.to_thread(valkey.kill)
                with pytest.raises(bridge.PublishError):
                    await plugin.wait_published("refused", "news")
                for _ in range(5):
                    plugin.publish("lost", "news")
                plugin.publish(b"x" * (2 * 1024 * 1024), "news")
                await until(lambda: "max_payload" in caplog.text)
                await asyncio.to_thread(valkey.start)

                async def knock() -> None:
                    while True:
                        plugin.publish("after", "news")
                        await asyncio.sleep(0.05)

                knocking = asyncio.create_task(knock())
                assert await asyncio.wait_for(anext(events), 20) == b"after"
                knocking.cancel()

    with Valkey.durable() as valkey:
        run(work(valkey))
    messages = [record.message for record in caplog.records if record.name == "bridge.litestar"]
    assert len([message for message in messages if "those published until it does are lost" in message]) == 1
    gaps = [message for message in messages if "after an outage messages may be missing" in message]
    assert len(gaps) == (scheme == "redis+pubsub")


def test_a_short_outage_loses_no_message_that_is_published_meanwhile() -> None:
    """What is published while the server is away for less than the timeout arrives once, in order."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url("redis"), timeout=20) as channel:
            async with started(channel) as (backend, events):
                await backend.subscribe(["news"])
                await asyncio.to_thread(valkey.kill)
                publishing = asyncio.create_task(publish(backend))
                await asyncio.sleep(0)
                await asyncio.to_thread(valkey.start)
                await publishing
                assert [(await events.next())[1] for _ in range(20)] == [b"%d" % n for n in range(20)]

    async def publish(backend: BridgeChannelsBackend) -> None:
        for number in range(20):
            await backend.publish(b"%d" % number, ["news"])

    with Valkey.durable() as valkey:
        run(work(valkey))


def test_a_message_that_is_tried_again_is_not_overtaken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of messages published at once to a channel the first fails once: they arrive in their order."""

    async def work() -> None:
        with bridge.connect("memory://overtaken") as channel:
            failures = iter([bridge.PublishError("away")])
            take = transport_of(channel).backend.publish

            def publish(*message: Any) -> Any:
                for failure in failures:
                    raise failure
                return take(*message)

            monkeypatch.setattr(transport_of(channel).backend, "publish", publish)
            async with started(channel) as (backend, events):
                await backend.subscribe(["news"])
                await asyncio.gather(*(backend.publish(b"%d" % n, ["news"]) for n in range(20)))
                assert [(await events.next())[1] for _ in range(20)] == [b"%d" % n for n in range(20)]

    run(work())


def test_a_channel_subscribed_to_in_an_outage_is_read_after_it() -> None:
    """While the server is away it says so; Litestar counts the channel as read, so it is later."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url("redis"), timeout=0.5) as channel:
            async with started(channel) as (backend, events):
                await asyncio.to_thread(valkey.kill)
                with pytest.raises(bridge.ConnectionLost):
                    await backend.subscribe(["news"])
                await asyncio.to_thread(valkey.start)
                await until_subscribed(backend)
                await backend.publish(b"one", ["news"])
                assert await events.next() == ("news", b"one")

    with Valkey.durable() as valkey:
        run(work(valkey))


def test_unsubscribing_ends_a_subscribe_that_waits(own_valkey: Valkey) -> None:
    """While the server hangs, a subscribe that waits ends when its channel is unsubscribed."""

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis"), timeout=20) as channel:
            async with started(channel) as (backend, _):
                own_valkey.signal(signal.SIGSTOP)
                waiting = asyncio.create_task(backend.subscribe(["news"]))
                await until(lambda: transport_of(channel).hub.stats()["subscriptions"] == 1)
                await backend.unsubscribe(["news"])
                with pytest.raises(bridge.SubscriptionClosed, match="meanwhile"):
                    await asyncio.wait_for(waiting, 5)
                assert transport_of(channel).hub.stats()["subscriptions"] == 0
                own_valkey.signal(signal.SIGCONT)

    run(work())


def test_a_thousand_channels_take_one_hub_thread(channel: bridge.BroadcastChannel) -> None:
    """1,000 channels cost the hub's thread and no other, and one server connection a process."""

    async def work() -> None:
        names = [f"channel {number}" for number in range(1000)]
        before = threading.active_count()
        async with started(channel) as (backend, events):
            await backend.subscribe(names)
            assert threading.active_count() <= before + 1
            await backend.publish(b"one", ["channel 999"])
            assert await events.next() == ("channel 999", b"one")
        assert transport_of(channel).hub.stats()["subscriptions"] == 0

    run(work())


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prefix": "no identifier"}, "prefix"),
        ({"channel_prefix": "1st"}, "prefix"),
        ({"prefix": "x" * 101}, "prefix"),
        ({"prefix": ""}, "prefix"),
        ({"prefix": "a", "channel_prefix": "b"}, "one of them"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"poll_interval": -1}, "poll_interval"),
        ({"history": -1}, "history"),
        ({"history": 1.5}, "history"),
    ],
)
def test_a_bad_option_is_refused(options: dict[str, Any], says: str) -> None:
    """An option that will not do is a ValueError that names it."""
    with bridge.connect("memory://") as channel, pytest.raises(ValueError, match=says):
        BridgeChannelsBackend(channel, **options)


def test_prefixes_keep_applications_apart(channel: bridge.BroadcastChannel) -> None:
    """Two applications with prefixes of their own share a bridge and no message."""

    async def work() -> None:
        async with (
            started(channel, channel_prefix="one") as (one, events),
            started(channel, prefix="two") as (two, _),
        ):
            await one.subscribe(["news"])
            await two.publish(b"theirs", ["news"])
            await one.publish(b"ours", ["news"])
            assert await events.next() == ("news", b"ours")

    run(work())


NEWS = block("docs/litestar.md", "# news.py\n")
SERVE_NEWS = block("docs/litestar.md", "uvicorn news:app --port 8000\n").split()
COROUTINES = block("docs/litestar.md", "import asyncio\n")
ORDERS = block("docs/litestar.md", "# orders.py\n")


def test_the_coroutine_example_works() -> None:
    """The example without Litestar runs as it stands."""
    exec(compile(COROUTINES, "litestar.md", "exec"), {})


def test_the_litestar_example_works(own_valkey: Valkey, tmp_path: Path) -> None:
    """Two instances under uvicorn: what one is told, WebSockets of both get, a late one from the history."""
    (tmp_path / "news.py").write_text(NEWS.replace("localhost:6379", f"127.0.0.1:{own_valkey.port}"))
    ports = [free_port(), free_port()]
    with ExitStack() as stack:
        for port in ports:
            command = [sys.executable, "-m", *SERVE_NEWS[:-1], str(port)]
            stack.enter_context(running(command, cwd=tmp_path))
        early = [stack.enter_context(websocket(port)) for port in ports]
        for number, port in enumerate(ports):
            url = f"http://127.0.0.1:{port}/news/sport"
            httpx.post(url, json={"goal": str(number)}, trust_env=False).raise_for_status()
        late = [stack.enter_context(websocket(port)) for port in ports]
        for socket in late:
            assert [socket.recv(timeout=10) for _ in range(2)] == ['{"goal":"0"}', '{"goal":"1"}']
        for socket in early:
            # Litestar reads the history after it has subscribed: a message in between comes twice.
            received = [socket.recv(timeout=10)]
            while received[-1] != '{"goal":"1"}':
                received.append(socket.recv(timeout=10))
            assert sorted(set(received)) == ['{"goal":"0"}', '{"goal":"1"}']


def test_the_route_with_last_event_id_works(own_valkey: Valkey, tmp_path: Path) -> None:
    """A malformed id begins anew, a good one resumes, one that is not kept gives `reset` without an id."""
    (tmp_path / "orders.py").write_text(ORDERS.replace("localhost:6379", f"127.0.0.1:{own_valkey.port}"))
    port = free_port()
    url = f"http://127.0.0.1:{port}/orders/events"
    command = [sys.executable, "-m", "uvicorn", "orders:app", "--port", str(port)]
    with (
        bridge.connect(own_valkey.url("redis")) as channel,
        running(command, cwd=tmp_path),
        httpx.Client(trust_env=False, timeout=10) as client,
    ):
        one = channel.topic("orders").publish(b"one")
        two = channel.topic("orders").publish(b"two")
        eventually(lambda: answers(client, url), 30, "the application did not start")
        with publishing(channel.topic("orders"), b"three"):
            for anew in ("abc", "", "1-2", None):
                assert first_event(client, url, anew)[1:] == ["data: three"]
            assert first_event(client, url, one) == [f"id: {two}", "data: two"]
            lost = "0123456789abcdef-7-1"
            assert first_event(client, url, lost) == ["id: ", "event: reset", "data: "]


def answers(client: httpx.Client, url: str) -> bool:
    with suppress(httpx.ConnectError):
        return client.head(url).status_code > 0
    return False


def first_event(client: httpx.Client, url: str, cursor: str | None) -> list[str]:
    """The lines of the first event that a browser with this cursor gets."""
    headers = {} if cursor is None else {"Last-Event-ID": cursor}
    with client.stream("GET", url, headers=headers) as response:
        assert response.status_code == 200
        return list(itertools.takewhile(bool, response.iter_lines()))


@contextmanager
def publishing(topic: bridge.Topic, payload: bytes) -> Iterator[None]:
    """Publish again and again meanwhile."""
    ended = threading.Event()

    def publish() -> None:
        while not ended.wait(0.05):
            topic.publish(payload)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def websocket(port: int) -> ClientConnection:
    """Connect to the example as soon as it is up."""
    url = f"ws://127.0.0.1:{port}/news/sport"

    def attempt() -> ClientConnection | None:
        with suppress(OSError):
            return connect_websocket(url, proxy=None)
        return None

    return eventually(attempt, 30, "the application did not start")
