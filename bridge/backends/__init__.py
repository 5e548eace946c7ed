"""From a URL to the backend that carries it, imported only when asked for."""

import importlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from bridge.errors import ConfigurationError
from bridge.ports import Backend

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
_EXTRAS = {
    "bridge.backends.redis": "redis",
    "bridge.backends.sql": "sql",
    "bridge.backends.sql.sqlite": "sql",
    "bridge.backends.sql.postgres": "postgresql",
}


def open_backend(url: str, options: Mapping[str, Any]) -> Backend:
    """Return the backend for `url`, which opens nothing yet. Raises `ConfigurationError`."""
    scheme = urlsplit(url).scheme if isinstance(url, str) else ""
    name = "bridge.backends.sql" if scheme.startswith(_ANY_DATABASE) else _MODULES.get(scheme)
    if name is None:
        known = ", ".join([f"{name}://" for name in _MODULES] + [f"{_ANY_DATABASE}(a URL of SQLAlchemy)"])
        raise ConfigurationError(
            f"no backend for the URL scheme {scheme + '://' if scheme else '(none)'}; known are {known}"
        )
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        extra = _EXTRAS.get(name)
        raise ConfigurationError(
            f"{scheme}:// needs a package that is not installed ({error.name}): "
            f"pip install 'celery-event-bridge[{extra}]'"
        ) from error
    backend: Backend = module.open_backend(url, **options)
    return backend
