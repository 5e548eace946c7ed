"""Redis or Valkey: Streams woken by Pub/Sub, also on a cluster or behind Sentinel, or Pub/Sub alone."""

from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from bridge.backends.redis.backend import RedisBackend
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.servers import Cluster, OneServer, Servers
from bridge.errors import ConfigurationError
from bridge.state import Retention


def open_backend(url: str, *, namespace: str, timeout: float, retention: Retention) -> RedisBackend:
    """Return the backend for `url`, which opens nothing yet."""
    scheme, _, rest = url.partition("://")
    carrier = scheme.partition("+")[2]
    connect: Callable[[str, str, float], Servers] = _CARRIERS.get(carrier, _one_server)
    try:
        servers = connect(scheme.partition("+")[0], rest, timeout)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"not a usable {scheme}:// URL: {error}") from error
    logged = carrier not in ("pubsub", "sharded")
    keys = Keys(namespace, retention, logged=logged, database=servers.database)
    return RedisBackend(servers, keys, retention, sharded=carrier in ("sharded", "cluster"), logged=logged)


def _parameters(url: str, timeout: float) -> dict[str, Any]:
    """Read what redis-py reads from a URL, and refuse what it would pass over."""
    database = urlsplit(url).path.strip("/")
    if database and not database.isdecimal():
        raise ValueError(f"the path must be the number of a database, not {database!r}")
    parameters: dict[str, Any] = {
        "socket_connect_timeout": timeout,
        "socket_timeout": timeout,
        **parse_url(url),  # type: ignore[no-untyped-call]
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    options = {name: value for name, value in parameters.items() if name != "connection_class"}
    parameters.get("connection_class", redis.Connection)(**options)
    return parameters


def _one_server(base: str, rest: str, timeout: float) -> OneServer:
    parameters = _parameters(f"{base}://{rest}", timeout)
    make_pool = partial(redis.ConnectionPool, **parameters)
    address = f"{parameters.get('host', 'localhost')}:{parameters.get('port', 6379)}"
    return OneServer(make_pool, address, timeout, database=parameters.get("db", 0))


def _cluster(base: str, rest: str, timeout: float) -> Cluster:
    """`redis+cluster://[user:password@]host:port,host:port`: any nodes, the others are found through them."""
    hosts, credentials, path = _hosts(rest, 6379)
    parameters = _parameters(f"{base}://{credentials}unnamed/{path}", timeout)
    if parameters.pop("db", 0):
        raise ValueError("a cluster has only database 0")
    del parameters["host"]
    connection_class = parameters.pop("connection_class", redis.Connection)
    parameters["ssl"] = issubclass(connection_class, redis.SSLConnection)
    return Cluster(hosts, parameters, timeout)


def _sentinel(base: str, rest: str, timeout: float) -> OneServer:
    """`redis+sentinel://[user:password@]host:port,host:port/service/database`."""
    sentinels, credentials, path = _hosts(rest, 26379)
    path, question, query = path.partition("?")
    service, _, database = path.partition("/")
    if not service:
        raise ValueError("name the service, as in redis+sentinel://host:26379/mymaster/0")
    parameters = _parameters(f"{base}://{credentials}unnamed/{database}{question}{query}", timeout)
    del parameters["host"]
    sentinel = Sentinel(sentinels, socket_timeout=timeout, socket_connect_timeout=timeout)  # type: ignore[no-untyped-call]
    make_pool = partial(SentinelConnectionPool, service, sentinel, **parameters)
    return OneServer(make_pool, f"the primary of {service!r}", timeout, database=parameters.get("db", 0))


def _hosts(rest: str, port: int) -> tuple[list[tuple[str, int]], str, str]:
    """Split what follows the scheme into hosts with their ports, credentials with their @, and path."""
    where, _, path = rest.partition("/")
    credentials, at, names = where.rpartition("@")
    parts = [urlsplit(f"//{name}") for name in names.split(",")]
    hosts = [(part.hostname, part.port or port) for part in parts if part.hostname]
    if len(hosts) != len(parts):
        raise ValueError(f"the hosts must be host:port,host:port, not {names!r}")
    return hosts, f"{credentials}{at}", path


_CARRIERS: dict[str, Callable[[str, str, float], Servers]] = {"cluster": _cluster, "sentinel": _sentinel}
