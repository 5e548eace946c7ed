"""The publishing side: what is one step for the caller is one script on the server."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import redis

from bridge.backends.redis import scripts
from bridge.backends.redis.keys import Keys, position_in, position_of, states_of
from bridge.backends.redis.reader import RedisReader, messages_of, states_call
from bridge.backends.redis.servers import ERRORS, MOVED_AWAY, Servers
from bridge.channel import Message
from bridge.errors import BridgeError, ConnectionLost, PublishError
from bridge.ports import Letter, States
from bridge.position import Position
from bridge.state import MAX_ENTRIES, MAX_LINES, MAX_MEMBERS, Change, Part, Retention

KNOWN_PLACES = 1000
"""Topics of which the last confirmed place is remembered, those published to most recently."""


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
            "$KEEP": retention.messages,
            "$COMMAND": self._command,
            "$ENTRIES": MAX_ENTRIES,
            "$LINES": MAX_LINES,
            "$MEMBERS": MAX_MEMBERS,
        }
        self._digests: dict[str, str] = {}
        self._known: dict[str, bytes] = {}

    def publish(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        with self._errors(PublishError, "did not take the message"):
            try:
                return self._publish_once(topic, payload, change, token, again)
            except MOVED_AWAY:
                # Closed while it was idle, or failed over; with the token nothing is published twice.
                if not self.replays:
                    raise
                self._servers.refresh()
                return self._publish_once(topic, payload, change, token, True)

    def publish_many(self, letters: Sequence[Letter], again: bool) -> int:
        if len(letters) < 2 or self._servers.one_slot or not self.replays:
            topic, payload, change, token, shared = letters[0]
            self.publish(topic, payload, change, token, again or shared)
            return 1
        with self._errors(PublishError, "did not take the messages"):
            try:
                self._publish_batch(letters, again)
            except MOVED_AWAY:
                self._servers.refresh()
                self._publish_batch(letters, True)
        return len(letters)

    def _publish_batch(self, letters: Sequence[Letter], again: bool) -> None:
        prepared = [
            self._prepare(topic, payload, change, token, again or shared)
            for topic, payload, change, token, shared in letters
        ]
        calls = [("EVALSHA", self._digest(s), len(keys), *keys, *args) for s, keys, args in prepared]
        answers = self._servers.send_many(calls)
        for letter, call, place in zip(letters, prepared, answers, strict=True):
            if isinstance(place, Exception) and not isinstance(place, redis.exceptions.NoScriptError):
                raise place
            answer = self._run(*call) if isinstance(place, Exception) else place
            if answer:
                self._confirm(letter.topic, answer[0] if isinstance(answer, list) else answer)

    def _publish_once(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        keys = self._keys
        if change is not None:
            publish = self._publish_change if self.replays else self._send_change
            return publish(topic, payload, change, token, again)
        if not self.replays:
            self._servers.send(self._command, keys.channel(topic), payload)
            return None
        return self._confirm(topic, self._run(*self._prepare(topic, payload, None, token, again)))

    def _publish_change(
        self, topic: str, payload: bytes, change: Change, token: bytes, again: bool
    ) -> Position | None:
        answer = self._run(*self._prepare(topic, payload, change, token, again))
        if not answer:  # refused, or no news
            return None
        place, payloads = (answer, [payload]) if change.part is None else (answer[0], answer[1:])
        for number, told in enumerate(payloads if self._servers.one_slot else (), 1):
            again_token = token if number == 1 else b"%s%d" % (token, number)
            known = self._known.get(change.group, b"")
            args = [told, again_token, known, topic.encode(), int(change.listed)]
            place_there = self._run(scripts.PUBLISH_TO_GROUP, self._keys_of_group(change.group), args)
            if place_there is not None:
                self._confirm(change.group, place_there)
        return self._confirm(topic, place)

    def _prepare(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> tuple[str, list[bytes], list[Any]]:
        """Return the script that publishes a message to a log, its keys and its arguments."""
        keys = self._keys
        own = [keys.meta(topic), keys.log(topic)]
        args: list[Any] = [token, self._known.get(topic, b"")]
        if change is None:
            return scripts.PUBLISH_AGAIN if again else scripts.PUBLISH, own, [payload, *args]
        own.append(keys.entries(topic))
        args += [topic.encode(), int(change.listed)]
        if change.part is None:
            script = scripts.PUBLISH_CHANGE_AGAIN if again else scripts.PUBLISH_CHANGE
            args = [payload, *args, change.rank, int(change.final), int(change.entry), *_fields(change)]
        else:
            script = scripts.PUBLISH_PART_AGAIN if again else scripts.PUBLISH_PART
            own += [keys.parts(topic), keys.shown(topic), keys.lines(topic)]
            args += _part(payload, change, change.part)
        if not self._servers.one_slot:
            own += self._keys_of_group(change.group)
        return script, own, args

    def _keys_of_group(self, group: str) -> list[bytes]:
        return [self._keys.meta(group), self._keys.log(group), self._keys.members(group)]

    def _confirm(self, topic: str, place: bytes) -> Position:
        """Remember the place of a confirmed message: a server that knows it no more has lost some."""
        self._known.pop(topic, None)
        self._known[topic] = place
        if len(self._known) > KNOWN_PLACES:
            with suppress(KeyError, StopIteration, RuntimeError):  # another thread was faster
                del self._known[next(iter(self._known))]
        return position_in(place)

    def _send_change(self, topic: str, payload: bytes, change: Change, token: bytes, again: bool) -> None:
        keys, members = self._keys, self._keys.members(change.group)
        to, to_group = keys.channel(topic), keys.channel(change.group)
        meta, entries = keys.meta(topic), keys.entries(topic)
        args = [topic.encode(), int(change.listed)]
        if change.part is None:
            changing = [change.rank, int(change.final), int(change.entry), to_group, *_fields(change)]
            self._run(scripts.SEND_CHANGE, [meta, entries, members], [payload, to, *args, *changing])
        else:
            kept = [meta, entries, keys.parts(topic), keys.shown(topic), keys.lines(topic), members]
            said = _part(payload, change, change.part)
            self._run(scripts.SEND_PART, kept, [to, to_group, *args, *said])

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
            keys = [self._keys.durable(topic), self._keys.meta(topic)]
            return position_in(self._run(scripts.ACKNOWLEDGED, keys, [name.encode()]))

    def acknowledge(self, topic: str, name: str, position: Position, back: bool) -> None:
        with self._errors(PublishError, "did not take the acknowledgement"):
            args: list[Any] = [name.encode(), *position, int(back)]
            self._run(scripts.ACKNOWLEDGE, [self._keys.durable(topic)], args)

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

    def open_reader(self) -> RedisReader:
        with self._errors(ConnectionLost, "cannot be reached"):
            self._servers.refresh()
        return RedisReader(self._servers, self._keys, sharded=self._sharded, logged=self.replays)

    def close(self) -> None:
        self._servers.close()

    @contextmanager
    def _errors(self, kind: type[BridgeError], what: str) -> Iterator[None]:
        """Translate the driver's errors."""
        try:
            yield
        except ERRORS as error:
            raise kind(f"{self._servers.address} {what}: {error}") from error


def _fields(change: Change) -> list[bytes | str]:
    return [word for name, value in change.fields.items() for word in (f".{name}", value)]


def _part(payload: bytes, change: Change, part: Part) -> list[Any]:
    """Return what the script that counts takes."""
    said: list[Any] = [part.name, part.size, part.stage, part.value, part.line, " ".join(part.endings)]
    for text, told in ((payload, change), *([part.turn] if part.turn else [])):
        words = _fields(told)
        said += [text, told.rank, int(told.final), len(words), *words]
    return said
