"""Ends the open streams that a revocation is about."""

from collections import deque

from bridge.streams.access.revocations import Revocations, digest_of
from bridge.streams.loop import Loop
from bridge.streams.viewer import Viewer
from bridge.support.fork import reset_in_child

REVOKED = "revoked"


class RevokedStreams:
    """The open streams of a process, and the revocations that arrive. Any thread may call it."""

    def __init__(self, loop: Loop, revocations: Revocations) -> None:
        self._loop = loop
        self._revocations = revocations
        self.reset_after_fork()
        reset_in_child(self)
        revocations.on_new = self.note
        loop.on_open = self.check_new

    def reset_after_fork(self) -> None:
        """The streams stayed in the parent."""
        self._topics: deque[frozenset[str]] = deque()
        self._is_noted = False

    def check_new(self, viewer: Viewer) -> None:
        """End a stream whose token was revoked since the request was decided."""
        if self._is_over(viewer, frozenset()):
            self._loop.end_some([viewer], REVOKED)

    def note(self, topics: frozenset[str]) -> None:
        """Check every stream soon. `topics` are the digests of topics that were revoked now."""
        self._topics.append(topics)
        if not self._is_noted:  # many revocations at once are one check
            self._is_noted = True
            self._loop.thread.do(self._check)

    def _check(self) -> None:
        self._is_noted = False
        topics = frozenset().union(*(self._topics.popleft() for _ in range(len(self._topics))))
        self._loop.end_where(lambda viewer: self._is_over(viewer, topics), REVOKED)

    def _is_over(self, viewer: Viewer, topics: frozenset[str]) -> bool:
        grant = viewer.grant
        if grant is not None and grant.issued_at is not None:
            revoked = self._revocations.refuses
            return revoked(grant.subject, grant.token_id, grant.issued_at, viewer.topics)
        # Without a token, the function of the application is asked when the stream opens again.
        return bool(topics) and not topics.isdisjoint(map(digest_of, viewer.topics))
