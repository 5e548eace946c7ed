"""Parses the URL of a Redis server. An error never quotes what may be a part of a password.

Any and `type: ignore`: redis-py declares no types for the parameters of connections.
"""

import inspect
import re

# `Any` in this module: redis-py declares no types for the parameters of connections.
from typing import Any
from urllib.parse import parse_qs, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import AbstractConnection, parse_url
from redis.retry import Retry

from bridge.errors import PERCENT_ENCODE

OF_THE_POOL = {"max_connections"}
"""Parameters that a connection does not take."""


class Unusable(Exception):
    """The URL cannot be used. The text names no secret."""


def parameters_of(url: str, timeout: float) -> dict[str, Any]:
    """Read what redis-py reads from a URL, and refuse what redis-py would ignore. Raises `Unusable`."""
    base, _, rest = url.partition("://")
    where, path, query = parts_of(rest)
    connection: type[AbstractConnection] = redis.SSLConnection if base == "rediss" else redis.Connection
    hosts_in(where.rpartition("@")[2], 6379)
    _check_names(query, connection)
    database = path.strip("/")
    if database and not database.isdecimal():
        if not where:
            raise Unusable(PERCENT_ENCODE)
        raise Unusable(f"the path must be the number of a database, not {database!r}")
    try:
        parameters: dict[str, Any] = {
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
            **parse_url(url),
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,
        }
    except ValueError:
        problem = (
            f"one of its parameters has a value that redis-py does not take: {', '.join(parse_qs(query))}"
        )
    else:
        _try(connection, parameters)
        return parameters
    raise Unusable(problem)


def parts_of(rest: str) -> tuple[str, str, str]:
    """Split what follows the scheme into credentials and hosts, path, and query."""
    found = re.fullmatch(r"([^/?#]*)([^?#]*)\??([^#]*)(.*)", rest, re.DOTALL)
    assert found is not None, "each part may be empty"
    where, path, query, fragment = found.groups()
    # A password that is not escaped may end here: its rest goes up to the @ before the host.
    if fragment or "@" in path:
        raise Unusable(PERCENT_ENCODE)
    return where, path, query


def hosts_in(names: str, port: int) -> list[tuple[str, int]]:
    """Return the hosts of `host:port,host:port`; without a name it is this machine."""
    try:
        parts = [urlsplit(f"//{name}") for name in names.split(",")]
        return [(part.hostname or "localhost", part.port or port) for part in parts]
    except ValueError:
        problem = f"the host or its port cannot be read; {PERCENT_ENCODE}"
    raise Unusable(problem)


def _check_names(query: str, connection: type[AbstractConnection]) -> None:
    makers: list[Any] = [vars(kind).get("__init__", object.__init__) for kind in connection.__mro__]
    known = OF_THE_POOL.union(*(inspect.signature(make).parameters for make in makers))
    unknown = [name for name in parse_qs(query, keep_blank_values=True) if name not in known]
    if unknown and ("@" in query or "password" in query):
        raise Unusable(PERCENT_ENCODE)
    if unknown:
        raise Unusable(f"redis-py knows no parameter {', '.join(unknown)}; remove it from the URL")


def _try(connection: type[AbstractConnection], parameters: dict[str, Any]) -> None:
    """Check the parameters: make a connection, which opens nothing yet."""
    options = {name: value for name, value in parameters.items() if name not in OF_THE_POOL}
    options.pop("connection_class", None)
    try:
        connection(**options)
        return
    except (TypeError, ValueError, redis.RedisError) as error:
        problem = f"redis-py does not take its parameters: {error}"
    raise Unusable(problem)
