"""`BridgeChannelsBackend`: what Litestar's plugin asks of a backend, on a bridge channel."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import suppress
from dataclasses import dataclass

from litestar.channels.backends.base import ChannelsBackend

from bridge import aio
from bridge.broadcast import Channel, channel_of
from bridge.channel import BroadcastChannel, Gap
from bridge.errors import BridgeError, ConfigurationError, PositionLost, SubscriptionClosed
from bridge.litestar.names import topic_name
from bridge.litestar.publisher import Publisher

logger = logging.getLogger("bridge.litestar")

EVERYTHING = 2**31 - 1
"""A limit beyond any retention."""

WAITING = 1000
"""Messages that may wait for `stream_events`; more wait in the queues of their subscriptions."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


@dataclass(eq=False, slots=True)
class _Reading:
    """A Litestar channel that is subscribed to."""

    name: str
    established: "asyncio.Future[None]"
    task: "asyncio.Task[None] | None" = None
    after: str | None = None
    """The message that was read last."""
    failing: type[Exception] | None = None
    """What has been logged since it was established last."""

    def refuse(self, error: Exception) -> None:
        """Tell those who wait for it to be established; later ones wait anew."""
        if not self.established.done():
            self.established.set_exception(error)
            self.established.exception()  # it may be that nobody waits
            self.established = asyncio.get_running_loop().create_future()


class BridgeChannelsBackend(ChannelsBackend):
    """A `ChannelsBackend` on any bridge channel.

    `channel` is what `bridge.connect` returned; closing it is its owner's. `prefix`, an identifier of up to
    100 characters, comes before the name of every Litestar channel, so that several applications can share
    a bridge; `channel_prefix` is another name for the same. `history` is the most that `get_history`
    returns, also where more is asked for; without it, all that the channel retains. `poll_interval` is how
    many seconds to wait before a channel whose reading has failed, or a publish that was refused, is tried
    again; messages are never polled for here, a database's interval is an option of `bridge.connect`.

    Raises `ValueError` for a prefix, a history or an interval that will not do, and `ConfigurationError` for
    a history on a backend that keeps none.

    Any text is a channel's name. Data is bytes of up to the bridge channel's `max_payload`. Messages of a
    channel arrive in the order they were published in, on every instance, once, also across an outage if
    the backend replays; if not, a warning says that messages may be missing.
    """

    def __init__(
        self,
        channel: BroadcastChannel,
        *,
        prefix: str = "litestar",
        history: int | None = None,
        channel_prefix: str | None = None,
        poll_interval: float = 0.2,
    ) -> None:
        if channel_prefix is not None and prefix not in ("litestar", channel_prefix):
            raise ValueError("prefix and channel_prefix are two names of one setting; give one of them")
        self._prefix = prefix if channel_prefix is None else channel_prefix
        if not isinstance(self._prefix, str) or not _IDENTIFIER.fullmatch(self._prefix):
            raise ValueError(f"prefix must be an identifier of 1 to 100 characters, not {self._prefix!r}")
        if not poll_interval > 0:
            raise ValueError(f"poll_interval must be seconds above zero, not {poll_interval!r}")
        if history is not None and (not isinstance(history, int) or history < 0):
            raise ValueError(f"history must be a whole number, zero or more, not {history!r}")
        self._channel: Channel = channel_of(channel.topic(self._prefix))
        if history and not self._channel.replays:
            raise ConfigurationError(
                "history needs a backend that keeps messages, such as redis:// or memory://"
            )
        self._history = EVERYTHING if history is None else history
        self._poll_interval = poll_interval
        self._readings: dict[str, _Reading] = {}
        self._events: asyncio.Queue[tuple[_Reading, bytes] | None] | None = None
        self._publisher = Publisher(self._channel, self._prefix, poll_interval)
        self._outage_told = 0
        self._no_history_told = False

    async def on_startup(self) -> None:
        """Begin, or begin again, in the running event loop."""
        await self.on_shutdown()
        self._events = asyncio.Queue(WAITING)

    async def on_shutdown(self) -> None:
        """End every subscription, and `stream_events`. May be called again."""
        events, self._events = self._events, None
        await self.unsubscribe(list(self._readings))
        if events is not None:
            while events.full():
                events.get_nowait()
            with suppress(RuntimeError):  # the loop it was for has ended
                events.put_nowait(None)

    # Reading.

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Subscribe; when this returns, no message published to the channels from then on is missed.

        Raises `ConnectionLost` if that takes longer than the bridge channel's `timeout`. As Litestar counts
        the channels as subscribed all the same, they are: they are read once the backend is back.
        """
        if self._events is None:
            raise RuntimeError("the backend is not started: call on_startup, as ChannelsPlugin does")
        wanted = [self._readings.get(name) or self._read(name) for name in dict.fromkeys(channels)]
        await asyncio.gather(*(asyncio.shield(reading.established) for reading in wanted))

    def _read(self, name: str) -> _Reading:
        loop = asyncio.get_running_loop()
        reading = self._readings[name] = _Reading(name, loop.create_future())
        reading.task = loop.create_task(self._keep_reading(reading), name=f"bridge channel {name[:100]!r}")
        return reading

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Unsubscribe; when this is called, nothing of the channels is delivered any more."""
        readings = [self._readings.pop(name) for name in dict.fromkeys(channels) if name in self._readings]
        loop = asyncio.get_running_loop()
        ended = []
        for reading in readings:
            if reading.task is not None and reading.task.get_loop() is loop:
                reading.refuse(SubscriptionClosed(f"the channel {reading.name!r} was unsubscribed meanwhile"))
                reading.task.cancel()
                ended.append(reading.task)
        await asyncio.gather(*ended, return_exceptions=True)

    async def _keep_reading(self, reading: _Reading) -> None:
        """Read a channel until it is unsubscribed, whatever happens to it meanwhile."""
        while True:
            try:
                await self._read_on(reading)
            except Exception as error:
                self._note_failure(reading, error)
            if self._channel.closed:
                return
            await asyncio.sleep(self._poll_interval)

    async def _read_on(self, reading: _Reading) -> None:
        topic = self._channel.topic(topic_name(self._prefix, reading.name))
        async with aio.subscribe(topic, after=reading.after) as messages:
            reading.failing = None
            if not reading.established.done():
                reading.established.set_result(None)
            async for message in messages:
                if isinstance(message, Gap):
                    self._note_gap()
                    continue
                await self._put(reading, message)
                reading.after = message.id

    async def _put(self, reading: _Reading, data: bytes) -> None:
        if self._events is not None:
            await self._events.put((reading, bytes(data)))

    def _note_failure(self, reading: _Reading, error: Exception) -> None:
        """Log once why a channel cannot be read, and decide where to go on."""
        if isinstance(error, PositionLost):
            reading.after = None
        reading.refuse(error)
        if reading.failing is type(error):
            return
        reading.failing = type(error)
        unexpected = None if isinstance(error, BridgeError) else error
        then = "messages may be missing" if reading.after is None else "it is read on where it was"
        logger.warning("channel %r: %s; %s", reading.name, error, then, exc_info=unexpected)

    def _note_gap(self) -> None:
        """Log once an outage that messages may be missing."""
        outage = self._channel.stats()["connections_lost"]
        if outage != self._outage_told:
            self._outage_told = outage
            logger.warning("after an outage messages may be missing, as the backend keeps none")

    def stream_events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield the channel and the data of each message, until the shutdown; an outage only delays it."""
        if self._events is None:
            raise RuntimeError("the backend is not started: call on_startup, as ChannelsPlugin does")
        return self._stream(self._events)

    async def _stream(
        self, events: "asyncio.Queue[tuple[_Reading, bytes] | None]"
    ) -> AsyncGenerator[tuple[str, bytes], None]:
        while (event := await events.get()) is not None:
            reading, data = event
            if self._readings.get(reading.name) is reading:
                yield reading.name, data

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """Return the last messages of a channel, the oldest first, whether anybody reads it or not.

        At most `limit`, and at most the backend's `history`. Where the bridge channel keeps no messages
        there are none, which is logged once. Raises `ConnectionLost`.
        """
        most = self._history if limit is None else min(limit, self._history)
        if most < 1:
            return []
        if not self._channel.replays:
            if not self._no_history_told:
                self._no_history_told = True
                logger.warning("there is no history: the bridge channel's backend keeps no messages")
            return []
        topic = self._channel.topic(topic_name(self._prefix, channel))
        return [bytes(message) for message in await aio.history(topic, limit=most)]

    # Publishing.

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Publish `data` to every channel.

        While the backend is down it is tried again until the bridge channel's `timeout` is over, if the
        backend replays: it knows a message that it has already. Raises `PublishError`, and `ValueError` for
        data that will not do. Called by the plugin's own worker, which an error would end for good, it logs
        instead: what could not be published once an outage, what never can each time.
        """
        await self._publisher.publish(data, list(dict.fromkeys(channels)))
