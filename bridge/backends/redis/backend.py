"""The publishing side: a pool of connections, as many as threads publish at once."""

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis

from bridge.backends.redis import scripts
from bridge.backends.redis.keys import Keys, position_in, states_of
from bridge.backends.redis.link import Link
from bridge.backends.redis.reader import RedisReader, messages_of
from bridge.channel import Message
from bridge.errors import BridgeError, ConnectionLost, PublishError
from bridge.position import Position
from bridge.state import MAX_ENTRIES, MAX_MEMBERS, Change, Retention, TopicState


class RedisBackend:
    """Carries messages through one server: with a log where `logged`, else by Pub/Sub alone."""

    def __init__(
        self,
        pool: redis.ConnectionPool,
        keys: Keys,
        retention: Retention,
        *,
        sharded: bool,
        logged: bool,
        timeout: float,
    ) -> None:
        self._pool = pool
        self._client = redis.Redis(connection_pool=pool)
        self._send: Any = self._client.execute_command
        self._keys = keys
        self._retention = retention
        self._sharded = sharded
        self._timeout = timeout
        self.replays = logged
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._change_script = scripts.PUBLISH_CHANGE if logged else scripts.SEND_CHANGE
        kwargs = pool.connection_kwargs
        self._address = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"

    def publish(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        with self._errors(PublishError, "did not take the message"):
            try:
                return self._publish_once(topic, payload, change, token, again)
            except redis.ConnectionError:
                # A connection that the server closed while it was idle; with the token nothing is sent twice.
                if not self.replays:
                    raise
                return self._publish_once(topic, payload, change, token, True)

    def _publish_once(
        self, topic: str, payload: bytes, change: Change | None, token: bytes, again: bool
    ) -> Position | None:
        if change is None and not self.replays:
            self._send(self._command, self._keys.channel(topic), payload)
            return None
        keys = [self._keys.meta(topic)]
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
            return position_in(self._run(scripts.PUBLISH, [*keys, self._keys.log(topic)], args))
        group = change.group
        args += [self._keys.channel(group), topic.encode(), MAX_MEMBERS]
        args += [change.rank, int(change.final), int(change.entry), MAX_ENTRIES]
        for field, value in change.fields.items():
            args += (f".{field}", value)
        if not self.replays:
            keys += [self._keys.entries(topic), self._keys.members(group)]
            self._run(self._change_script, keys, args)
            return None
        keys += [self._keys.log(topic), self._keys.entries(topic)]
        keys += [self._keys.meta(group), self._keys.log(group), self._keys.members(group)]
        answer = self._run(self._change_script, keys, args)
        return None if answer is None else position_in(answer)

    def _run(self, script: str, keys: Sequence[bytes], args: Sequence[Any]) -> Any:
        """Run a script, which is sent only where the server does not know it yet."""
        try:
            return self._send("EVALSHA", _digest(script), len(keys), *keys, *args)
        except redis.exceptions.NoScriptError:
            return self._send("EVAL", script, len(keys), *keys, *args)

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
            return states_of(self._run(scripts.READ_STATES, [], [self._keys.prefix, topic.encode()])[1])

    def ping(self) -> None:
        with self._errors(ConnectionLost, "did not answer"):
            self._client.ping()

    def open_reader(self) -> RedisReader:
        connection = self._pool.connection_class(**{**self._pool.connection_kwargs, "protocol": 3})
        with self._errors(ConnectionLost, "cannot be reached"):
            connection.connect()
        link = Link(connection, self._timeout)
        return RedisReader([link], lambda topic: link, self._keys, sharded=self._sharded, logged=self.replays)

    def close(self) -> None:
        self._client.close()
        self._pool.disconnect()

    @contextmanager
    def _errors(self, kind: type[BridgeError], what: str) -> Iterator[None]:
        """Translate the driver's errors."""
        try:
            yield
        except redis.RedisError as error:
            raise kind(f"{self._address} {what}: {error}") from error


@cache
def _digest(script: str) -> str:
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
