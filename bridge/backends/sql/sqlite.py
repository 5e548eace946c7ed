"""SQLite: a file that the processes of one machine share."""

import random
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.batch import Written
from bridge.backends.sql.database import Database, OnWritten
from bridge.backends.sql.file import FileWatch, file_of, identity_of
from bridge.backends.sql.options import parse
from bridge.backends.sql.topics import read_topics
from bridge.errors import ConfigurationError
from bridge.model.state import Retention
from bridge.support.validate import check_positive

POLL_INTERVAL = 0.02

BUSY_SECONDS = 0.1
"""Seconds that SQLite itself waits for a lock. Meanwhile every greenlet of the process is blocked."""


def open_backend(
    url: str, *, namespace: str, timeout: float, retention: Retention, poll_interval: float = POLL_INTERVAL
) -> SqlBackend:
    """Return the backend for `url`, `sqlite:///file`, which opens nothing yet."""
    check_positive(unit="seconds", poll_interval=poll_interval)
    parsed = parse(url, "sqlite", "sqlite:///relative.db or sqlite:////absolute.db")
    if parsed.host or parsed.username or not parsed.database or ":memory:" in parsed.database:
        raise ConfigurationError(
            "name a file after three slashes, as in sqlite:///relative.db or sqlite:////absolute.db; "
            "memory:// needs no file"
        )
    if parsed.query:
        raise ConfigurationError(f"a sqlite:// URL takes no parameters, not {', '.join(parsed.query)}")
    return SqlBackend(SqliteDatabase(url, timeout, poll_interval), namespace, retention)


class SqliteDatabase(Database):
    """A file in WAL mode: readers do not wait for writers."""

    hold = staticmethod(read_topics)

    _identity: tuple[int, int] | None
    """The device and the inode of the file when it was last prepared."""

    def __init__(self, url: str, timeout: float, poll_interval: float) -> None:
        # With AUTOCOMMIT the driver begins no transaction by itself; `writing` does.
        engine = create_engine(
            url, isolation_level="AUTOCOMMIT", pool_timeout=timeout, connect_args={"timeout": BUSY_SECONDS}
        )
        super().__init__(engine, timeout, poll_interval)
        event.listen(engine, "connect", _prepare_connection)
        self.path = Path(engine.url.database or "").absolute()
        self._file = file_of(self.path)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        deadline = time.monotonic() + self.timeout
        if not self._file.write_lock.acquire(timeout=self.timeout):
            raise OperationalError(None, None, sqlite3.OperationalError("database is locked"))
        try:
            with self.engine.connect() as connection:
                # SQLAlchemy declares a connection of any driver. The driver of this class is sqlite3.
                driver = cast(sqlite3.Connection, connection.connection.dbapi_connection)
                _begin(driver, deadline)
                try:
                    yield connection
                    _run(driver, "COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):
                        driver.execute("ROLLBACK")
                    raise
        finally:
            self._file.write_lock.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def prepare(self) -> None:
        identity = identity_of(self.path)
        if identity is not None and identity == self._identity:
            return
        # Another file has this name now. The open connections are to the old one.
        self.engine.dispose()
        self._ready = False
        super().prepare()
        self._identity = identity_of(self.path)

    def recover(self, error: DBAPIError) -> bool:
        self._identity = None
        return super().recover(error)

    def _reset(self) -> None:
        super()._reset()
        self._identity = None

    def published(self, written: Sequence[Written]) -> None:
        for on_written in self._file.readers:
            on_written(written)

    def open_reading(self) -> Connection:
        connection = self.engine.connect()
        connection.detach()
        return connection

    def watch(self, connection: Connection, on_written: OnWritten) -> FileWatch:
        return FileWatch(self.path, self._file, connection, on_written, self.poll_interval)


def _prepare_connection(connection: sqlite3.Connection, _: object) -> None:
    # A commit survives the end of the process at once, and a crash of the machine after a moment. Readers
    # notice a loss.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise


def _begin(driver: sqlite3.Connection, deadline: float) -> None:
    """Begin a transaction that writes. Waits in Python, in small steps, so that other greenlets run."""
    while True:
        try:
            _run(driver, "BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0.001, 0.005))


def _run(driver: sqlite3.Connection, statement: str) -> None:
    """Run a statement without SQLAlchemy, whose overhead is larger than the statement."""
    try:
        driver.execute(statement)
    except sqlite3.OperationalError as error:
        raise OperationalError(statement, None, error) from error
