"""The publishing side: what is one step for the caller is one script on the server."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis

from bridge.backends.redis import scripts
from bridge.backends.redis.keys import Keys, position_in, states_of
from bridge.backends.redis.reader import RedisReader, messages_of
from bridge.backends.redis.servers import ERRORS, Servers
from bridge.channel import Message
from bridge.errors import BridgeError, ConnectionLost, PublishError
from bridge.position import Position
from bridge.state import MAX_ENTRIES, MAX_MEMBERS, Change, Retention, TopicState


class RedisBackend:
    """Carries messages: with a log where `logged`, else by Pub/Sub alone."""

    def __init__(
        self, servers: Servers, keys: Keys, retention: Retention, *, sharded: bool, logged: bool
    ) -> None:
        self._servers = servers
        self._keys = keys
        self._retention = retention
        self._sharded = sharded
        self.replays = logged
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._change_script = scripts.PUBLISH_CHANGE if logged else scripts.SEND_CHANGE

    def publish(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        with self._errors(PublishError, "did not take the message"):
            try:
                return self._publish_once(topic, payload, change, token, again)
            except redis.ConnectionError:
                # Closed while it was idle, or failed over; with the token nothing is published twice.
                if not self.replays:
                    raise
                self._servers.refresh()
                return self._publish_once(topic, payload, change, token, True)

    def _publish_once(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        if change is None and not self.replays:
            self._servers.send(self._command, self._keys.channel(topic), payload)
            return None
        args: list[Any] = [
            self._command,
            self._keys.channel(topic),
            payload,
            token,
            int(again),
            token.hex()[:8],
        ]
        args += [self._keys.seconds, self._retention.messages]
        if change is None:
            return position_in(
                self._run(scripts.PUBLISH, [self._keys.meta(topic), self._keys.log(topic)], args)
            )
        return self._publish_change(topic, change, args)

    def _publish_change(self, topic: str, change: Change, args: list[Any]) -> Position | None:
        keys = self._keys
        group = change.group
        listing = [keys.channel(group), topic.encode(), MAX_MEMBERS]
        changing = [*args, *listing, change.rank, int(change.final), int(change.entry), MAX_ENTRIES]
        for field, value in change.fields.items():
            changing += (f".{field}", value)
        if not self.replays:
            self._run(
                self._change_script, [keys.meta(topic), keys.entries(topic), keys.members(group)], changing
            )
            return None
        own = [keys.meta(topic), keys.log(topic), keys.entries(topic)]
        of_group = [keys.meta(group), keys.log(group), keys.members(group)]
        answer = self._run(self._change_script, own if self._servers.one_slot else own + of_group, changing)
        if answer is None:
            return None
        if self._servers.one_slot:
            self._run(scripts.PUBLISH_TO_GROUP, of_group, args + listing)
        return position_in(answer)

    def _run(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script, which is sent only where the server does not know it yet."""
        try:
            return self._servers.send("EVALSHA", _digest(script), len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self._servers.send("EVAL", script, len(keys), *keys, *args)

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

    def states(self, topic: str) -> list[TopicState]:
        with self._errors(ConnectionLost, "did not answer"):
            read = self._read_states(topic)
            if self._servers.one_slot:
                for member in read[2]:
                    read[1].extend(self._read_states(member.decode())[1])
            return states_of(read[1])

    def _read_states(self, topic: str) -> Any:
        args = [self._keys.prefix, topic.encode(), int(not self._servers.one_slot)]
        return self._run(scripts.READ_STATES, [self._keys.meta(topic)], args)

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


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
