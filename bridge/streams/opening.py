"""Opening: a stream from its acceptance until its connection is taken over or its response ends."""

import random
from collections.abc import Sequence

from bridge.errors import SubscriptionClosed
from bridge.streams import sse
from bridge.streams.access.grant import Grant
from bridge.streams.availability import BackendAvailability
from bridge.streams.cursor import Cursor
from bridge.streams.encoder import resets
from bridge.streams.limits import Client
from bridge.streams.loop import Loop
from bridge.streams.takeover.connection import TakenConnection
from bridge.streams.viewer import Viewer


class Opening:
    """A stream that was accepted. It counts in the limits until `close`, or until its viewer leaves.

    For one thread at a time: that of the server, which runs the response.
    """

    def __init__(
        self,
        loop: Loop,
        availability: BackendAvailability,
        topics: Sequence[str],
        cursor: Cursor,
        client: Client,
        *,
        replays: bool,
        grant: Grant | None = None,
    ) -> None:
        self._loop = loop
        self._availability = availability
        self._topics = topics
        self._cursor = cursor
        self._client: Client | None = client  # `None` once the stream is closed, or the viewer counts
        self._viewer: Viewer | None = None
        self._replays = replays
        self._grant = grant
        self.seconds_to_wait = 0.0
        """How long the response may wait for `viewer.wait_established`, once the stream is open."""

    def open(self) -> Viewer | None:
        """Subscribe; return the viewer, or `None` if this stream or the channel is closed."""
        if self._client is None:
            return None
        self.seconds_to_wait = self._availability.seconds_to_wait()
        try:
            self._viewer = self._loop.open(self._topics, self._cursor, self._client, self._grant)
        except SubscriptionClosed:
            return None
        self._client = None
        return self._viewer

    def first_chunk(self, viewer: Viewer, *, established: bool) -> bytes:
        """Return the first chunk of the response. `established` is the result of the wait for the backend."""
        if not established:
            self._availability.note_unanswered(viewer, self.seconds_to_wait)
        retry = sse.retry(sse.RETRY_SECONDS * random.uniform(0.75, 1.25))
        return retry if established else retry + sse.comment("waiting for the backend")

    def resets(self) -> bytes:
        """Return the events that follow the first chunk if the viewer's cursor cannot be used."""
        return resets(self._topics, self._cursor, with_ids=self._replays)

    def adopt(self, connection: TakenConnection) -> None:
        """Let the loop serve the viewer through its own connection. The response must end."""
        viewer, self._viewer = self._viewer, None
        if viewer is not None:
            self._loop.adopt(viewer, connection, self.resets())

    def close(self) -> None:
        """End the stream, unless its connection was taken over. May be called again."""
        viewer, self._viewer = self._viewer, None
        client, self._client = self._client, None
        if viewer is not None:
            self._loop.close(viewer)
        elif client is not None:
            self._loop.limits.release(client)
