"""Redis or Valkey: Streams woken by Pub/Sub (`redis://`), or Pub/Sub alone, plain or sharded."""

from typing import Any
from urllib.parse import urlsplit

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from bridge.backends.redis.backend import RedisBackend
from bridge.backends.redis.keys import Keys
from bridge.errors import ConfigurationError
from bridge.state import Retention


def open_backend(url: str, *, namespace: str, timeout: float, retention: Retention) -> RedisBackend:
    """Return the backend for `url`, which opens nothing yet."""
    scheme, _, rest = url.partition("://")
    base, _, carrier = scheme.partition("+")
    try:
        database = urlsplit(url).path.strip("/")
        if database and not database.isdecimal():
            raise ValueError(f"the path must be the number of a database, not {database!r}")
        parameters: dict[str, Any] = {
            "socket_connect_timeout": timeout,
            "socket_timeout": timeout,
            **parse_url(f"{base}://{rest}"),  # type: ignore[no-untyped-call]
            "retry": Retry(NoBackoff(), 0),
        }
        connection_class = parameters.pop("connection_class", redis.Connection)
        connection_class(**parameters)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"not a usable {scheme}:// URL: {error}") from error
    pool = redis.ConnectionPool(connection_class, protocol=2, **parameters)
    logged = carrier == ""
    keys = Keys(namespace, retention, logged=logged)
    return RedisBackend(pool, keys, retention, sharded=carrier == "sharded", logged=logged, timeout=timeout)
