"""`bridge.aio`: the contract for coroutines, over every backend."""

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from statistics import median
from typing import Any

import pytest
import uvloop

import bridge
from bridge import aio
from bridge.aio.subscription import publish_to
from bridge.channel.transport import transport_of
from bridge.model.publication import Publication
from tests.conftest import LIVE_ONLY, REPLAYING, Connect
from tests.servers import Valkey, eventually

SECONDS = 30
LIMIT = 1024 * 1024

replaying = pytest.mark.parametrize("url", REPLAYING, indirect=True)


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run `work` in an event loop of its own, with a deadline."""
    return asyncio.run(asyncio.wait_for(work, SECONDS))


async def received(messages: aio.AsyncSubscription, count: int) -> list[int]:
    """Receive `count` numbers."""
    found = [await messages.receive(timeout=10) for _ in range(count)]
    assert None not in found
    return [int(message or b"-1") for message in found]


async def settle(look: Any) -> None:
    """Wait in the loop until `look()` is true."""
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


def test_nothing_published_after_subscribe_is_lost(channel: bridge.BroadcastChannel) -> None:
    """Of 200 messages, each published right after a context was entered, none is missing; ids agree."""

    async def work() -> None:
        topic = channel.topic("orders")
        for number in range(200):
            async with aio.subscribe(topic.as_subscriber()) as messages:
                message_id = await aio.publish(topic.as_producer(), b"%d" % number)
                message = await messages.receive(timeout=5)
                assert message == b"%d" % number
                assert isinstance(message, bridge.Message)
                assert message.id == message_id

    run(work())


def test_every_subscription_iterates_over_every_message(channel: bridge.BroadcastChannel) -> None:
    """Three tasks that iterate each get all of a topic, in order, whoever publishes."""

    async def read(entered: asyncio.Event) -> list[bytes]:
        async with aio.subscribe(channel.topic("orders")) as messages:
            entered.set()
            found: list[bytes] = []
            async for message in messages:
                if message == b"end":
                    return found
                found.append(message)
        raise AssertionError("the iteration ended")

    async def work() -> list[list[bytes]]:
        entered = [asyncio.Event() for _ in range(3)]
        readers = [asyncio.create_task(read(event)) for event in entered]
        for event in entered:
            await event.wait()
        topic = channel.topic("orders")
        for number in range(50):
            await aio.publish(topic, b"%d" % number)
        await asyncio.to_thread(topic.publish, b"end")
        return list(await asyncio.gather(*readers))

    assert run(work()) == [[b"%d" % number for number in range(50)]] * 3


def test_calls_that_nobody_awaits_yet_keep_their_order(channel: bridge.BroadcastChannel) -> None:
    """300 publishes begun at once on one topic, beside as many on another, arrive in that order."""

    async def work() -> None:
        one, other = channel.topic("one"), channel.topic("other")
        async with aio.subscribe(one) as messages:
            calls = [aio.publish(topic, b"%d" % number) for number in range(300) for topic in (one, other)]
            await asyncio.gather(*calls)
            assert await received(messages, 300) == list(range(300))

    run(work())


def test_a_bad_argument_is_refused_before_anything_is_sent(channel: bridge.BroadcastChannel) -> None:
    """What is too large or no bytes is a ValueError, and what is no view of a topic a TypeError."""

    async def work() -> None:
        topic = channel.topic("orders")
        async with aio.subscribe(topic) as messages:
            for payload in ("text", b"x" * (LIMIT + 1)):
                with pytest.raises(ValueError, match=str(LIMIT)):
                    await aio.publish(topic, payload)  # type: ignore[arg-type]  # wrong on purpose
            with pytest.raises(TypeError, match="topic"):
                await aio.publish(channel, b"one")  # type: ignore[arg-type]  # wrong on purpose
            with pytest.raises(ValueError, match="reserved"):
                await aio.publish(topic, b"one", type="end")
            await aio.publish(topic, b"end", type="last")
            message = await messages.receive(timeout=5)
            assert (message, message and message.type) == (b"end", "last")

    run(work())


def test_a_bad_place_is_refused_by_the_call_itself(channel: bridge.BroadcastChannel) -> None:
    """What is no id, no name or no view is refused before the context is entered, even without a loop."""
    topic = channel.topic("orders")
    for after in ("abc", "", "1-2", "beginning ", b"beginning", 7):
        with pytest.raises(ValueError, match="cursor"):
            aio.subscribe(topic, after=after)  # type: ignore[arg-type]  # wrong on purpose
    for durable in ("", "x" * 256, "a\nb", 7):
        with pytest.raises(ValueError, match="durable"):
            aio.subscribe(topic, durable=durable)  # type: ignore[arg-type]  # wrong on purpose
    with pytest.raises(TypeError, match="topic"):
        aio.subscribe(channel)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize("url", LIVE_ONLY, indirect=True)
def test_a_place_where_nothing_is_kept_is_refused_by_the_call_itself(
    channel: bridge.BroadcastChannel,
) -> None:
    """Where no messages are kept, a cursor or a durable reader is a ConfigurationError at the call."""
    for options in ({"after": bridge.BEGINNING}, {"durable": "reader"}):
        with pytest.raises(bridge.ConfigurationError, match="keeps messages"):
            aio.subscribe(channel.topic("orders"), **options)


@pytest.mark.parametrize("url", ["memory"], indirect=True)
def test_held_messages_hold_up_no_other_topic(channel: bridge.BroadcastChannel) -> None:
    """With 20 topics held, another's message goes at once; let go, they arrive in the order of the calls."""

    async def work() -> None:
        transport = transport_of(channel)
        hold: Future[None] = Future()
        async with (
            aio.subscribe(channel.topic("held 7")) as held,
            aio.subscribe(channel.topic("free")) as free,
        ):
            names = [f"held {number}" for number in range(20)]
            early = [publish_to(transport, Publication("held 7", b"0"))]
            calls = [publish_to(transport, Publication(name, b"1"), hold) for name in names]
            calls.append(publish_to(transport, Publication("held 7", b"2")))
            gone = publish_to(transport, Publication("held 7", b"3"), hold)
            gone.cancel()
            await asyncio.wait_for(aio.publish(channel.topic("free"), b"free"), 5)
            assert await free.receive(timeout=5) == b"free"
            await asyncio.gather(*early)
            assert not any(call.done() for call in calls)
            hold.set_result(None)
            await asyncio.gather(*calls)
            await aio.publish(channel.topic("held 7"), b"4")
            assert await received(held, 4) == [0, 1, 2, 4]

    run(work())


def test_receive_waits_no_longer_than_asked(channel: bridge.BroadcastChannel) -> None:
    """With nothing to receive, receive returns None when its timeout is over, at once for 0."""

    async def work() -> None:
        async with aio.subscribe(channel.topic("orders")) as messages:
            took = []
            for timeout in (0, 0, 0, 0.2, 0.2, 0.2):
                started = time.monotonic()
                assert await messages.receive(timeout=timeout) is None
                took.append(time.monotonic() - started)
            assert median(took[:3]) < 0.1
            assert 0.15 < median(took[3:]) < 2

    run(work())


def test_a_cancelled_receive_loses_nothing(channel: bridge.BroadcastChannel) -> None:
    """Receives that are cancelled at any moment, while 500 messages come, leave none out."""

    async def work() -> None:
        topic = channel.topic("orders")
        async with aio.subscribe(topic) as messages:
            publisher = asyncio.create_task(
                asyncio.to_thread(lambda: [topic.publish(b"%d" % number) for number in range(500)])
            )
            found: list[int] = []
            turn = 0
            while len(found) < 500:
                task = asyncio.create_task(messages.receive(timeout=5))
                for _ in range(turn % 4):
                    await asyncio.sleep(0)
                turn += 1
                if turn % 5:
                    task.cancel()
                done = (await asyncio.gather(task, return_exceptions=True))[0]
                if isinstance(done, bytes):
                    found.append(int(done))
            assert found == list(range(500))
            await publisher

    run(work())


def test_a_cancelled_subscribe_leaves_nothing_open(own_valkey: Valkey) -> None:
    """Cancelled while the server hangs, a subscribe is gone from the hub."""

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis"), timeout=20) as channel:
            topic = channel.topic("orders")
            own_valkey.signal(signal.SIGSTOP)
            try:

                async def subscribe() -> None:
                    async with aio.subscribe(topic):
                        raise AssertionError("the server hangs")

                task = asyncio.create_task(subscribe())
                await settle(lambda: transport_of(channel).hub.stats()["subscriptions"] == 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                assert transport_of(channel).hub.stats()["subscriptions"] == 0
            finally:
                own_valkey.signal(signal.SIGCONT)

    run(work())


def test_the_event_loop_runs_on_while_the_server_hangs(own_valkey: Valkey) -> None:
    """Subscribing to and publishing to a server that hangs fail after the timeout; the loop never waits."""

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis"), timeout=1.0) as channel:
            topic = channel.topic("orders")
            await aio.publish(topic, b"before")
            own_valkey.signal(signal.SIGSTOP)
            longest, running = 0.0, True

            async def beat() -> None:
                nonlocal longest
                while running:
                    began = time.monotonic()
                    await asyncio.sleep(0.01)
                    longest = max(longest, time.monotonic() - began)

            async def enter() -> None:
                async with aio.subscribe(topic):
                    raise AssertionError("the server hangs")

            heart = asyncio.create_task(beat())
            publishing = [aio.publish(topic, b"one") for _ in range(50)]
            ended = await asyncio.gather(enter(), *publishing, return_exceptions=True)
            running = False
            await heart
            own_valkey.signal(signal.SIGCONT)
            assert isinstance(ended[0], bridge.ConnectionLost)
            assert all(isinstance(error, bridge.PublishError) for error in ended[1:])
            assert longest < 0.5

    run(work())


def test_a_reader_that_falls_behind_is_told(connect: Connect) -> None:
    """A full queue ends its reader with SlowConsumer after what was queued, and disturbs no other."""

    async def work() -> None:
        topic = connect(queue_size=10).topic("orders")
        async with aio.subscribe(topic) as slow, aio.subscribe(topic) as quick:
            for number in range(11):
                await aio.publish(topic, b"%d" % number)
                assert await received(quick, 1) == [number]
            assert await received(slow, 10) == list(range(10))
            with pytest.raises(bridge.SlowConsumer, match="queue_size"):
                await slow.receive(timeout=5)
            with pytest.raises(bridge.SlowConsumer):
                await anext(slow)

    run(work())


def test_close_ends_a_waiting_reader(channel: bridge.BroadcastChannel) -> None:
    """Close from another thread ends an iteration quietly, receive with SubscriptionClosed, within 100 ms."""

    async def work() -> float:
        async with aio.subscribe(channel.topic("orders")) as messages:

            async def iterate() -> list[bridge.Message]:
                return [message async for message in messages]

            task = asyncio.create_task(iterate())
            await asyncio.sleep(0)
            started = time.monotonic()
            await asyncio.to_thread(messages.close)
            assert await task == []
            took = time.monotonic() - started
            with pytest.raises(bridge.SubscriptionClosed):
                await messages.receive()
            return took

    # The median: a busy machine may hold up one of them.
    assert median(run(work()) for _ in range(5)) < 0.1


def test_closing_the_channel_ends_everything(connect: Connect) -> None:
    """After the channel's close an iteration ends, and publish and subscribe are refused."""

    async def work() -> None:
        channel = connect()
        topic = channel.topic("orders")
        async with aio.subscribe(topic) as messages:
            await asyncio.to_thread(channel.close)
            assert [message async for message in messages] == []
        with pytest.raises(bridge.PublishError, match="closed"):
            await aio.publish(topic, b"one")
        with pytest.raises(bridge.SubscriptionClosed, match="closed"):
            async with aio.subscribe(topic):
                raise AssertionError("closed")

    run(work())


def test_two_tasks_may_not_receive_from_one_subscription(channel: bridge.BroadcastChannel) -> None:
    """The second task is told so at once; the first goes on."""

    async def work() -> None:
        topic = channel.topic("orders")
        async with aio.subscribe(topic) as messages:
            first = asyncio.create_task(messages.receive(timeout=5))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="another task"):
                await messages.receive(timeout=5)
            await aio.publish(topic, b"one")
            assert await first == b"one"

    run(work())


@replaying
def test_cursors_history_and_durable_readers(channel: bridge.BroadcastChannel) -> None:
    """`after`, `history`, `durable` and `ack` are those of the channel."""

    async def work() -> None:
        topic = channel.topic("orders")
        ids = [await aio.publish(topic, b"%d" % number) for number in range(5)]
        async with aio.subscribe(topic, after=ids[1]) as messages:
            assert await received(messages, 3) == [2, 3, 4]
        async with aio.subscribe(topic, after=bridge.BEGINNING, durable="indexer") as messages:
            for _ in range(2):
                message = await messages.receive(timeout=5)
                assert message is not None
                await messages.ack(message)
        async with aio.subscribe(topic, durable="indexer") as messages:
            assert await received(messages, 3) == [2, 3, 4]
        assert await aio.history(topic, limit=2) == [b"3", b"4"]

    run(work())


def test_a_lost_position_is_raised(own_valkey: Valkey) -> None:
    """A cursor that the server no longer knows raises PositionLost."""

    async def work() -> None:
        with bridge.connect(own_valkey.url("redis")) as channel:
            topic = channel.topic("orders")
            cursor = await aio.publish(topic, b"one")
            await asyncio.to_thread(own_valkey.command, "FLUSHALL")
            with pytest.raises(bridge.PositionLost):
                async with aio.subscribe(topic, after=cursor) as messages:
                    await messages.receive(timeout=5)

    run(work())


def test_an_open_subscription_survives_an_outage() -> None:
    """With the server killed and started again a reader goes on where it was: nothing lost, nothing twice."""

    async def work(valkey: Valkey) -> None:
        with bridge.connect(valkey.url("redis")) as channel:
            topic = channel.topic("orders")
            async with aio.subscribe(topic) as messages:
                await aio.publish(topic, b"0")
                assert await received(messages, 1) == [0]
                await asyncio.to_thread(valkey.kill)
                with pytest.raises(bridge.PublishError):
                    await aio.publish(topic, b"refused")
                await asyncio.to_thread(valkey.start)
                for number in (1, 2):
                    await aio.publish(topic, b"%d" % number)
                assert await received(messages, 2) == [1, 2]

    with Valkey.durable() as valkey:
        run(work(valkey))


def test_a_thousand_subscriptions_cost_no_thread_each(channel: bridge.BroadcastChannel) -> None:
    """1,000 subscriptions in one loop take the hub's thread alone, and each gets its message."""

    async def work() -> None:
        topic = channel.topic("orders")
        before = threading.active_count()
        opened = [aio.subscribe(topic) for _ in range(1000)]
        subscriptions = await asyncio.gather(*(context.__aenter__() for context in opened))
        assert threading.active_count() <= before + 1
        await aio.publish(topic, b"7")
        assert [await received(messages, 1) for messages in subscriptions] == [[7]] * 1000
        for context in opened:
            await context.__aexit__(None, None, None)
        assert transport_of(channel).hub.stats()["subscriptions"] == 0

    run(work())


def test_several_loops_share_the_hub(channel: bridge.BroadcastChannel) -> None:
    """Loops in three threads, one of them uvloop's, each get every message."""
    found: list[list[int]] = []
    entered = threading.Barrier(4)

    async def read() -> None:
        async with aio.subscribe(channel.topic("orders")) as messages:
            await asyncio.to_thread(entered.wait, 10)
            found.append(await received(messages, 20))

    def in_uvloop() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(read())

    threads = [threading.Thread(target=target) for target in (in_uvloop, *[lambda: run(read())] * 2)]
    for thread in threads:
        thread.start()
    entered.wait(10)
    for number in range(20):
        channel.topic("orders").publish(b"%d" % number)
    for thread in threads:
        thread.join(SECONDS)
    assert found == [list(range(20))] * 3


def test_a_loop_that_ended_harms_nobody(channel: bridge.BroadcastChannel) -> None:
    """A subscription whose loop was closed under it is let go at the next message; others get theirs."""
    topic = channel.topic("orders")
    loop = asyncio.new_event_loop()
    context = aio.subscribe(topic)
    abandoned = loop.run_until_complete(context.__aenter__())
    loop.close()
    with topic.subscribe() as subscription:
        for number in range(3):
            topic.publish(b"%d" % number)
            assert subscription.receive(timeout=5) == b"%d" % number
        eventually(lambda: transport_of(channel).hub.stats()["subscriptions"] == 1)
    del abandoned, context
    gc.collect()
    run(aio.publish(topic, b"more"))
