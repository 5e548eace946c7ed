"""Publishing for Litestar's plugin, whose worker an error would end for good."""

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
"""Gives what a message to the Litestar channel of that name has to wait for."""


class Publisher:
    """Publishes to the Litestar channels of one prefix, across short outages."""

    def __init__(self, transport: Transport, prefix: str, poll_interval: float, hold: Hold) -> None:
        self._transport = transport
        self._prefix = prefix
        self._poll_interval = poll_interval
        self._hold = hold
        self._refused_since: float | None = None
        self._refusal_told = False
        # A message that is tried again is not overtaken by the next one to its channel.
        self._turns: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def publish(self, data: bytes, names: Sequence[str]) -> None:
        """Publish `data` to every channel; `BridgeChannelsBackend.publish` says what is raised and logged."""
        done = await asyncio.gather(*(self._publish(name, data) for name in names), return_exceptions=True)
        for error in filter(None, done):
            if not called_by_the_plugins_worker():
                raise error
            if isinstance(error, PublishError):
                self._note_refusal(error)
            else:
                logger.error("a message to %s cannot be published: %s", ", ".join(map(repr, names)), error)
            return
        self._refused_since, self._refusal_told = None, False

    async def _publish(self, name: str, data: bytes) -> None:
        async with self._turns.setdefault((asyncio.get_running_loop(), name), asyncio.Lock()):
            await self._publish_until_over(name, data)

    async def _publish_until_over(self, name: str, data: bytes) -> None:
        publication = Publication(topic_name(self._prefix, name), data)
        while True:
            try:
                with self._hold(name) as hold:
                    await publish_to(self._transport, publication, hold)
                return
            except PublishError:
                if self._refused_since is None:
                    self._refused_since = time.monotonic()
                over = time.monotonic() - self._refused_since > self._transport.timeout
                if over or not self._transport.backend.replays or self._transport.closed:
                    raise
            publication.repeated = True
            await asyncio.sleep(self._poll_interval)

    def _note_refusal(self, error: PublishError) -> None:
        """Log once an outage that messages are lost."""
        if not self._refusal_told:
            self._refusal_told = True
            logger.error("the backend takes no messages, those published until it does are lost: %s", error)


def called_by_the_plugins_worker() -> bool:
    """Whether the running task is the one in which `ChannelsPlugin.publish` publishes."""
    task = asyncio.current_task()
    code = getattr(task.get_coro() if task else None, "cr_code", None)
    return code is not None and code is ChannelsPlugin._pub_worker.__code__
