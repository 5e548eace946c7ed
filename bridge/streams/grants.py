"""Grants: ends the streams whose token expires or that have lasted long enough, and asks again for others.

A viewer that may read for ever costs nothing here. The others are kept by the second in which something is
to be done for them.
"""

import logging
import math
import random
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from bridge.streams import sse
from bridge.streams.access.grant import Grant
from bridge.streams.asker import Asker
from bridge.streams.refusal import Refusal
from bridge.streams.rendering import Text
from bridge.streams.selector_thread import SelectorThread
from bridge.streams.viewer import Viewer
from bridge.tasks import events
from bridge.tasks.event_types import Expired

logger = logging.getLogger("bridge.streams.grants")

ANSWER_WITHIN = 10.0
"""Seconds after which the log says that the application has not answered."""

TOKEN_EXPIRED = "the token has expired"  # noqa: S105 - not a token
NOT_ALLOWED = "not allowed any more"


class Grants:
    """The grants of a process. Only the loop's thread uses it, except for `add`."""

    def __init__(self, thread: SelectorThread, write: Callable[[Viewer, Text], None]) -> None:
        """`write` sends a viewer a text."""
        self._thread = thread
        self._write = write
        self._asker = Asker()
        self._new: deque[Viewer] = deque()
        self._by_second: dict[int, set[Viewer]] = {}
        self._ticked = int(time.monotonic())
        self._is_logged = False

    def add(self, viewer: Viewer) -> None:
        """Take care of a viewer that has a grant, from the next tick on. Any thread may call it."""
        self._new.append(viewer)

    def remove(self, viewer: Viewer) -> None:
        """Forget a viewer, if it is kept."""
        grant = viewer.grant
        if grant is None or grant.second is None:
            return
        second, grant.second = grant.second, None
        viewers = self._by_second[second]
        viewers.discard(viewer)
        if not viewers:
            del self._by_second[second]

    def tick(self) -> None:
        """Do what is due. The loop calls it once a second."""
        while self._new:
            self._keep(self._new.popleft())
        last, self._ticked = self._ticked, int(self._thread.now)
        for second in range(last + 1, self._ticked + 1):
            for viewer in list(self._by_second.get(second, ())):
                self.remove(viewer)
                self._check(viewer)

    def end(self, viewer: Viewer, reason: str) -> None:
        """End a stream that may not go on. Its cursor stays, so that it resumes if it is allowed again."""
        self.remove(viewer)
        text = sse.frame(events.encode(Expired(reason)), event="expired")
        why = "expired" if reason == TOKEN_EXPIRED else "revoked"
        self._write(viewer, Text(text, final=True, reason=why))

    def _keep(self, viewer: Viewer) -> None:
        """Keep a viewer until something is to be done for it, at the next tick at the earliest."""
        grant = viewer.grant
        if grant is None or viewer.closed or viewer.finished or (at := grant.next_at()) == math.inf:
            return
        grant.second = max(self._ticked + 1, int(at))
        self._by_second.setdefault(grant.second, set()).add(viewer)

    def _check(self, viewer: Viewer) -> None:
        grant, now = viewer.grant, self._thread.now
        if grant is None or viewer.closed or viewer.finished:
            return
        if now >= grant.expires_at:
            self.end(viewer, TOKEN_EXPIRED)
        elif now >= grant.leave_at:
            self._write(viewer, come_back("lifetime"))
        else:
            if now >= grant.ask_at:
                self._ask(viewer, grant)
            self._keep(viewer)

    # Asking again.

    def _ask(self, viewer: Viewer, grant: Grant) -> None:
        if grant.is_asked:
            grant.ask_at = math.inf
            self._note_failure(f"has not answered for {ANSWER_WITHIN:g} seconds")
        elif grant.ask is not None:
            grant.is_asked = True
            grant.ask_at = self._thread.now + ANSWER_WITHIN
            self._asker.submit(partial(self._call, viewer, grant.ask))

    def _call(self, viewer: Viewer, ask: Callable[[], float | None]) -> None:
        """Ask, in a thread of the asker."""
        answer: float | Exception | None
        try:
            answer = ask()
        except Exception as error:
            answer = error
        self._thread.do(self._answered, viewer, answer)

    def _answered(self, viewer: Viewer, answer: float | Exception | None) -> None:
        grant = viewer.grant
        if grant is None or viewer.closed or viewer.finished:
            return
        self.remove(viewer)
        grant.is_asked = False
        if isinstance(answer, Refusal):
            self.end(viewer, NOT_ALLOWED)
            return
        if isinstance(answer, Exception):
            self._note_failure("raised an exception", answer)
        else:
            self._is_logged = False
            grant.ask_after = math.inf if answer is None else answer
        grant.ask_at = self._thread.now + grant.ask_after
        self._keep(viewer)

    def _note_failure(self, what: str, error: Exception | None = None) -> None:
        """Log the first failure, until an answer comes again."""
        if not self._is_logged:
            self._is_logged = True
            logger.error(
                "the function that decides who may read %s when it was asked again about an open stream; the "
                "stream stays open, and it is asked again after the same time",
                what,
                exc_info=error,
                extra={"event": "decision_failed"},
            )


def come_back(reason: str) -> Text:
    """Return the end of a stream that may open again. Not all browsers come back at the same time.

    `reason` is one word for metrics.
    """
    retry = sse.retry(sse.RETRY_SECONDS * random.uniform(0.25, 2.0))
    return Text(retry + sse.HEARTBEAT, final=True, reason=reason)
