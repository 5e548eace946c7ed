"""`BridgeChannelsBackend`: the backend of Litestar's `ChannelsPlugin` on a bridge channel."""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

from litestar.channels.backends.base import ChannelsBackend

from bridge import aio
from bridge.channel.contract import BroadcastChannel
from bridge.channel.transport import transport_of
from bridge.errors import BridgeError, PositionLost
from bridge.litestar.names import topic_name
from bridge.litestar.publisher import Publisher
from bridge.litestar.reading import Feed, Reading
from bridge.model.message import Gap
from bridge.support.validate import check_positive

logger = logging.getLogger("bridge.litestar")

EVERYTHING = 2**31 - 1
"""A limit beyond any retention."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}", re.ASCII)


class BridgeChannelsBackend(ChannelsBackend):
    """A `ChannelsBackend` on any bridge channel.

    `channel` is a channel of `bridge.connect`. The backend does not close it. `prefix` is an identifier of up
    to 100 characters. It comes before the name of every Litestar channel, so that several applications can
    share a bridge. `channel_prefix` is another name of this argument. `history` is the largest number of
    messages that `get_history` returns. The default is all that the bridge channel keeps. `poll_interval` is
    the number of seconds to wait before the next attempt to read a channel or to publish, after one that
    failed. It does not poll for messages: the interval of a database is an option of `bridge.connect`.

    Raises `ValueError` if the prefix, the history or the interval is not valid, and `ConfigurationError` for
    a history on a backend that keeps no messages.

    A channel may have any text as its name. Data is bytes, at most `max_payload` of the bridge channel.
    Every instance gets the messages of a channel once, in the order in which they were published. If the
    backend keeps messages, this holds across an outage. If not, a warning says that messages may be missing.
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
        check_positive(unit="seconds", error=ValueError, poll_interval=poll_interval)
        if history is not None and (not isinstance(history, int) or history < 0):
            raise ValueError(f"history must be a whole number, zero or more, not {history!r}")
        self._channel = channel
        self._transport = transport_of(channel)
        if history:
            self._transport.require_replay("history")
        self._history = EVERYTHING if history is None else history
        self._poll_interval = poll_interval
        self._readings: dict[str, Reading] = {}
        self._feed: Feed | None = None
        self._publisher = Publisher(self._transport, self._prefix, poll_interval, self._hold)
        self._outage_logged = 0
        self._no_history_logged = False

    async def on_startup(self) -> None:
        """Begin to stream in the running event loop. Earlier subscriptions stay."""
        self._drop_readings_of_ended_loop()
        self._transport.enter_loop()
        previous = self._feed
        if previous is not None and previous.loop is asyncio.get_running_loop():
            return
        self._feed = Feed(self._take)
        if previous is not None:
            previous.end()
        for reading in list(self._readings.values()):
            reading.resume()

    async def on_shutdown(self) -> None:
        """End every subscription, and `stream_events`. May be called again."""
        feed, self._feed = self._feed, None
        await self.unsubscribe(list(self._readings))
        if feed is not None:
            feed.end()

    def _drop_readings_of_ended_loop(self) -> None:
        """Forget the subscriptions of a run of the application that ended without a shutdown."""
        if self._feed is not None and self._feed.loop.is_closed():
            self._feed = None
            self._unsubscribe(list(self._readings))

    # Reading.

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Subscribe to channels. Every message that is published after this returns is received.

        May be called before the start, and in any event loop. `stream_events` then begins with the messages
        published since. Raises `ConnectionLost` if it takes longer than the `timeout` of the bridge channel.
        Litestar counts the channels as subscribed even then, so they are read when the backend is back.
        """
        self._drop_readings_of_ended_loop()
        self._transport.enter_loop()
        wanted = [self._read(name) for name in dict.fromkeys(channels)]
        await asyncio.gather(*(reading.wait_established() for reading in wanted))

    def _read(self, name: str) -> Reading:
        reading = self._readings.get(name)
        if reading is None:
            new = Reading(self._transport, name, topic_name(self._prefix, name), self._announce)
            reading = self._readings.setdefault(name, new)  # another thread may have been faster
            if reading is new:
                reading.resume()
        elif reading.refused:
            reading.expect()
            reading.resume()
        return reading

    def _announce(self, reading: Reading) -> bool:
        """Note that `reading` has something new. Return whether somebody may still read it."""
        feed = self._feed
        return feed is None or feed.announce(reading)

    async def unsubscribe(self, channels: Iterable[str]) -> None:
        """Unsubscribe. No message of the channels is delivered after this is called."""
        self._unsubscribe(channels)

    def _unsubscribe(self, channels: Iterable[str]) -> None:
        for name in channels:
            reading = self._readings.pop(name, None)
            if reading is not None:
                reading.close()

    def stream_events(self) -> AsyncGenerator[tuple[str, bytes], None]:
        """Yield the channel and the data of each message until the shutdown. An outage only delays them."""
        if self._feed is None:
            raise RuntimeError("the backend is not started: call on_startup, as ChannelsPlugin does")
        return self._stream(self._feed)

    async def _stream(self, feed: Feed) -> AsyncGenerator[tuple[str, bytes], None]:
        while (event := await feed.next()) is not None:
            reading, data = event
            if self._readings.get(reading.name) is reading:
                yield reading.name, data

    def _take(self, reading: Reading) -> bytes | None:
        """Return the data of the next message of `reading`, or `None` if there is none."""
        if self._readings.get(reading.name) is not reading:
            return None
        try:
            while isinstance(message := reading.receive(), Gap):
                self._note_gap()
        except Exception as error:
            if not self._transport.closed:
                self._note_failure(reading, error)
                asyncio.get_running_loop().call_later(self._poll_interval, self._read_again, reading)
            return None
        return None if message is None else bytes(message)

    def _read_again(self, reading: Reading) -> None:
        if self._readings.get(reading.name) is reading:
            reading.resume()

    def _note_failure(self, reading: Reading, error: Exception) -> None:
        """Log once why a channel cannot be read, and decide where reading continues."""
        if isinstance(error, PositionLost):
            reading.after = None
        reading.refuse(error)
        if reading.failing is type(error):
            return
        reading.failing = type(error)
        unexpected = None if isinstance(error, BridgeError) else error
        then = "messages may be missing" if reading.after is None else "reading continues where it was"
        logger.warning(
            "channel %r: %s; %s",
            reading.name,
            error,
            then,
            exc_info=unexpected,
            extra={"event": "channel_reading_failed", "channel": reading.name, "error": str(error)},
        )

    def _note_gap(self) -> None:
        """Log that messages may be missing, once for each outage."""
        outage = self._transport.hub.connections_lost
        if outage != self._outage_logged:
            self._outage_logged = outage
            logger.warning(
                "after an outage messages may be missing, as the backend keeps none",
                extra={"event": "channel_messages_missing"},
            )

    async def get_history(self, channel: str, limit: int | None = None) -> list[bytes]:
        """Return the last messages of a channel, the oldest first. Nobody needs to be subscribed to it.

        Returns at most `limit` messages, and at most the `history` of this backend. If the bridge channel
        keeps no messages, returns an empty list and logs this once. Raises `ConnectionLost`.
        """
        most = self._history if limit is None else min(limit, self._history)
        if most < 1:
            return []
        if not self._transport.backend.replays:
            if not self._no_history_logged:
                self._no_history_logged = True
                logger.warning(
                    "there is no history: the bridge channel's backend keeps no messages",
                    extra={"event": "channel_without_history"},
                )
            return []
        topic = self._channel.topic(topic_name(self._prefix, channel))
        return [bytes(message) for message in await aio.history(topic, limit=most)]

    # Publishing.

    async def publish(self, data: bytes, channels: Iterable[str]) -> None:
        """Publish `data` to every channel.

        If a `subscribe` to a channel is in progress, the message waits until it has finished, so that the new
        subscriber gets it. It waits at most for the `timeout` of the bridge channel.

        If the backend keeps messages, an attempt that fails is repeated until that `timeout` has passed. The
        message is still published once. Raises `PublishError`, and `ValueError` for data that is not bytes
        or is too large. When the worker task of the plugin calls it, it logs these errors instead, because
        an error would end that task: a `PublishError` once for each outage, a `ValueError` each time.
        """
        await self._publisher.publish(data, list(dict.fromkeys(channels)))

    @contextmanager
    def _hold(self, name: str) -> Iterator["Future[None] | None"]:
        """Yield the future that a message to a Litestar channel waits for, or `None` if it need not wait."""
        reading = self._readings.get(name)
        if reading is None or reading.established.done():
            yield None
            return
        with reading.bounded() as established:
            yield established
