"""`redis+pubsub://` and `redis+sharded://`: Redis or Valkey Pub/Sub, at most once.

The reader speaks RESP3, which lets one connection carry both the published messages and the answers to
commands, in one order. So the state of a topic, read there, has an exact place between two messages.
"""

import selectors
import socket
import ssl
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from bridge.channel import Message
from bridge.errors import ConfigurationError, ConnectionLost, PublishError
from bridge.ports import Attached, Event, Refused, States
from bridge.state import MAX_ENTRIES, MAX_MEMBERS, Change, TopicState

PROBE_AFTER = 10.0
"""Seconds of silence after which the connection is probed."""

RECEIVE_SIZE = 256 * 1024

_SHARDED = {"redis+sharded"}

_PUBLISH_WITH_STATE = """
local state, entries, members = KEYS[1], KEYS[2], KEYS[3]
local publish, channel, group, topic = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local rank, final, entry, payload = tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local keep_for, now = ARGV[9], ARGV[10]
local held = tonumber(redis.call('HGET', state, 'rank') or -1)
if rank < held or (final == '1' and rank == held) then return 0 end
redis.call('HSET', state, 'rank', rank, unpack(ARGV, 13))
redis.call('EXPIRE', state, keep_for)
if entry == '1' then
  redis.call('HINCRBY', state, 'entries', 1)
  redis.call('RPUSH', entries, payload)
  redis.call('LTRIM', entries, -tonumber(ARGV[11]), -1)
  redis.call('EXPIRE', entries, keep_for)
end
if redis.call('ZADD', members, 'NX', now, topic) == 1 then
  redis.call('ZREMRANGEBYRANK', members, 0, -tonumber(ARGV[12]) - 1)
end
redis.call('EXPIRE', members, keep_for)
redis.call(publish, channel, payload)
redis.call(publish, group, payload)
return 1
"""

_READ_STATES = """
local prefix, topic = ARGV[1], ARGV[2]
local found = {}
local function add(name)
  local fields = redis.call('HGETALL', prefix .. 'state:' .. name)
  if #fields > 0 then
    found[#found + 1] = {name, fields, redis.call('LRANGE', prefix .. 'entries:' .. name, 0, -1)}
  end
end
add(topic)
for _, name in ipairs(redis.call('ZREVRANGE', prefix .. 'members:' .. topic, 0, -1)) do add(name) end
return found
"""


def open_backend(
    url: str, *, namespace: str, timeout: float, retention_seconds: float = 86_400.0
) -> "PubSubBackend":
    """Return the backend for `url`. A topic's state is kept for `retention_seconds` after its last change."""
    if not isinstance(retention_seconds, int | float) or retention_seconds <= 0:
        raise ConfigurationError(f"retention_seconds must be a number above zero, not {retention_seconds!r}")
    scheme, _, rest = url.partition("://")
    try:
        parameters: dict[str, Any] = {
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
            **parse_url(f"redis://{rest}"),  # type: ignore[no-untyped-call]
            "retry": Retry(NoBackoff(), 0),
        }
        database = urlsplit(url).path.strip("/")
        if database and not database.isdecimal():
            raise ValueError(f"the path must be the number of a database, not {database!r}")
        connection_class = parameters.pop("connection_class", redis.Connection)
        connection_class(**parameters)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"not a usable {scheme}:// URL: {error}") from error
    pool = redis.ConnectionPool(connection_class, protocol=2, **parameters)
    return PubSubBackend(pool, scheme in _SHARDED, namespace, timeout, retention_seconds)


class PubSubBackend:
    """The publishing side: a pool of connections, as many as threads publish at once."""

    def __init__(
        self, pool: redis.ConnectionPool, sharded: bool, namespace: str, timeout: float, keep_for: float
    ) -> None:
        self._pool = pool
        self._client = redis.Redis(connection_pool=pool)
        self._send: Any = self._client.execute_command
        self._prefix = f"{namespace}:".encode()
        self._sharded = sharded
        self._command = "SPUBLISH" if sharded else "PUBLISH"
        self._timeout = timeout
        self._keep_for = keep_for
        self._publish_with_state = self._client.register_script(_PUBLISH_WITH_STATE)
        self._read_states = self._client.register_script(_READ_STATES)
        kwargs = pool.connection_kwargs
        self.address = kwargs.get("path") or f"{kwargs.get('host', 'localhost')}:{kwargs.get('port', 6379)}"

    def publish(self, topic: str, payload: bytes, change: Change | None = None) -> str | None:
        name = topic.encode()
        try:
            if change is None:
                self._send(self._command, self._prefix + name, payload)
            else:
                self._publish_change(name, payload, change)
        except redis.RedisError as error:
            raise PublishError(f"{self.address} did not take the message: {error}") from error
        return None

    def _publish_change(self, name: bytes, payload: bytes, change: Change) -> None:
        group = change.group.encode()
        keys = [
            self._prefix + b"state:" + name,
            self._prefix + b"entries:" + name,
            self._prefix + b"members:" + group,
        ]
        args: list[bytes | str | float] = [
            self._command, self._prefix + name, self._prefix + group, name,
            change.rank, int(change.final), int(change.entry), payload,
            max(1, round(self._keep_for)), time.time(), MAX_ENTRIES, MAX_MEMBERS,
        ]  # fmt: skip
        for field, value in change.fields.items():
            args += (f".{field}", value)
        self._publish_with_state(keys=keys, args=args)

    def states(self, topic: str) -> list[TopicState]:
        try:
            return _states(self._read_states(args=[self._prefix, topic.encode()]))
        except redis.RedisError as error:
            raise ConnectionLost(f"{self.address} did not answer: {error}") from error

    def ping(self) -> None:
        try:
            self._client.ping()
        except redis.RedisError as error:
            raise ConnectionLost(f"{self.address} did not answer: {error}") from error

    def open_reader(self) -> "PubSubReader":
        connection = self._pool.connection_class(**{**self._pool.connection_kwargs, "protocol": 3})
        try:
            connection.connect()
        except redis.RedisError as error:
            raise ConnectionLost(f"cannot connect to {self.address}: {error}") from error
        return PubSubReader(_Link(connection), self._prefix, self._sharded, self._timeout)

    def close(self) -> None:
        self._client.close()
        self._pool.disconnect()


def _states(rows: Sequence[Any]) -> list[TopicState]:
    states = []
    for name, pairs, entries in rows:
        held = dict(zip(pairs[::2], pairs[1::2], strict=True))
        fields = {key[1:].decode(): value for key, value in held.items() if key.startswith(b".")}
        omitted = int(held.get(b"entries", 0)) - len(entries)
        states.append(TopicState(name.decode(), fields, list(entries), max(0, omitted)))
    return states


class _Link:
    """One connection that redis-py has opened and authenticated, read and written without blocking."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection  # keeps the socket open
        self.socket: socket.socket = connection._sock
        self.socket.setblocking(False)
        self._parser = hiredis.Reader(replyError=_RefusedReply)
        self._out = bytearray()

    def send(self, *command: str | bytes) -> None:
        self._out += hiredis.pack_command(command)  # type: ignore[arg-type]

    @property
    def waits_to_write(self) -> bool:
        return bool(self._out)

    def write(self) -> None:
        try:
            while self._out:
                del self._out[: self.socket.send(self._out)]
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error}") from error

    def read(self) -> Iterator[Any]:
        """Yield every answer that has come."""
        self._receive()
        try:
            while (answer := self._parser.gets()) is not False:
                yield answer
        except hiredis.ProtocolError as error:
            raise ConnectionLost(f"the server does not speak RESP3: {error}") from error

    def _receive(self) -> None:
        try:
            while True:
                data = self.socket.recv(RECEIVE_SIZE)
                if not data:
                    raise ConnectionLost("the server closed the connection")
                self._parser.feed(data)
                # What TLS has decrypted already wakes no selector.
                if not (isinstance(self.socket, ssl.SSLSocket) and self.socket.pending()):
                    return
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError as error:
            raise ConnectionLost(f"the connection broke: {error}") from error

    def close(self) -> None:
        self.socket.close()


class _RefusedReply(Exception):
    """An error that the server answered."""


class _Awaited:
    """An answer the server owes: it answers commands in the order they were sent."""

    __slots__ = ("command", "topic")

    def __init__(self, command: str, topic: str = "") -> None:
        self.command = command
        self.topic = topic


class PubSubReader:
    """Reads every topic of a process through one connection."""

    def __init__(self, link: _Link, prefix: bytes, sharded: bool, timeout: float) -> None:
        self._link = link
        self._prefix = prefix
        self._letter = "S" if sharded else ""
        self._timeout = timeout
        self._topics: dict[bytes, str] = {}
        self._awaited: deque[_Awaited] = deque()
        self._attaching: dict[str, _Awaited] = {}
        self._heard_at = time.monotonic()
        self._probed_at: float | None = None
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._wake.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(link.socket, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)

    def attach(self, topic: str) -> None:
        channel = self._prefix + topic.encode()
        self._topics[channel] = topic
        self._attaching[topic] = self._send("SUBSCRIBE", topic, f"{self._letter}SUBSCRIBE", channel)

    def detach(self, topic: str) -> None:
        channel = self._prefix + topic.encode()
        self._topics.pop(channel, None)
        self._attaching.pop(topic, None)
        self._send("UNSUBSCRIBE", topic, f"{self._letter}UNSUBSCRIBE", channel)

    def request_state(self, topic: str) -> None:
        self._send("STATE", topic, "EVAL", _READ_STATES, b"0", self._prefix, topic.encode())

    def _send(self, purpose: str, topic: str, *command: str | bytes) -> _Awaited:
        awaited = _Awaited(purpose, topic)
        self._awaited.append(awaited)
        self._link.send(*command)
        return awaited

    def poll(self) -> Sequence[Event]:
        self._link.write()
        mask = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._link.waits_to_write else 0)
        if self._selector.get_key(self._link.socket).events != mask:
            self._selector.modify(self._link.socket, mask)
        events: list[Event] = []
        ready = self._selector.select(self._until_probe())
        for key, _ in ready:
            if key.fileobj is self._woken:
                self._drain_wakes()
            else:
                self._read(events)
        if not ready:
            self._probe()
        return events

    def _drain_wakes(self) -> None:
        try:
            while self._woken.recv(4096):
                pass
        except BlockingIOError:
            pass

    def _read(self, events: list[Event]) -> None:
        for answer in self._link.read():
            self._heard_at, self._probed_at = time.monotonic(), None
            if isinstance(answer, hiredis.PushNotification):
                self._pushed(answer, events)
            else:
                self._answered(answer, events)

    def _pushed(self, push: list[Any], events: list[Event]) -> None:
        kind = push[0]
        if kind in (b"message", b"smessage"):
            topic = self._topics.get(push[1])
            if topic is not None:
                events.append(Message(push[2], topic=topic))
        elif kind in (b"subscribe", b"ssubscribe"):
            awaited = self._awaited.popleft()
            if self._attaching.get(awaited.topic) is awaited:
                events.append(Attached(awaited.topic))
        elif self._awaited and self._awaited[0].command == "UNSUBSCRIBE":
            self._awaited.popleft()
        elif kind == b"sunsubscribe":
            raise ConnectionLost("the server moved a topic to another node")

    def _answered(self, answer: Any, events: list[Event]) -> None:
        awaited = self._awaited.popleft()
        if isinstance(answer, _RefusedReply):
            if awaited.command != "SUBSCRIBE":
                raise ConnectionLost(f"the server refused to answer: {answer}")
            events.append(Refused(awaited.topic, str(answer)))
        elif awaited.command == "STATE":
            events.append(States(awaited.topic, _states(answer)))

    def _until_probe(self) -> float:
        """Return the seconds until silence must be looked into."""
        due = self._heard_at + PROBE_AFTER if self._probed_at is None else self._probed_at + self._timeout
        return max(0.0, due - time.monotonic())

    def _probe(self) -> None:
        """A silent connection is not a healthy one: ask for a sign of life, and give up on none."""
        now = time.monotonic()
        if self._probed_at is not None:
            if now >= self._probed_at + self._timeout:
                raise ConnectionLost(f"the server has not answered for {self._timeout:g} s")
        elif now >= self._heard_at + PROBE_AFTER:
            self._probed_at = now
            self._send("PING", "", "PING")

    def wake(self) -> None:
        try:
            self._wake.send(b"w")
        except BlockingIOError:
            pass  # so many wakes are waiting already that this one is not missed
        except OSError:
            pass  # closed meanwhile: nobody is left to wake

    def close(self) -> None:
        # Closes descriptors only: a forked child closes its copies while the parent reads on.
        self._selector.close()
        self._link.close()
        self._woken.close()
        self._wake.close()
