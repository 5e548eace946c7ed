"""Where commands go: one server, the primary that Sentinel names, or the nodes of a cluster.

No connection is opened before the first command. Nothing is tried again here: only the caller knows how to
repeat a command without doing it twice.

Any and `type: ignore`: redis-py declares no types for the clients of clusters and for answers.
"""

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

# `Any` in this module: redis-py declares no types for the clients of clusters and for answers.
from typing import Any, Protocol

import redis
from redis.cluster import ClusterNode, RedisCluster

from bridge.backends.redis.link import Argument, Link
from bridge.errors import ConnectionLost
from bridge.support.fork import reset_in_child

ERRORS = (redis.RedisError, redis.exceptions.RedisClusterException)
"""What the driver raises; some of its errors for clusters have a base class of their own."""

MOVED_AWAY = (
    redis.ConnectionError,
    redis.exceptions.ClusterError,
    redis.exceptions.RedisClusterException,
)
"""What is raised if another node may have the keys by now, or if the nodes are not known."""


SCANNED_AT_ONCE = 1_000
"""Keys that the server looks at in one call of SCAN: less than a millisecond."""


class Servers(Protocol):
    """Commands in, answers out; and the connections for reading."""

    address: str
    one_slot: bool
    """Whether the keys of a script must belong to one topic."""
    database: int
    """The number of the database that has the keys."""

    def send(self, *command: Argument) -> Any:
        """Send a command and return its answer. Raises one of `ERRORS`."""
        ...

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Yield the keys of each call of SCAN, on every primary. Raises one of `ERRORS`."""
        ...

    def refresh(self) -> None:
        """Ask again which node has which keys: it may have changed."""
        ...

    def locate(self, key: bytes) -> Hashable:
        """Return the name of the node that has `key`. Raises `ConnectionLost`."""
        ...

    def open_link(self, node: Hashable) -> Link:
        """Open a reading connection to a node. Raises `ConnectionLost`."""
        ...

    def close(self) -> None:
        """Close every connection but those for reading."""
        ...


class OneServer:
    """A server, or the one that is the primary now."""

    one_slot = False

    def __init__(
        self, make_pool: Callable[[], redis.ConnectionPool], address: str, timeout: float, *, database: int
    ) -> None:
        self.address = address
        self.database = database
        self._make_pool = make_pool
        self._timeout = timeout
        self._connect()
        reset_in_child(self)

    def _connect(self) -> None:
        self._pool = self._make_pool()
        self._client = redis.Redis(connection_pool=self._pool)
        self.send: Any = self._client.execute_command

    def reset_after_fork(self) -> None:
        _close_copies(self._pool)
        self._connect()

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        return _scan(self._client.scan, pattern)

    def refresh(self) -> None:
        """Each new connection asks who is the primary."""

    def locate(self, key: bytes) -> Hashable:
        return self.address

    def open_link(self, node: Hashable) -> Link:
        return _link(self._pool, self.address, self._timeout)

    def close(self) -> None:
        self._client.close()
        self._pool.disconnect()


class Cluster:
    """The primaries of a cluster."""

    one_slot = True
    database = 0

    def __init__(
        self, hosts: Sequence[tuple[str, int]], parameters: Mapping[str, Any], timeout: float
    ) -> None:
        self.address = "the cluster of " + ", ".join(f"{host}:{port}" for host, port in hosts)
        self._hosts = hosts
        self._parameters = parameters
        self._timeout = timeout
        self._lock = threading.Lock()  # Guards _client.
        self._client: Any = None
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        client, self._client, self._lock = self._client, None, threading.Lock()
        for node in client.get_nodes() if client is not None else ():
            if node.redis_connection is not None:
                _close_copies(node.redis_connection.connection_pool)

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                nodes = [ClusterNode(host, port) for host, port in self._hosts]
                self._client = RedisCluster(startup_nodes=nodes, **self._parameters)
            return self._client

    def send(self, *command: Argument) -> Any:
        return self._connected().execute_command(*command)

    def scan(self, pattern: bytes) -> Iterator[list[bytes]]:
        client = self._connected()
        for node in client.get_primaries():
            yield from _scan(client.get_redis_connection(node).scan, pattern)

    def refresh(self) -> None:
        self._connected().nodes_manager.initialize()

    def locate(self, key: bytes) -> Hashable:
        try:
            client = self._connected()
            return str(client.nodes_manager.get_node_from_slot(client.keyslot(key)).name)
        except ERRORS as error:
            raise ConnectionLost(f"no node has the topic now: {error}") from error

    def open_link(self, node: Hashable) -> Link:
        client = self._connected()
        found = client.get_node(node_name=node)
        if found is None:
            raise ConnectionLost(f"{node} has left the cluster")
        pool = client.get_redis_connection(found).connection_pool
        return _link(pool, str(node), self._timeout)

    def close(self) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


def _scan(scan: Callable[..., Any], pattern: bytes) -> Iterator[list[bytes]]:
    """Yield the keys of each call of SCAN on one server."""
    cursor = 0
    while True:
        cursor, keys = scan(cursor, match=pattern, count=SCANNED_AT_ONCE)
        yield keys
        if not cursor:
            return


def _close_copies(pool: Any) -> None:
    """Close the copies that this process has of its parent's connections. The parent keeps its own.

    A pool forgets them by itself only when it is used again, and only if no thread of the parent held its
    lock at the fork.
    """
    for connection in (*pool._available_connections, *pool._in_use_connections):
        connection.disconnect()


def _link(pool: redis.ConnectionPool, address: str, timeout: float) -> Link:
    connection = pool.connection_class(**{**pool.connection_kwargs, "protocol": 3})
    try:
        connection.connect()
    except redis.RedisError as error:
        raise ConnectionLost(f"{address} cannot be reached: {error}") from error
    return Link(connection, timeout)
