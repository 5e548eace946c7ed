"""Carries messages by a database: SQLite, PostgreSQL, or by polling any other that SQLAlchemy knows.

What is one step for a caller is one transaction. `tables.py` describes the tables, `publishing.py` writes a
message, `reading.py` and `reading_states.py` read. `database.py` says what databases differ in, `sqlite.py`
and `postgres.py` have their parts. This package knows nothing of tasks and HTTP. Open `backend.py` first for
publishing, `listener.py` for reading.
"""

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.database import Database
from bridge.backends.sql.options import parse
from bridge.errors import ConfigurationError
from bridge.model.state import Retention
from bridge.support.validate import check_positive

POLL_INTERVAL = 0.1


def open_backend(
    url: str, *, namespace: str, timeout: float, retention: Retention, poll_interval: float = POLL_INTERVAL
) -> SqlBackend:
    """Return the backend for `url`: `sql+` and any URL of SQLAlchemy; no connection is opened yet."""
    check_positive(unit="seconds", poll_interval=poll_interval)
    address = url.partition("+")[2]
    parsed = parse(address, "sql+", "sql+mysql+pymysql://user:password@host/database, a URL of SQLAlchemy")
    try:
        if parsed.get_backend_name() == "sqlite":
            raise ConfigurationError(
                f"SQLite is polled by its own URL: sqlite:///{parsed.database or 'file.db'}"
            )
        # A pooler may give each transaction another connection of the server, which has nothing prepared.
        options = {"prepare_threshold": None} if parsed.drivername == "postgresql+psycopg" else {}
        engine = create_engine(
            parsed, isolation_level="READ COMMITTED", pool_timeout=timeout, connect_args=options
        )
    except ImportError as error:
        raise ConfigurationError(
            f"sql+{parsed.drivername}:// needs a driver that is not installed: pip install {error.name}"
        ) from error
    except SQLAlchemyError as error:
        raise ConfigurationError(f"not a usable URL of SQLAlchemy after sql+: {error}") from error
    if engine.dialect.is_async:
        raise ConfigurationError(f"sql+{parsed.drivername}:// is an asyncio driver; name one that is not")
    return SqlBackend(Database(engine, timeout, poll_interval), namespace, retention)
