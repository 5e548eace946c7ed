"""PostgreSQL through psycopg 3. NOTIFY wakes the readers. It carries only the topic and the number."""

import math
import selectors
import time
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import suppress

# `Any` in this module: the parameters of a URL, and the generics of psycopg, which do not matter here.
from typing import Any

import psycopg
from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.batch import Written
from bridge.backends.sql.database import Database, OnWritten
from bridge.backends.sql.options import parse
from bridge.backends.sql.pending import names_with_some
from bridge.backends.sql.postgres_batch import CHANNEL, KEYS_TOGETHER, soon
from bridge.backends.sql.postgres_publishing import PATIENCE, Job
from bridge.backends.sql.publishing import Transaction, publish_pending
from bridge.backends.sql.topics import hold_topics
from bridge.errors import ConfigurationError, ConnectionLost
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention
from bridge.support.validate import check_positive

POLL_INTERVAL = 10.0
"""Seconds after which to look without a notification: none is lost while the connection stands."""

PENDING = "+"
"""Stands before the key of a group for which messages wait."""

_NOTIFY = text(f"SELECT pg_notify('{CHANNEL}', :keys)")


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

    defers = True

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

    def publish(
        self,
        namespace: str,
        retention: Retention,
        publications: Sequence[Publication],
        known: Mapping[str, Position],
        held: set[str] | None = None,
    ) -> list[Written]:
        job = Job(self.engine, namespace, retention, known, self.announce)
        if held is None:
            job.publish(publications)
        else:
            job.publish_free(publications)
            held |= job.held
        return job.written

    def announce(
        self, connection: Connection, written: Sequence[Written], waiting: Sequence[str] = ()
    ) -> None:
        keys = [*{message.key: None for message in written}, *(PENDING + key for key in waiting)]
        for first in range(0, len(keys), KEYS_TOGETHER):
            connection.execute(_NOTIFY, {"keys": " ".join(keys[first : first + KEYS_TOGETHER])})

    def publish_pending(
        self,
        connection: Connection,
        namespace: str,
        retention: Retention,
        groups: Collection[str] | None = None,
    ) -> None:
        with suppress(DBAPIError):
            names = names_with_some(connection, namespace)
            if groups is not None:
                names &= set(groups)
            if names:
                with self.writing() as writing:
                    writing.execute(text(soon(PATIENCE)))
                    transaction = Transaction(writing, namespace, retention, hold_topics)
                    self.announce(writing, publish_pending(transaction, names))

    def watch(self, connection: Connection, on_written: OnWritten) -> "Notifications":
        return Notifications(connection, self.poll_interval)


class Notifications:
    """The notifications of commits, on the reader's own connection."""

    def __init__(self, connection: Connection, interval: float) -> None:
        self.interval = interval
        self._changed: set[str] = set()
        self._waiting: set[str] = set()
        self._look_at = time.monotonic() + interval
        driver: Any = connection.connection.dbapi_connection
        driver.add_notify_handler(self._notified)
        self._driver: psycopg.Connection[Any] = driver
        connection.exec_driver_sql(f"LISTEN {CHANNEL}")

    def _notified(self, notify: psycopg.Notify) -> None:
        self._note(notify.payload)

    def _note(self, keys: str) -> None:
        """Note the keys of a notification."""
        for key in keys.split(" "):
            if key.startswith(PENDING):
                self._waiting.add(key.removeprefix(PENDING))
            else:
                self._changed.add(key)

    def listen(self, selector: selectors.BaseSelector) -> None:
        selector.register(self._driver.fileno(), selectors.EVENT_READ)

    def has_news(self) -> bool:
        # Notifications that came during a query were read with its answer, so the socket is not readable.
        self._take()
        return bool(self._changed or self._waiting)

    def _take(self) -> None:
        """Read the notifications that have come, without waiting."""
        server = self._driver.pgconn
        try:
            server.consume_input()
            while notify := server.notifies():
                self._note(notify.extra.decode())
        except psycopg.Error as error:
            raise ConnectionLost(f"the connection to PostgreSQL was lost: {error}") from error

    def look(self) -> set[str] | None:
        self._take()
        changed, self._changed = self._changed, set()
        if time.monotonic() < self._look_at:
            return changed
        self._look_at = time.monotonic() + self.interval
        return None

    def waiting(self) -> set[str]:
        waiting, self._waiting = self._waiting, set()
        return waiting

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
