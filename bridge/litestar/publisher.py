"""Publishes for Litestar's plugin. Its worker task ends at the first error, so errors there are logged."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from weakref import WeakValueDictionary

from litestar.channels import ChannelsPlugin

from bridge.aio.subscription import publish_to
from bridge.channel.transport import Transport
from bridge.errors import PublishError
from bridge.litestar.names import topic_name
from bridge.model.publication import Publication

logger = logging.getLogger("bridge.litestar")


Hold = Callable[[str], AbstractContextManager["Future[None] | None"]]
"""Returns a context with the future that a message to the Litestar channel of that name waits for."""


class Publisher:
    """Publishes to the Litestar channels of one prefix. Repeats attempts during short outages."""

    def __init__(self, transport: Transport, prefix: str, poll_interval: float, hold: Hold) -> None:
        self._transport = transport
        self._prefix = prefix
        self._poll_interval = poll_interval
        self._hold = hold
        self._refused_since: float | None = None
        self._refusal_logged = False
        # Each guards the order of one channel: a message waits until the one before it is published.
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def publish(self, data: bytes, names: Sequence[str]) -> None:
        """Publish `data` to every channel, as `BridgeChannelsBackend.publish` does."""
        done = await asyncio.gather(*(self._publish(name, data) for name in names), return_exceptions=True)
        for error in filter(None, done):
            if not called_by_the_plugins_worker():
                raise error
            if isinstance(error, PublishError):
                self._note_refusal(error)
            else:
                logger.error(
                    "a message to %s cannot be published: %s",
                    ", ".join(map(repr, names)),
                    error,
                    extra={"event": "channel_message_refused", "channels": list(names), "error": str(error)},
                )
            return
        self._refused_since, self._refusal_logged = None, False

    async def _publish(self, name: str, data: bytes) -> None:
        async with self._locks.setdefault((asyncio.get_running_loop(), name), asyncio.Lock()):
            await self._publish_with_retries(name, data)

    async def _publish_with_retries(self, name: str, data: bytes) -> None:
        publication = Publication(topic_name(self._prefix, name), data)
        while True:
            try:
                with self._hold(name) as hold:
                    await publish_to(self._transport, publication, hold)
                return
            except PublishError:
                if self._refused_since is None:
                    self._refused_since = time.monotonic()
                timed_out = time.monotonic() - self._refused_since > self._transport.timeout
                if timed_out or not self._transport.backend.replays or self._transport.closed:
                    raise
            publication.repeated = True
            await asyncio.sleep(self._poll_interval)

    def _note_refusal(self, error: PublishError) -> None:
        """Log that messages are lost, once for each outage."""
        if not self._refusal_logged:
            self._refusal_logged = True
            logger.error(
                "the backend accepts no messages; those published until it does are lost: %s",
                error,
                extra={"event": "channel_messages_lost", "error": str(error)},
            )


def called_by_the_plugins_worker() -> bool:
    """Return whether the running task is the worker task of a `ChannelsPlugin`."""
    task = asyncio.current_task()
    code = getattr(task.get_coro() if task else None, "cr_code", None)
    return code is not None and code is ChannelsPlugin._pub_worker.__code__
