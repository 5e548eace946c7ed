"""Browser streams: from the response of a WSGI application to a viewer that the loop serves.

As soon as the head is out, the connection is taken over from the server and given to the loop, and the
request is over: no thread, no greenlet a viewer. Where that cannot be, the response goes on and takes from
its viewer what the loop puts there.
"""

import logging
import random
from collections.abc import Iterator, Sequence
from typing import Any

from bridge.channel.transport import Transport
from bridge.errors import SubscriptionClosed
from bridge.streams import sse
from bridge.streams.availability import BackendAvailability
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import resets
from bridge.streams.limits import LimitReached, ViewerLimits
from bridge.streams.loop import Loop
from bridge.streams.takeover.wsgi import Takeover, close_after_response
from bridge.streams.viewer import Viewer
from bridge.support.server import uncount_request

logger = logging.getLogger("bridge.streams.service")


COME_BACK_AFTER = (5, 15)
"""Seconds, drawn between these, after which a viewer for whom there was no room may ask again."""


REMEDY = {
    LimitReached.PROCESS: "run more processes, or raise BRIDGE_MAX_VIEWERS or `ulimit -n`",
    LimitReached.ADDRESS: "behind a proxy all clients have one address, unless the app knows it (ProxyFix)",
    LimitReached.DESCRIPTORS: "raise `ulimit -n`, or let the server keep fewer idle connections open",
}


class Stream:
    """A stream as a WSGI iterable. It begins, and subscribes, when the server asks for the first chunk."""

    def __init__(
        self, viewers: "Viewers", environ: dict[str, Any], topics: Sequence[str], start: Cursor, address: str
    ) -> None:
        self._viewers = viewers
        self._address: str | None = address
        self._topics = topics
        self._start = start
        self._viewer: Viewer | None = None
        self._takeover = Takeover(environ)
        self._chunks = self._run()

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """The server is done with the response: its viewer has gone, or its connection was taken over."""
        viewer, self._viewer = self._viewer, None
        address, self._address = self._address, None
        self._takeover.close()
        if viewer is not None:
            self._viewers.loop.close(viewer)
        elif address is not None:
            self._viewers.limits.release(address)

    def _run(self) -> Iterator[bytes]:
        loop = self._viewers.loop
        if self._address is None:
            return  # closed before it began
        uncount_request()
        patience = self._viewers.waiting.patience()
        try:
            viewer = self._viewer = loop.open(self._topics, self._start, self._address)
        except SubscriptionClosed:
            return  # the app is shutting down
        self._address = None  # the seat goes with the viewer
        established = self._viewers.waiting.established(viewer, patience)
        taken = yield from self._takeover.take(_first_chunk(established))
        anew = resets(self._topics, self._start, with_ids=self._viewers.transport.backend.replays)
        if taken is not None:
            self._viewer = None
            loop.adopt(viewer, taken, anew)
            return
        if self._takeover.exhausted:
            # Kept by the server it would hold a thread, under `sync` the whole worker. It comes back.
            yield sse.retry(random.uniform(*COME_BACK_AFTER))
            return
        self._viewers.note_refusal(self._takeover.refusal)
        if anew:
            yield anew
        while not (viewer.gone or (viewer.over and not viewer.pending)):
            yield viewer.take(self._viewers.heartbeat) or sse.HEARTBEAT
            if viewer.full:
                loop.do(loop.tell_of_room, viewer)
        loop.close(viewer)


def _first_chunk(established: bool) -> bytes:
    retry = sse.retry(sse.RETRY_SECONDS * random.uniform(0.75, 1.25))
    return retry if established else retry + sse.comment("waiting for the backend")


class Viewers:
    """The streams that this process has open."""

    def __init__(
        self, transport: Transport, url: str, *, heartbeat: float, backlog: int, limits: ViewerLimits
    ) -> None:
        self.transport = transport
        self.heartbeat = heartbeat
        self.limits = limits
        self.waiting = BackendAvailability(transport, url)
        self.loop = Loop(transport, heartbeat=heartbeat, backlog=backlog, limits=limits)
        self.refusal: str | None = None
        self._refused: set[LimitReached] = set()

    def stream(
        self, environ: dict[str, Any], topics: Sequence[str], start: Cursor, address: str
    ) -> Stream | LimitReached:
        """Return a new stream of `topics`, for a WSGI server to iterate over and close, or the limit reached.

        `address` is that of the client, empty if unknown.
        """
        full = self.limits.take(address)
        if full is None:
            return Stream(self, environ, topics, start, address)
        if full is LimitReached.DESCRIPTORS:
            close_after_response(environ)  # kept, it would hold one of the few that are left
        if full not in self._refused:
            self._refused.add(full)
            logger.warning(
                "a stream was refused: %s; %s. Further ones are only counted", full.value, REMEDY[full]
            )
        return full

    def note_refusal(self, refusal: str | None) -> None:
        """Say once that streams occupy a thread or a greenlet each, and why."""
        if self.refusal is None:
            self.refusal = refusal or "unknown"
            logger.warning(
                "connections cannot be taken over, so each stream keeps a thread or greenlet: %s",
                self.refusal,
            )

    def stats(self) -> dict[str, int]:
        loop = self.loop
        return {
            "viewers": len(loop.viewers),
            "viewers_opened": loop.opened,
            "viewers_cut_off": loop.cut_off,
            "viewers_refused": self.limits.refused,
            "viewers_handed_over": loop.taken_over,
        }
