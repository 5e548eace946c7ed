"""The publishing side: what is one step for the caller is one script on the server."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis

from bridge.backends.base import States
from bridge.backends.redis import publishing, scripts
from bridge.backends.redis.batch import Batch, fields_of, part_of, size_of
from bridge.backends.redis.keys import Keys, position_in, position_of, states_of
from bridge.backends.redis.listener import RedisListener, messages_of, states_call
from bridge.backends.redis.servers import ERRORS, MOVED_AWAY, Servers
from bridge.errors import BridgeError, ConnectionLost, MessageRefused, PublishError
from bridge.model.message import Message
from bridge.model.position import Position
from bridge.model.publication import Change, Part, Publication
from bridge.model.state import END, MAX_ENTRIES, MAX_MEMBERS, MAX_ROWS, Retention

RENEWED_TOGETHER = 100
"""Topics renewed in one step."""

KNOWN_PLACES = 1000
"""Topics of which the last confirmed place is remembered, those published to most recently."""

TOGETHER = 50
"""Messages published in one step; the server does nothing else meanwhile."""

TOGETHER_BYTES = 256 * 1024
"""Bytes published in one step, unless one message alone has more."""


class RedisBackend:
    """Carries messages: with a log where `logged`, else by Pub/Sub alone."""

    def __init__(
        self, servers: Servers, keys: Keys, retention: Retention, *, sharded: bool, logged: bool
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._sharded = sharded
        self.replays = logged
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._constants = {
            "$SECONDS": keys.seconds,
            "$UNENDED": keys.unended,
            "$END": END,
            "$UPKEEP": keys.seconds * 1000 / 64,
            "$KEEP": retention.messages,
            "$COMMAND": self._command,
            "$ENTRIES": MAX_ENTRIES,
            "$LINES": MAX_ROWS,
            "$MEMBERS": MAX_MEMBERS,
        }
        self._digests: dict[str, str] = {}
        self._known: dict[str, bytes] = {}

    def publish(self, publication: Publication) -> Position | None:
        with self._errors(PublishError, "did not take the message", publication):
            try:
                return self._publish_once(publication)
            except MOVED_AWAY:
                # Closed while it was idle, or failed over; with the token nothing is published twice.
                if not self.replays:
                    raise
                self._servers.refresh()
                publication.repeated = True
                return self._publish_once(publication)

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
                # The server refuses the keys of a call as a whole: ask for those of the first message.
                return len(self._publish_batch(publications[:1]))

    def _publish_batch(self, publications: Sequence[Publication]) -> list[Any]:
        """Publish messages in one step up to the first that fails; return the answers to the others."""
        batch = Batch(self._keys, grouped=not self._servers.one_slot)
        known = {publication.topic: self._known.get(publication.topic, b"") for publication in publications}
        for publication in publications:
            # What is known of a topic is compared once.
            batch.add(publication, known.pop(publication.topic, b""))
        answers: list[Any] = self._run(batch.script, batch.keys, batch.args)
        for publication, answer in zip(publications, answers, strict=False):
            if answer:
                self._confirm(publication.topic, answer[0] if isinstance(answer, list) else answer)
        return answers

    def _publish_once(self, publication: Publication) -> Position | None:
        topic, payload, change = publication.topic, publication.payload, publication.change
        token = publication.token
        if not self.replays:
            if change is None:
                self._servers.send(self._command, self._keys.channel(topic), payload)
            else:
                self._send_change(topic, payload, change, publication.part)
            return None
        if change is None and not publication.repeated:
            known = self._known.get(topic, b"")
            args = [self._keys.channel(topic), payload, token, known]
            answer = self._run(publishing.PUBLISH, self._keys.of_message(topic), args)
            self._confirm(topic, answer)
            return position_in(answer)
        answer = self._publish_batch([publication])[0]
        if not answer:  # refused, or no news
            return None
        place, payloads = (answer[0], answer[1:]) if isinstance(answer, list) else (answer, [payload])
        if change is not None and self._servers.one_slot:
            for number, told in enumerate(payloads, 1):
                self._publish_to_group(
                    topic, told, change, token if number == 1 else b"%s%d" % (token, number)
                )
        return position_in(place)

    def _publish_to_group(self, topic: str, payload: bytes, change: Change, token: bytes) -> None:
        keys, group = self._keys, change.group
        known = self._known.get(group, b"")
        args = [keys.channel(group), payload, token, known, topic.encode(), int(change.listed)]
        place = self._run(publishing.PUBLISH_TO_GROUP, keys.of_group(group), args)
        if place is not None:
            self._confirm(group, place)

    def _confirm(self, topic: str, place: bytes) -> None:
        """Remember the place of a confirmed message: a server that knows it no more has lost some."""
        self._known.pop(topic, None)
        self._known[topic] = place
        if len(self._known) > KNOWN_PLACES:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread was faster
                del self._known[next(iter(self._known))]

    def _send_change(self, topic: str, payload: bytes, change: Change, part: Part | None) -> None:
        own, group = self._keys.of(topic), self._keys.of(change.group)
        args = [own.channel, group.channel, topic.encode(), int(change.listed)]
        if part is None:
            args += [payload, change.rank, int(change.final), int(change.entry), *fields_of(change)]
            self._run(publishing.SEND_CHANGE, [own.meta, own.entries, group.members], args)
        else:
            kept = [own.meta, own.entries, own.parts, own.shown, own.lines, group.members]
            self._run(publishing.SEND_PART, kept, [*args, *part_of(payload, change, part)])

    def _run(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script, which is sent only where the server does not know it yet."""
        try:
            return self._servers.send("EVALSHA", self._digest(script), len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self._servers.send("EVAL", self._text(script), len(keys), *keys, *args)

    def _text(self, script: str) -> str:
        for name, value in self._constants.items():
            script = script.replace(name, str(value))
        return script

    def _digest(self, script: str) -> str:
        digest = self._digests.get(script)
        if digest is None:
            text = self._text(script).encode()
            digest = self._digests[script] = hashlib.sha1(text, usedforsecurity=False).hexdigest()
        return digest

    def history(self, topic: str, limit: int) -> list[Message]:
        with self._errors(ConnectionLost, "did not answer"):
            keys = [self._keys.meta(topic), self._keys.log(topic)]
            epoch, entries = self._run(scripts.READ_LAST, keys, [limit])
            return messages_of(topic, epoch, entries[::-1])

    def acknowledged(self, topic: str, name: str) -> Position:
        with self._errors(ConnectionLost, "did not answer"):
            keys = [self._keys.of(topic).durable, self._keys.meta(topic)]
            return position_in(self._run(scripts.ACKNOWLEDGED, keys, [name.encode()]))

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        with self._errors(PublishError, "did not take the acknowledgement"):
            args: list[Any] = [name.encode(), *position, int(back)]
            self._run(scripts.ACKNOWLEDGE, [self._keys.of(topic).durable], args)

    def renew(self, topics: Sequence[str]) -> None:
        together = 1 if self._servers.one_slot else RENEWED_TOGETHER
        with self._errors(PublishError, "did not renew what it keeps"):
            for start in range(0, len(topics), together):
                some = topics[start : start + together]
                keys = [key for topic in some for key in self._keys.of_everything(topic)]
                self._run(scripts.RENEW, keys, [self._keys.unended, END])

    def states(self, topic: str, after: str | None = None) -> States:
        with self._errors(ConnectionLost, "did not answer"):
            head, rows, names, more = self._read_states(topic, after)
            for name in names:
                rows += self._read_states(name.decode(), None)[1]
            position = position_of(head) if self.replays else None
            return States(topic, states_of(rows), position, after, more.decode() if more else None)

    def _read_states(self, topic: str, after: str | None) -> Any:
        key, *args = states_call(self._keys, topic, after, self._servers.one_slot)
        return self._run(scripts.READ_STATES, [key], args)

    def field(self, topic: str, name: str) -> bytes | None:
        with self._errors(ConnectionLost, "did not answer"):
            found: bytes | None = self._servers.send("HGET", self._keys.meta(topic), f".{name}")
            return found

    def ping(self) -> None:
        with self._errors(ConnectionLost, "did not answer"):
            self._servers.send("PING")

    def open_listener(self) -> RedisListener:
        with self._errors(ConnectionLost, "cannot be reached"):
            self._servers.refresh()
        return RedisListener(self._servers, self._keys, sharded=self._sharded, logged=self.replays)

    def close(self) -> None:
        self._servers.close()

    @contextmanager
    def _errors(
        self, kind: type[BridgeError], what: str, publication: Publication | None = None
    ) -> Iterator[None]:
        """Translate the driver's errors; of a refused permission tell what `publication` needs."""
        try:
            yield
        except ERRORS as error:
            needs = ""
            forbidden = isinstance(error, redis.exceptions.NoPermissionError)
            if publication is not None and forbidden:
                needs = f"; it needs {self._keys.needed(publication, self._command)}"
            if kind is PublishError and (forbidden or "WRONGTYPE" in str(error)):
                kind = MessageRefused
            raise kind(f"{self._servers.address} {what}: {error}{needs}") from error


def _fitting(publications: Sequence[Publication]) -> int:
    """Return how many of `publications`, at least one, are few and small enough for one step."""
    room = TOGETHER_BYTES
    for number, publication in enumerate(publications[:TOGETHER]):
        room -= size_of(publication)
        if room < 0:
            return max(1, number)
    return min(len(publications), TOGETHER)
