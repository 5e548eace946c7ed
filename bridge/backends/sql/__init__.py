"""A database as the carrier: SQLite, PostgreSQL, or by polling any other that SQLAlchemy knows."""

from sqlalchemy import create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import SQLAlchemyError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.database import Database
from bridge.backends.sql.options import check_interval
from bridge.errors import ConfigurationError
from bridge.state import Retention

POLL_INTERVAL = 0.1


def open_backend(
    url: str, *, namespace: str, timeout: float, retention: Retention, poll_interval: float = POLL_INTERVAL
) -> SqlBackend:
    """Return the backend for `url`: `sql+` and any URL of SQLAlchemy; it opens nothing yet."""
    check_interval(poll_interval)
    address = url.partition("+")[2]
    try:
        parsed = make_url(address)
        if parsed.get_backend_name() == "sqlite":
            raise ConfigurationError(f"SQLite is polled by its own URL: {address}")
        engine = create_engine(parsed, isolation_level="READ COMMITTED", pool_timeout=timeout)
    except ImportError as error:
        raise ConfigurationError(
            f"sql+{parsed.drivername}:// needs a driver that is not installed: pip install {error.name}"
        ) from error
    except SQLAlchemyError as error:
        raise ConfigurationError(
            f"not a usable URL: {error}; sql+ takes a URL of SQLAlchemy, as in sql+mysql+pymysql://host/database"
        ) from error
    if engine.dialect.is_async:
        raise ConfigurationError(f"sql+{parsed.drivername}:// is an asyncio driver; name one that is not")
    return SqlBackend(Database(engine, timeout, poll_interval), namespace, retention)
