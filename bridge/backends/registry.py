"""Opens the backend of a URL. The module of a backend is imported when it is first used."""

import importlib
import re
from collections.abc import Mapping

# `Any` in this module: each backend checks the types of its own options.
from typing import Any

from bridge.backends.base import Backend
from bridge.errors import ConfigurationError, needs_extra

_MODULES = {
    "memory": "bridge.backends.memory",
    "redis": "bridge.backends.redis",
    "rediss": "bridge.backends.redis",
    "redis+cluster": "bridge.backends.redis",
    "rediss+cluster": "bridge.backends.redis",
    "redis+sentinel": "bridge.backends.redis",
    "rediss+sentinel": "bridge.backends.redis",
    "redis+pubsub": "bridge.backends.redis",
    "redis+sharded": "bridge.backends.redis",
    "sqlite": "bridge.backends.sql.sqlite",
    "postgresql": "bridge.backends.sql.postgres",
    "postgresql+psycopg": "bridge.backends.sql.postgres",
}
_ANY_DATABASE = "sql+"
_EXAMPLE = "redis://localhost:6379/0"
_BROKER = (
    "it is a broker of Celery and cannot carry the bridge; Celery may keep it, give the bridge "
    f"a URL of its own, such as {_EXAMPLE} or sqlite:///bridge.db"
)
_HINTS = {
    "postgres": "write postgresql://user:password@host/database",
    "postgresql": "write postgresql://, which uses psycopg, or sql+ before the URL",
    "psql": "write postgresql://user:password@host/database",
    "mysql": "write sql+mysql+pymysql://user:password@host/database",
    "mariadb": "write sql+mysql+pymysql://user:password@host/database",
    "mssql": "write sql+ before the URL",
    "oracle": "write sql+ before the URL",
    "sqlite": "write sqlite:///file.db",
    "sqlite3": "write sqlite:///file.db",
    "valkey": f"write {_EXAMPLE}",
    "valkeys": "write rediss://host:6379/0",
    "redis": "write redis://, or rediss:// with TLS",
    "sentinel": "write redis+sentinel://host:26379/mymaster/0",
    **dict.fromkeys(("amqp", "amqps", "pyamqp", "librabbitmq", "sqs", "kafka", "confluentkafka"), _BROKER),
    **dict.fromkeys(("mongodb", "filesystem", "gcpubsub", "azureservicebus", "consul", "zookeeper"), _BROKER),
}
"""What to write instead of a scheme that is no backend's, by its first word."""

_EXTRAS = {
    "bridge.backends.redis": "redis",
    "bridge.backends.sql": "sql",
    "bridge.backends.sql.sqlite": "sql",
    "bridge.backends.sql.postgres": "postgresql",
}


def open_backend(url: str, options: Mapping[str, Any]) -> Backend:
    """Return the backend for `url`. It opens no connection yet. Raises `ConfigurationError`."""
    scheme, separator, rest = url.partition("://") if isinstance(url, str) else ("", "", "")
    scheme = scheme.lower()
    name = "bridge.backends.sql" if scheme.startswith(_ANY_DATABASE) else _MODULES.get(scheme)
    if name is None or not separator:
        raise ConfigurationError(_what_to_write(url))
    with needs_extra(f"{scheme}://", _EXTRAS.get(name, "all")):
        module = importlib.import_module(name)
    backend: Backend = module.open_backend(f"{scheme}://{rest}", **options)
    return backend


def _what_to_write(url: object) -> str:
    """Return what is wrong with a URL of no backend. It is not quoted: it may hold a password."""
    known = ", ".join([f"{name}://" for name in _MODULES] + [f"{_ANY_DATABASE}(a URL of SQLAlchemy)"])
    if not isinstance(url, str) or not url:
        given = "an empty one" if url == "" else type(url).__name__
        return f"a URL is needed, such as {_EXAMPLE}, not {given} (none); known are {known}"
    scheme, separator, _ = url.partition("://")
    if not separator:
        host = re.fullmatch(r"(?P<name>[\w.-]+)(?P<port>:\d+)?(?P<database>/\d+)?/?", url, re.ASCII)
        if host is None:
            return f"the URL has no scheme (none), write for example {_EXAMPLE}; known are {known}"
        name, port, database = host["name"], host["port"] or ":6379", host["database"] or "/0"
        return f"{name}:// is no backend: for Redis write redis://{name}{port}{database}; known are {known}"
    hint = _HINTS.get(re.split(r"[+\W]", scheme.lower(), maxsplit=1)[0], "")
    shown = f"{scheme}://" if re.fullmatch(r"[\w+.-]+", scheme, re.ASCII) else "this"
    return f"no backend for the URL scheme {shown}{hint and f': {hint}'}; known are {known}"
