"""Publishes, and reads for callers that wait. One step for the caller is one script on the server."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

# `Any` in this module: redis-py declares no type for the answers of scripts.
from typing import Any

import redis

from bridge.backends.base import Listed, States, TopicNames
from bridge.backends.redis import listing
from bridge.backends.redis.frames import MARK, live_frame
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.listed import read_listed
from bridge.backends.redis.listener import RedisListener
from bridge.backends.redis.publish import Call, group_call, publish_call, send_call, size_of
from bridge.backends.redis.replies import parse_head, parse_messages, parse_states
from bridge.backends.redis.scripts import Scripts
from bridge.backends.redis.servers import ERRORS, MOVED_AWAY, Servers
from bridge.backends.redis.states import states_call
from bridge.errors import BridgeError, ConnectionLost, MessageRefused, PublishError
from bridge.model.message import Message
from bridge.model.position import Position, position_of_id
from bridge.model.publication import MAX_MEMBERS, Publication
from bridge.model.state import END, MAX_ENTRIES, MAX_ENTRY_BYTES, MAX_ROWS, Retention
from bridge.support.recent import Recent

MAX_RENEWED = 100
"""Topics renewed in one step."""

MAX_KNOWN = 1000
"""The topics whose last confirmed id is remembered: those published to most recently."""

MAX_BATCH = 50
"""Messages published in one step; the server does nothing else meanwhile."""

MAX_BATCH_BYTES = 256 * 1024
"""Bytes published in one step, unless one message alone has more."""


class RedisBackend:
    """Carries messages: with a stream for each topic where `logged`, else by Pub/Sub alone."""

    def __init__(
        self, servers: Servers, keys: Keys, retention: Retention, *, sharded: bool, logged: bool
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._sharded = sharded
        self.replays = logged
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._scripts = Scripts(servers, _settings(retention, self._command))
        # The last confirmed id by topic. Threads change it without a lock: see `Recent`.
        self._known: Recent[str, str] = Recent(MAX_KNOWN)

    def publish(self, publication: Publication) -> Position | None:
        try:
            try:
                return self._publish_once(publication)
            except MOVED_AWAY:
                # Closed while it was idle, or failed over; with the token nothing is published twice.
                if not self.replays:
                    raise
                self._servers.refresh()
                publication.repeated = True
                return self._publish_once(publication)
        except ERRORS as error:  # `_errors` costs a microsecond for each message
            raise self._translated(error, PublishError, "did not take the message", publication) from error

    def publish_many(self, publications: Sequence[Publication]) -> int:
        published = 0
        while published < len(publications):
            try:
                done = self._publish_together(publications[published:])
            except PublishError:
                if not published:
                    raise
                break
            published += done
        return published

    def _publish_together(self, publications: Sequence[Publication]) -> int:
        """Publish the first of `publications`, as many as go in one step; return how many."""
        if self._servers.one_slot or not self.replays:
            self.publish(publications[0])
            return 1
        together = publications[: _fitting(publications)]
        with self._errors(PublishError, "did not take the messages", publications[0]):
            try:
                return len(self._publish_batch(together))
            except MOVED_AWAY:
                # Closed while it was idle, or failed over; with the token nothing is published twice.
                self._servers.refresh()
                for publication in together:
                    publication.repeated = True
                return len(self._publish_batch(together))
            except redis.exceptions.NoPermissionError:
                # The server refuses all keys of a call if one is forbidden: use those of the first message.
                return len(self._publish_batch(publications[:1]))

    def _publish_batch(self, publications: Sequence[Publication]) -> list[Any]:
        """Publish messages in one step up to the first that fails; return the answers to the others."""
        call = publish_call(self._keys, self._known, publications, with_groups=not self._servers.one_slot)
        answer = self._run(call)
        answers: list[Any] = answer if isinstance(answer, list) else [answer]
        for publication, answer in zip(publications, answers, strict=False):
            if answer:
                self._confirm(publication.topic, answer[0] if isinstance(answer, list) else answer)
        return answers

    def _publish_once(self, publication: Publication) -> Position | None:
        if not self.replays:
            self._send(publication)
            return None
        one_slot = self._servers.one_slot
        answer = self._run(publish_call(self._keys, self._known, [publication], with_groups=not one_slot))
        if isinstance(answer, list):
            (answer,) = answer
        if not answer:  # the change is refused, or the part brings no news
            return None
        message_id, counts, *tokens = answer if isinstance(answer, list) else (answer, b"", publication.token)
        confirmed = self._confirm(publication.topic, message_id)
        if one_slot:
            for token in tokens:
                self._publish_to_groups(_with_token(publication, token), counts)
        return position_of_id(confirmed)

    def _publish_to_groups(self, publication: Publication, counts: bytes) -> None:
        """Publish to the groups, which are on other nodes of the cluster."""
        for group in () if publication.change is None else publication.change.groups:
            known = self._known.get(group.topic, "")
            message_id = self._run(group_call(self._keys, publication, group, counts, known))
            if message_id is not None:
                self._confirm(group.topic, message_id)

    def _send(self, publication: Publication) -> None:
        """Publish where no messages are kept."""
        if publication.change is None:
            frame = live_frame(publication.payload, publication.type)
            self._servers.send(self._command, self._keys.channel(publication.topic), frame)
        else:
            self._run(send_call(self._keys, publication, publication.change))

    def _confirm(self, topic: str, message_id: bytes) -> str:
        """Remember the id of a confirmed message: a server that does not have it has lost some. Return it."""
        known = self._known[topic] = message_id.decode()
        return known

    def _run(self, call: Call) -> Any:
        return self._scripts.run(*call)

    def history(self, topic: str, limit: int) -> list[Message]:
        with self._errors(ConnectionLost, "did not answer"):
            keys = self._keys.of_message(topic)
            epoch, entries = self._scripts.run("read_last", keys, [limit])
            return parse_messages(topic, epoch, entries[::-1])

    def acknowledged(self, topic: str, name: str) -> Position:
        with self._errors(ConnectionLost, "did not answer"):
            names = self._keys.of(topic)
            place: bytes = self._scripts.run("read_acknowledged", [names.durable, names.meta], [name])
            return parse_head(place.split(b" "))

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        with self._errors(PublishError, "did not take the acknowledgement"):
            keys = [self._keys.of(topic).durable]
            self._scripts.run("acknowledge", keys, [name, *position, int(back)])

    def renew(self, topics: Sequence[str]) -> None:
        size = 1 if self._servers.one_slot else MAX_RENEWED
        with self._errors(PublishError, "did not renew what it keeps"):
            for start in range(0, len(topics), size):
                some = topics[start : start + size]
                keys = [key for topic in some for key in self._keys.of_everything(topic)]
                self._scripts.run("renew", keys, [])

    def states(self, topic: str, after: str | None = None) -> States:
        with self._errors(ConnectionLost, "did not answer"):
            head, states, names, more = self._read_states(topic, after)
            for name in names:
                states += self._read_states(name.decode(), None)[1]
            position = parse_head(head) if self.replays else None
            return States(topic, parse_states(states), position, after, more.decode() if more else None)

    def _read_states(self, topic: str, after: str | None) -> Any:
        return self._run(states_call(self._keys, topic, after, self._servers.one_slot))

    def listed(self, group: str, before: str | None, limit: int) -> Listed:
        with self._errors(ConnectionLost, "did not answer"):
            return read_listed(self._servers, self._scripts, self._keys, group, before, limit)

    def count_listed(self, group: str) -> int:
        with self._errors(ConnectionLost, "did not answer"):
            return int(self._servers.send("ZCARD", self._keys.of(group).members))

    def field(self, topic: str, name: str) -> bytes | None:
        with self._errors(ConnectionLost, "did not answer"):
            value: bytes | None = self._servers.send("HGET", self._keys.meta(topic), f".{name}")
            return value

    def remove_fields(self, topic: str, names: Sequence[str]) -> None:
        with self._errors(PublishError, "did not remove what it keeps"):
            self._servers.send("HDEL", self._keys.meta(topic), *(f".{name}" for name in names))

    def topics(self, limit: int) -> TopicNames:
        with self._errors(ConnectionLost, "did not answer"):
            return listing.topics(self._servers, self._keys, limit)

    def namespaces(self, topic: str) -> list[str]:
        with self._errors(ConnectionLost, "did not answer"):
            return listing.namespaces(self._servers, self._keys, topic)

    def ping(self) -> None:
        with self._errors(ConnectionLost, "did not answer"):
            self._servers.send("PING")

    def open_listener(self) -> RedisListener:
        with self._errors(ConnectionLost, "cannot be reached"):
            self._servers.refresh()
        scripts, sharded, logged = self._scripts, self._sharded, self.replays
        return RedisListener(self._servers, self._keys, scripts, sharded=sharded, logged=logged)

    def close(self) -> None:
        self._servers.close()

    @contextmanager
    def _errors(
        self, kind: type[BridgeError], what: str, publication: Publication | None = None
    ) -> Iterator[None]:
        """Translate the driver's errors; if a permission is missing, name those that `publication` needs."""
        try:
            yield
        except ERRORS as error:
            raise self._translated(error, kind, what, publication) from error

    def _translated(
        self, error: Exception, kind: type[BridgeError], what: str, publication: Publication | None
    ) -> BridgeError:
        """Return the error of the bridge for one of the driver."""
        needs = ""
        is_forbidden = isinstance(error, redis.exceptions.NoPermissionError)
        if publication is not None and is_forbidden:
            needs = f"; it needs {self._keys.permissions_for(publication, self._command)}"
        if kind is PublishError and (is_forbidden or "WRONGTYPE" in str(error)):
            kind = MessageRefused
        return kind(f"{self._servers.address} {what}: {error}{needs}")


def _settings(retention: Retention, publish_command: str) -> dict[str, str | int | float]:
    """Return what the scripts find as local variables."""
    seconds = max(1, round(retention.seconds))
    return {
        "SECONDS": seconds,
        "UNENDED_SECONDS": max(1, round(retention.unended)),
        "UPKEEP_MILLISECONDS": seconds * 1000 / 64,
        "MAX_MESSAGES": retention.messages,
        "MAX_BYTES": retention.bytes,
        "SECTION_BYTES": retention.bytes / 16,
        "MAX_ENTRIES": MAX_ENTRIES,
        "MAX_ENTRY_BYTES": MAX_ENTRY_BYTES,
        "MAX_ROWS": MAX_ROWS,
        "MAX_MEMBERS": MAX_MEMBERS,
        "END_RANK": END,
        "PUBLISH_COMMAND": publish_command,
        "FRAME_MARK": MARK.decode(),
    }


def _fitting(publications: Sequence[Publication]) -> int:
    """Return how many of `publications`, at least one, are few and small enough for one step."""
    room = MAX_BATCH_BYTES
    for number, publication in enumerate(publications[:MAX_BATCH]):
        room -= size_of(publication)
        if room < 0:
            return max(1, number)
    return min(len(publications), MAX_BATCH)


def _with_token(publication: Publication, token: bytes) -> Publication:
    """Return the message with this token: `publication`, or the one that follows it up."""
    follow_up = publication.part.follow_up if publication.part is not None else None
    return follow_up if follow_up is not None and follow_up.token == token else publication
