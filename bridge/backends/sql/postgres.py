"""PostgreSQL through psycopg 3. NOTIFY wakes the readers. It carries only the topic and the number."""

import math
import selectors
import time
from collections.abc import Generator, Sequence

# `Any` in this module: the parameters of a URL, and the generics of psycopg, which do not matter here.
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.database import Database, OnWritten
from bridge.backends.sql.options import parse
from bridge.backends.sql.publishing import Written
from bridge.errors import ConfigurationError, ConnectionLost
from bridge.model.state import Retention
from bridge.support.validate import check_positive

POLL_INTERVAL = 10.0
"""Seconds after which to look without a notification: none is lost while the connection stands."""

CHANNEL = "bridge_message"

_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :place)")


def open_backend(
    url: str, *, namespace: str, timeout: float, retention: Retention, poll_interval: float = POLL_INTERVAL
) -> SqlBackend:
    """Return the backend for `url`, whose parameters are those of libpq; it opens nothing yet."""
    check_positive(unit="seconds", poll_interval=poll_interval)
    parsed = parse(url, "postgresql", "postgresql://user:password@host:5432/database")
    parsed = parsed.set(drivername="postgresql+psycopg")
    try:
        _, parameters = parsed.get_dialect()().create_connect_args(parsed)
        psycopg.conninfo.make_conninfo(**parameters)
    except (SQLAlchemyError, psycopg.Error, TypeError, ValueError) as error:
        raise ConfigurationError(f"not a usable postgresql:// URL: {error}") from error
    return SqlBackend(
        PostgresDatabase(parsed, dict(parameters), timeout, poll_interval), namespace, retention
    )


class PostgresDatabase(Database):
    """A PostgreSQL server. No call waits longer than the timeout."""

    def __init__(self, url: URL, parameters: dict[str, Any], timeout: float, poll_interval: float) -> None:
        limits = f"-c statement_timeout={math.ceil(timeout * 1000)}"
        given = {
            "connect_timeout": math.ceil(timeout),
            "application_name": "celery-event-bridge",
            **parameters,
            "options": f"{limits} {parameters.get('options', '')}".strip(),
        }
        engine = create_engine(url, pool_timeout=timeout, use_native_hstore=False)

        class TimedConnection(psycopg.Connection[Any]):
            """Gives up on a server that does not answer."""

            def wait(self, gen: Any, *args: Any, **kwargs: Any) -> Any:
                return super().wait(_with_timeout(timeout + 1, gen, self), *args, **kwargs)

        event.listen(engine, "do_connect", lambda *_: TimedConnection.connect(**given))
        super().__init__(engine, timeout, poll_interval)

    def announce(self, connection: Connection, written: Sequence[Written]) -> None:
        # One notification for each topic is enough.
        for message in {message.key: message for message in written}.values():
            connection.execute(_NOTIFY, {"place": f"{message.key} {message.position.number}"})

    def watch(self, connection: Connection, on_written: OnWritten) -> "Notifications":
        return Notifications(connection, self.poll_interval)


class Notifications:
    """The notifications of commits, on the reader's own connection."""

    def __init__(self, connection: Connection, interval: float) -> None:
        self.interval = interval
        self._changed: set[str] = set()
        self._look_at = time.monotonic() + interval
        driver: Any = connection.connection.dbapi_connection
        driver.add_notify_handler(self._notified)
        self._driver: psycopg.Connection[Any] = driver
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")

    def _notified(self, notify: psycopg.Notify) -> None:
        self._changed.add(notify.payload.partition(" ")[0])

    def listen(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._driver.fileno(), selectors.EVENT_READ)

    def has_news(self) -> bool:
        # Notifications that came during a query were read with its answer, so the socket is not readable.
        self._take()
        return bool(self._changed)

    def _take(self) -> None:
        """Read the notifications that have come, without waiting."""
        server = self._driver.pgconn
        try:
            server.consume_input()
            while notify := server.notifies():
                self._changed.add(notify.extra.partition(b" ")[0].decode())
        except psycopg.Error as error:
            raise ConnectionLost(f"the connection to PostgreSQL was lost: {error}") from error

    def look(self) -> set[str] | None:
        self._take()
        changed, self._changed = self._changed, set()
        if time.monotonic() < self._look_at:
            return changed
        self._look_at = time.monotonic() + self.interval
        return None

    def close(self) -> None:
        self._driver.remove_notify_handler(self._notified)


def _with_timeout(
    seconds: float, steps: Generator[Any, Any, Any], connection: psycopg.Connection[Any]
) -> Generator[Any, Any, Any]:
    """Run the steps of a psycopg call. If they take too long, close the connection and raise an error."""
    deadline = time.monotonic() + seconds
    try:
        wanted = next(steps)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() > deadline:
                connection.pgconn.finish()
                raise psycopg.OperationalError(f"the server did not answer within {seconds:g} s")
            wanted = steps.send(ready)
    except StopIteration as end:
        return end.value
