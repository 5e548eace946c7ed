"""A stream as the response of a WSGI application.

As soon as the head is sent, the connection is taken over from the server and given to the loop, and the
request is finished: a viewer needs no thread and no greenlet. Where a takeover is not possible, the response
goes on, and sends what the loop puts into the viewer's backlog.
"""

import itertools
import random
from collections.abc import Callable, Iterator

# `Any` in this module: the values of a WSGI environ, whose types depend on the server.
from typing import Any

from bridge.streams import sse
from bridge.streams.opening import Opening
from bridge.streams.refusal import COME_BACK_AFTER
from bridge.streams.service import StreamService
from bridge.streams.takeover.wsgi import Takeover
from bridge.support.server import uncount_request


class WSGIStream:
    """An iterable for a WSGI server. The stream opens when the server asks for the first chunk.

    Servers send the head of the response with it, as WSGI demands. a2wsgi sends the head before, so there the
    stream opens at once: a client that sees the head may rely on what is published from then on.

    `on_fallback` is called once, by the server's thread, if the connection cannot be taken over.
    """

    def __init__(
        self,
        service: StreamService,
        opening: Opening,
        environ: dict[str, Any],
        *,
        on_fallback: Callable[[], None] | None = None,
    ) -> None:
        self._service = service
        self._opening = opening
        self._takeover = Takeover(environ)
        self._on_fallback = on_fallback
        self._chunks: Iterator[bytes] = self._run()
        if "asgi.scope" in environ:
            self._chunks = itertools.chain([next(self._chunks, b"")], self._chunks)

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._chunks)

    def close(self) -> None:
        """Called by the server when the response ends: its viewer left, or its connection is taken over."""
        self._takeover.close()
        self._opening.close()

    def _run(self) -> Iterator[bytes]:
        opening, takeover = self._opening, self._takeover
        uncount_request()
        viewer = opening.open()
        if viewer is None:
            return
        established = viewer.wait_established(opening.seconds_to_wait)
        connection = yield from takeover.take(opening.first_chunk(viewer, established=established))
        if connection is not None:
            opening.adopt(connection)
            return
        if takeover.exhausted:
            # Kept by the server, the stream would hold a thread, under `sync` the whole worker.
            yield sse.retry(random.uniform(*COME_BACK_AFTER))
            return
        self._service.note_not_taken_over(takeover.refusal)
        if self._on_fallback is not None:
            self._on_fallback()
        if resets := opening.resets():
            yield resets
        while not (viewer.closed or (viewer.finished and not viewer.backlog)):
            yield viewer.take(self._service.settings.heartbeat) or self._service.loop.silence
            if viewer.full:
                self._service.loop.announce_room(viewer)
        opening.close()
