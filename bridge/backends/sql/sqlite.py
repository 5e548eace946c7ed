"""SQLite: a file that several processes of one machine share."""

import os
import random
import selectors
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from bridge.backends.sql.backend import SqlBackend
from bridge.backends.sql.database import Database
from bridge.backends.sql.options import check_interval
from bridge.backends.sql.reading import CHANGED, LATEST
from bridge.errors import ConfigurationError, ConnectionLost
from bridge.fork import reset_in_child
from bridge.state import Retention

POLL_INTERVAL = 0.02

BUSY_SECONDS = 0.1
"""How long SQLite itself waits for a lock: it then blocks every greenlet of the process."""

RACY_NS = 50_000_000
"""A file changed so short before it was looked at may have changed again with the same time (as in git)."""


def open_backend(
    url: str, *, namespace: str, timeout: float, retention: Retention, poll_interval: float = POLL_INTERVAL
) -> SqlBackend:
    """Return the backend for `url`, `sqlite:///file`, which opens nothing yet."""
    check_interval(poll_interval)
    try:
        parsed = make_url(url)
    except SQLAlchemyError as error:
        raise ConfigurationError(f"not a usable sqlite:// URL: {error}") from error
    if parsed.host or not parsed.database or ":memory:" in parsed.database:
        raise ConfigurationError(
            f"name a file, as in sqlite:///relative.db or sqlite:////absolute.db, not {url!r}; "
            "what needs no file is memory://"
        )
    if parsed.query:
        raise ConfigurationError(f"a sqlite:// URL takes no parameters, not {', '.join(parsed.query)}")
    return SqlBackend(SqliteDatabase(url, timeout, poll_interval), namespace, retention)


class _File:
    """What this process knows of a file: who reads it here, and whose turn it is to write."""

    def __init__(self) -> None:
        self.reset_after_fork()
        reset_in_child(self)

    def reset_after_fork(self) -> None:
        self.turn = threading.Lock()  # Held by the one thread of this process that writes.
        self.readers: tuple[Callable[[], None], ...] = ()  # Replaced as a whole.


_files: dict[str, _File] = {}  # Never shrinks: there are few. setdefault is one step.


class SqliteDatabase(Database):
    """A file in WAL mode: readers do not wait for writers."""

    _identity: tuple[int, int] | None
    """Which file it was when it was last prepared."""

    def __init__(self, url: str, timeout: float, poll_interval: float) -> None:
        # With AUTOCOMMIT the driver begins no transaction by itself; `writing` does.
        engine = create_engine(
            url, isolation_level="AUTOCOMMIT", pool_timeout=timeout, connect_args={"timeout": BUSY_SECONDS}
        )
        super().__init__(engine, timeout, poll_interval)
        event.listen(engine, "connect", _prepare_connection)
        self.path = Path(engine.url.database or "").absolute()
        self._file = _files.setdefault(os.path.realpath(self.path), _File())

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        deadline = time.monotonic() + self.timeout
        if not self._file.turn.acquire(timeout=self.timeout):
            raise OperationalError(None, None, sqlite3.OperationalError("database is locked"))
        try:
            with self.engine.connect() as connection:
                _begin(connection, deadline)
                try:
                    yield connection
                    connection.exec_driver_sql("COMMIT")
                except BaseException:
                    with suppress(SQLAlchemyError):
                        connection.exec_driver_sql("ROLLBACK")
                    raise
        finally:
            self._file.turn.release()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            yield connection

    def prepare(self) -> None:
        identity = _identity(self.path)
        if identity is not None and identity == self._identity:
            return
        # Another file has this name now: what is open is the old one.
        self.engine.dispose()
        self._ready = False
        super().prepare()
        self._identity = _identity(self.path)

    def recover(self, error: DBAPIError) -> bool:
        self._identity = None
        return super().recover(error)

    def _reset(self) -> None:
        super()._reset()
        self._identity = None

    def published(self) -> None:
        for wake in self._file.readers:
            wake()

    def open_reading(self) -> Connection:
        connection = self.engine.connect()
        connection.detach()
        return connection

    def watch(self, connection: Connection, wake: Any) -> "FileWatch":
        return FileWatch(self.path, self._file, connection, wake, self.poll_interval)


class FileWatch:
    """Looks at the times of the files, and only if they have changed into the database."""

    def __init__(
        self, path: Path, file: _File, connection: Connection, wake: Callable[[], None], interval: float
    ) -> None:
        self.interval = interval
        self._path = path
        self._wal = path.with_name(path.name + "-wal")
        self._identity = _identity(path)
        self._seen = self._signature()
        self._racy = True
        self._file = file
        self._wake = wake
        self._woken = False
        self._connection = connection
        self._last: int = connection.scalar(LATEST) or 0
        file.readers = (*file.readers, self._published)

    def _published(self) -> None:
        self._woken = True
        self._wake()

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Those who publish in this process call `wake`."""

    def look(self) -> set[str] | None:
        signature = self._signature()
        if signature == self._seen and not self._woken and not self._racy:
            return set()
        self._seen, self._woken = signature, False
        self._racy = time.time_ns() - max(time for _, time in signature) < RACY_NS
        rows = self._connection.execute(CHANGED, {"b_id": self._last}).all()
        self._last = max((last for _, last in rows), default=self._last)
        return {key for key, _ in rows}

    def _signature(self) -> tuple[tuple[int, int], ...]:
        """Return what changes with every commit, without opening a file: closing it would drop its locks."""
        if _identity(self._path) != self._identity:
            raise ConnectionLost(f"{self._path} is no longer the file that was read")
        found = []
        for path in (self._path, self._wal):
            with suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_size, status.st_mtime_ns))
        return tuple(found)

    def close(self) -> None:
        self._file.readers = tuple(wake for wake in self._file.readers if wake != self._published)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _prepare_connection(connection: sqlite3.Connection, _: object) -> None:
    # Commits outlive the process at once and the machine within moments; what is lost then is told.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        try:
            connection.execute(f"PRAGMA {pragma}")
        except sqlite3.OperationalError as error:
            if "readonly" not in str(error):
                raise


def _begin(connection: Connection, deadline: float) -> None:
    """Begin to write. Waits in Python, so that other greenlets go on, and in small steps."""
    while True:
        try:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            return
        except OperationalError as error:
            if "locked" not in str(error.orig) or time.monotonic() >= deadline:
                raise
        time.sleep(random.uniform(0.001, 0.005))
