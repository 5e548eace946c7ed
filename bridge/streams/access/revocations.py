"""Revocations: which tokens no longer count, in every process, and until they would have expired.

A revocation is a message on an internal topic. It also sets a field in the state of that topic, so a process
that starts later reads it there. The name of the topic has a control character, so no application can read
or write it by a view of the channel, and no stream shows it. Subjects, ids and topics are kept as digests:
they may be long, and need not be known to whoever reads the backend.
"""

import hashlib
import json
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence

# `Any` in this module: the readers that the hub hands to `_post`, all of them this object; and JSON.
from typing import Any, NamedTuple

from bridge.backends.base import Item, States
from bridge.channel.transport import Transport
from bridge.errors import ConnectionLost, PublishError, SubscriptionClosed
from bridge.model.publication import Change, Publication
from bridge.model.state import TopicState
from bridge.support.validate import INTERNAL, check_name

logger = logging.getLogger("bridge.streams.revocations")

TOPIC = f"{INTERNAL}revocations"
"""The internal topic."""

SUBJECT, TOKEN_ID, OF_TOPIC = "subject", "token_id", "topic"
KINDS = (SUBJECT, TOKEN_ID, OF_TOPIC)

WAIT = 1.0
"""Seconds after the first use of a process in which a request waits for the revocations."""

JOIN_AGAIN_AFTER = 10.0
"""Seconds after which the hub is joined again if it has closed this reader. It may log why each time."""

REMOVED_AT_ONCE, RESTORED_AT_ONCE = 500, 50
"""Revocations that are removed from the backend, or published again, with one call."""


class Revocation(NamedTuple):
    """What was revoked, and what it refuses. Times are in seconds since the epoch."""

    kind: str
    digest: str
    at: float
    """Tokens that were issued at this time or before are refused."""
    until: float
    """All of them have expired then."""

    @property
    def field(self) -> str:
        """The name of its field in the state. Another revocation of the same has another one."""
        return f"{self.kind}:{self.digest}:{self.at!r}"

    def encode(self) -> bytes:
        """Return the JSON of the message, which is also the value of the field."""
        return json.dumps({"v": 1, "type": "revocation", **self._asdict()}).encode()


def decode(payload: bytes) -> Revocation | None:
    """Return the revocation in `payload`, or `None`: newer versions may publish other things."""
    try:
        found: Any = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    match found:
        case {"kind": str(kind), "digest": str(digest), "at": float(at), "until": float(until)}:
            return Revocation(kind, digest, at, until)
    return None


def digest_of(value: str) -> str:
    """Return what stands for a subject, an id or a topic. A token may contain a lone surrogate."""
    return hashlib.blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


class Revocations:
    """The revocations that a process knows. It is a reader of the hub. Threads and greenlets may share it."""

    topics = frozenset({TOPIC})
    stateful = opens_with_state = True

    def __init__(self, transport: Transport, *, lifetime: float) -> None:
        """`lifetime` is the longest time that a token counts after it was issued, in seconds."""
        self._transport = transport
        self._lifetime = lifetime
        self.on_new: Callable[[frozenset[str]], None] | None = None
        """Called when revocations arrive, with the digests of revoked topics. Must not block."""
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Nothing that the parent reads arrives here."""
        self._lock = threading.Lock()  # Guards the changes of what follows.
        self._latest: dict[tuple[str, str], float] = {}  # `at` by kind and digest
        self._fields: dict[str, Revocation] = {}
        self._unheard: set[str] = set()  # fields that this process published and has not received
        self._loaded = threading.Event()
        self._is_used = False
        self._joined_at: float | None = None
        self._join_again_at = 0.0

    # Any thread.

    def join(self) -> None:
        """Begin to read, unless this is done. Returns at once."""
        if self._joined_at is not None:
            return
        with self._lock:
            now = time.monotonic()
            if self._joined_at is not None or now < self._join_again_at:
                return
            self._joined_at, self._is_used = now, True
        try:
            self._transport.hub.join(self)
        except SubscriptionClosed as error:
            self.fail(error)

    @property
    def missing(self) -> bool:
        """Whether revocations matter in this process, and the backend has not answered yet what they are."""
        return self._is_used and not self._loaded.is_set()

    def worth_waiting(self) -> bool:
        """Join; return whether it is not known yet what was revoked, and `wait` may help."""
        if self._loaded.is_set():
            return False
        self.join()
        joined_at = self._joined_at
        return joined_at is not None and time.monotonic() < joined_at + WAIT

    def wait(self) -> None:
        """Wait until it is known what was revoked, up to `WAIT` seconds after the first call of `join`."""
        joined_at = self._joined_at
        if joined_at is not None:
            self._loaded.wait(max(0.0, joined_at + WAIT - time.monotonic()))

    def refuses(self, subject: str, token_id: str, issued_at: float, topics: Iterable[str] = ()) -> bool:
        """Return whether a token is revoked, or one of the `topics` for which it is to count.

        `issued_at` is in seconds since the epoch. An empty subject or id matches nothing.
        """
        latest = self._latest
        if not latest:
            return False
        named = [(SUBJECT, subject), (TOKEN_ID, token_id), *((OF_TOPIC, topic) for topic in topics)]
        return any(
            issued_at <= latest.get((kind, digest_of(value)), float("-inf")) for kind, value in named if value
        )

    def revoke(self, *, subject: str | None, token_id: str | None, topic: str | None) -> None:
        """Revoke each that is given, in every process. Raises `ValueError` and `PublishError`."""
        named = {SUBJECT: subject, TOKEN_ID: token_id, OF_TOPIC: topic}
        given = {kind: value for kind, value in named.items() if value is not None}
        if not given:
            raise ValueError("revoke() takes a subject, a token_id or a topic")
        for kind, value in given.items():
            if kind == OF_TOPIC:
                check_name(value, "a topic")
            elif not isinstance(value, str) or not value:
                raise ValueError(f"{kind} must be a str that is not empty, not {value!r}")
        self.join()
        now = time.time()
        until = now + self._lifetime
        # An id is never given twice, so it does not matter when the token was issued.
        made = [
            Revocation(kind, digest_of(value), until if kind == TOKEN_ID else now, until)
            for kind, value in given.items()
        ]
        fields = {each.field for each in made}
        with self._lock:
            self._unheard |= fields
        try:
            for revocation in made:
                self._transport.publish(_publication(revocation))
        except PublishError:
            with self._lock:
                self._unheard -= fields
            raise
        self._add(made, is_live=True)
        self._remove_expired()

    # The methods of a reader, which the hub calls.

    @property
    def post(self) -> Callable[[Sequence[Any], Sequence[Item]], None]:
        return self._post

    def _post(self, readers: Sequence[Any], items: Sequence[Item]) -> None:
        for item in items:
            if isinstance(item, States):
                self._load(_revocations_in(item.states))
            else:
                heard = list(filter(None, [decode(item)]))
                with self._lock:
                    self._unheard.difference_update(each.field for each in heard)
                self._add(heard, is_live=True)

    def establish(self, topic: str) -> None:
        """After a lost connection, see whether the backend still has what this process published last.

        If it lost that before the hub received it, the topic looks as it did before.
        """
        if self._unheard and self._loaded.is_set():
            threading.Thread(target=self._load_again, name="bridge-revoke", daemon=True).start()

    def room(self, items: Sequence[Item]) -> int:
        return len(items)

    def fail(self, reason: SubscriptionClosed) -> None:
        """Join again later."""
        with self._lock:
            self._joined_at = None
            self._join_again_at = time.monotonic() + JOIN_AGAIN_AFTER
            self._loaded.clear()

    # What is known.

    def _load_again(self) -> None:
        try:
            states = self._transport.states(TOPIC)
        except ConnectionLost:
            return  # the next connection asks again
        self._load(_revocations_in(states))

    def _load(self, kept: Sequence[Revocation]) -> None:
        """Note what the backend keeps. Publish again what it has lost, as by a restart without its data."""
        self._add(kept, is_live=self._loaded.is_set())
        self._loaded.set()
        known, now = {each.field for each in kept}, time.time()
        with self._lock:
            lost = [each for each in self._fields.values() if each.field not in known and each.until > now]
            self._unheard -= known
            self._unheard.update(each.field for each in lost)
        if lost:
            threading.Thread(target=self._restore, args=(lost,), name="bridge-revoke", daemon=True).start()

    def _restore(self, lost: Sequence[Revocation]) -> None:
        try:
            for start in range(0, len(lost), RESTORED_AT_ONCE):
                some = [_publication(each) for each in lost[start : start + RESTORED_AT_ONCE]]
                while some:
                    some = some[self._transport.publish_many(some) :]
        except PublishError as error:
            logger.warning(
                "the backend has lost %d revocations and did not take them again. This process still refuses "
                "those tokens, one that starts later does not; revoke again: %s",
                len(lost),
                error,
                extra={"event": "revocations_lost", "count": len(lost), "error": str(error)},
            )

    def _add(self, found: Iterable[Revocation], *, is_live: bool) -> None:
        """Note revocations. Unless they are live, they were published before this process asked anyone."""
        with self._lock:
            new = [each for each in found if each.field not in self._fields]
            for each in new:
                key = each.kind, each.digest
                self._fields[each.field] = each
                self._latest[key] = max(each.at, self._latest.get(key, 0.0))
        if new and self.on_new is not None:
            topics = {each.digest for each in new if each.kind == OF_TOPIC}
            self.on_new(frozenset(topics) if is_live else frozenset())

    def _remove_expired(self) -> None:
        """Forget what refuses no token any more, here and in the backend."""
        with self._lock:
            now = time.time()
            expired = [each for each in self._fields.values() if each.until < now][:REMOVED_AT_ONCE]
        if not expired:
            return
        try:
            self._transport.backend.remove_fields(TOPIC, [each.field for each in expired])
        except PublishError:
            return  # the next revocation tries again
        with self._lock:
            for each in expired:
                self._fields.pop(each.field, None)
                if self._latest.get((each.kind, each.digest)) == each.at:
                    del self._latest[each.kind, each.digest]


def _revocations_in(states: Iterable[TopicState]) -> list[Revocation]:
    """Return what the state of the topic says."""
    kept = (value for state in states for value in state.fields.values())
    return list(filter(None, map(decode, kept)))


def _publication(revocation: Revocation) -> Publication:
    payload = revocation.encode()
    change = Change(rank=0, final=False, fields={revocation.field: payload}, entry=False, groups=())
    return Publication(TOPIC, payload, change=change)
