"""A database: how its transactions begin, and how a reader learns that something has changed."""

import os
import selectors
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError

from bridge.backends.sql import schema
from bridge.backends.sql.publishing import Written
from bridge.errors import BridgeError
from bridge.support.fork import reset_in_child

_left_to_the_parent: list[object] = []  # in a forked child, where closing them would disturb it


Hand = Callable[[Sequence[Written]], None]


class Watch(Protocol):
    """How one reader learns of changes."""

    interval: float
    """Seconds after which to look, if nothing says earlier that there is something."""

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Have what says earlier that there is something end a wait on `selector`."""
        ...

    def has_news(self) -> bool:
        """Whether `look` has something to return already, of which nothing would end a wait."""
        ...

    def look(self) -> set[str] | None:
        """Return the keys of topics that may have changed, `None`: perhaps all."""
        ...

    def close(self) -> None: ...


class Database:
    """Any database: looked at over and over."""

    def __init__(self, engine: Engine, timeout: float, poll_interval: float) -> None:
        self.engine = engine
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.address = engine.url.set(query={}).render_as_string(hide_password=True)
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        # Guards _ready.
        self._lock = threading.Lock()
        self._ready = False

    def reset_after_fork(self) -> None:
        _left_to_the_parent.append(self.engine.pool)
        self.engine.dispose(close=False)
        self._reset()

    def prepare(self) -> None:
        """See that the tables are there and ours. Raises `ConfigurationError`."""
        with self._lock:
            if not self._ready:
                schema.check(self.reading, self.writing, self.address)
                self._ready = True

    def migrate(self) -> str:
        """Make the tables or bring them up to date; return what there is now, in words."""
        version = schema.migrate(self.writing, self.address)
        return f"the tables in {self.address} are of schema version {version}"

    def recover(self, error: DBAPIError) -> bool:
        """Return whether to try again: the connection was lost, or the tables are gone."""
        missing = isinstance(error, ProgrammingError) or "no such table" in str(error.orig)
        self._ready = self._ready and not missing
        return missing or error.connection_invalidated

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction, committed at its end."""
        return self.engine.begin()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection on which every statement is on its own."""
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def announce(self, connection: Connection, written: Sequence[Written]) -> None:
        """Within the transaction: have its commit wake the readers, where the database can."""

    def published(self, written: Sequence[Written]) -> None:
        """The transaction that wrote these has been committed."""

    def open_reading(self) -> Connection:
        """Return a connection of a reader's own."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        return connection

    def watch(self, connection: Connection, hand: Hand) -> Watch:
        """Return how the reader of this connection learns of changes.

        `hand` gives it what was written in this process, without the way through the database. It may be
        called from any thread, in any order, and not for every message.
        """
        return Polling(self.poll_interval)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def errors(self, kind: type[BridgeError], what: str) -> Iterator[None]:
        """Translate the driver's errors."""
        try:
            yield
        except SQLAlchemyError as error:
            raise kind(f"{self.address} {what}: {said_by(error)}") from error


class Polling:
    """Every topic may have changed whenever the interval is over."""

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Nothing says so earlier."""

    def has_news(self) -> bool:
        return False

    def look(self) -> set[str] | None:
        return None

    def close(self) -> None:
        """It holds nothing."""


def said_by(error: SQLAlchemyError) -> str:
    """Return what the driver said, without the statement and its values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__


def let_go(connection: Connection, owner: int) -> None:
    """Close a reader's connection, unless it was opened in the process that this one was forked from."""
    if os.getpid() != owner:
        _left_to_the_parent.append(connection)
        return
    with suppress(SQLAlchemyError):  # it was lost before
        connection.close()
