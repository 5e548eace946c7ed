"""Carries messages by Redis or Valkey: one server, Sentinel or a cluster, by streams or by Pub/Sub alone.

One step for a caller is one Lua script on the server (`lua/`, loaded by `scripts.py`). `publish.py`
builds the calls, `keys.py` makes the names, `frames.py` and `replies.py` parse the answers. This package
knows nothing of tasks and HTTP. Open `backend.py` first for publishing, `listener.py` for reading.
"""

from collections.abc import Callable
from functools import partial

import redis
from redis.sentinel import Sentinel, SentinelConnectionPool

from bridge.backends.redis.backend import RedisBackend
from bridge.backends.redis.keys import Keys
from bridge.backends.redis.servers import Cluster, OneServer, Servers
from bridge.backends.redis.url import Unusable, hosts_in, parameters_of, parts_of
from bridge.errors import ConfigurationError
from bridge.model.state import Retention


def open_backend(url: str, *, namespace: str, timeout: float, retention: Retention) -> RedisBackend:
    """Return the backend for `url`. It opens no connection yet."""
    scheme, _, rest = url.partition("://")
    base, _, carrier = scheme.partition("+")
    connect: Callable[[str, str, float], Servers] = _CARRIERS.get(carrier, _one_server)
    try:
        servers = connect(base, rest, timeout)
    except Unusable as error:
        problem = f"not a usable {scheme}:// URL: {error}"
    else:
        logged = carrier not in ("pubsub", "sharded")
        sharded = carrier in ("sharded", "cluster")
        keys = Keys(namespace, logged=logged, database=servers.database)
        return RedisBackend(servers, keys, retention, sharded=sharded, logged=logged)
    raise ConfigurationError(problem)


def _one_server(base: str, rest: str, timeout: float) -> OneServer:
    parameters = parameters_of(f"{base}://{rest}", timeout)
    make_pool = partial(redis.ConnectionPool, **parameters)
    address = f"{parameters.get('host', 'localhost')}:{parameters.get('port', 6379)}"
    return OneServer(make_pool, address, timeout, database=parameters.get("db", 0))


def _cluster(base: str, rest: str, timeout: float) -> Cluster:
    """`redis+cluster://[user:password@]host:port,host:port`: any nodes, the others are found through them."""
    hosts, credentials, path, query = _hosts(rest, 6379)
    parameters = parameters_of(f"{base}://{credentials}unnamed{path}?{query}", timeout)
    if parameters.pop("db", 0):
        raise Unusable("a cluster has only database 0")
    del parameters["host"]
    connection_class = parameters.pop("connection_class", redis.Connection)
    parameters["ssl"] = issubclass(connection_class, redis.SSLConnection)
    return Cluster(hosts, parameters, timeout)


def _sentinel(base: str, rest: str, timeout: float) -> OneServer:
    """`redis+sentinel://[user:password@]host:port,host:port/service/database`."""
    sentinels, credentials, path, query = _hosts(rest, 26379)
    service, _, database = path.removeprefix("/").partition("/")
    if not service:
        raise Unusable("name the service, as in redis+sentinel://host:26379/mymaster/0")
    parameters = parameters_of(f"{base}://{credentials}unnamed/{database}?{query}", timeout)
    del parameters["host"]
    sentinel = Sentinel(sentinels, socket_timeout=timeout, socket_connect_timeout=timeout)
    make_pool = partial(SentinelConnectionPool, service, sentinel, **parameters)
    return OneServer(make_pool, f"the primary of {service!r}", timeout, database=parameters.get("db", 0))


def _hosts(rest: str, port: int) -> tuple[list[tuple[str, int]], str, str, str]:
    """Split what follows the scheme into hosts with their ports, credentials with their @, path and query."""
    where, path, query = parts_of(rest)
    credentials, at, names = where.rpartition("@")
    if not all(name.strip(" ") for name in names.split(",")):
        raise Unusable("name the hosts as host:port,host:port")
    return hosts_in(names, port), f"{credentials}{at}", path, query


_CARRIERS: dict[str, Callable[[str, str, float], Servers]] = {"cluster": _cluster, "sentinel": _sentinel}
