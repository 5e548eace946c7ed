"""A database: how its transactions begin, and how a reader notices changes."""

import os
import selectors
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, ProgrammingError, SQLAlchemyError

from bridge.backends.sql import schema
from bridge.backends.sql.batch import Written
from bridge.backends.sql.publishing import Hold, Transaction, publish
from bridge.backends.sql.topics import hold_topics
from bridge.errors import BridgeError
from bridge.model.position import Position
from bridge.model.publication import Publication
from bridge.model.state import Retention
from bridge.support.fork import reset_in_child

# The parent's connections in a forked child. Closing or collecting them would disturb the parent.
_inherited: list[object] = []


OnWritten = Callable[[Sequence[Written]], None]


class Watch(Protocol):
    """How one reader notices changes."""

    interval: float
    """Seconds between two calls of `look`, unless a change is notified earlier."""

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Register with `selector` what becomes readable when a change is notified."""
        ...

    def has_news(self) -> bool:
        """Return whether `look` already has something to return, for which `selector` would not wake."""
        ...

    def look(self) -> set[str] | None:
        """Return the keys of topics that may have changed, or `None` if all may have changed."""
        ...

    def waiting(self) -> set[str]:
        """Return the keys of groups for which messages wait, as far as that was notified."""
        ...

    def close(self) -> None: ...


class Database:
    """Any database. Readers poll it."""

    hold: Hold = staticmethod(hold_topics)
    """How a transaction of the bridge locks topics."""
    defers = False
    """Whether a caller's transaction leaves its messages for groups in `bridge_pending`."""

    def __init__(self, engine: Engine, timeout: float, poll_interval: float) -> None:
        self.engine = engine
        self.timeout = timeout
        self.poll_interval = poll_interval
        self.address = engine.url.set(query={}).render_as_string(hide_password=True)
        self._reset()
        reset_in_child(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()  # Guards _ready.
        self._ready = False

    def reset_after_fork(self) -> None:
        _inherited.append(self.engine.pool)
        self.engine.dispose(close=False)
        self._reset()

    def prepare(self) -> None:
        """Create the tables if they are missing. Raises `ConfigurationError` for another schema version."""
        with self._lock:
            if not self._ready:
                schema.check(self.reading, self.writing, self.address)
                self._ready = True

    def migrate(self) -> str:
        """Create or upgrade the tables. Return a sentence about the result."""
        version = schema.migrate(self.writing, self.address)
        return f"the tables in {self.address} are of schema version {version}"

    def recover(self, error: DBAPIError) -> bool:
        """Return whether to try again: the connection was lost, or the tables are missing."""
        missing = isinstance(error, ProgrammingError) or "no such table" in str(error.orig)
        self._ready = self._ready and not missing
        return missing or error.connection_invalidated

    def writing(self) -> AbstractContextManager[Connection]:
        """Return a context with a transaction, which is committed at its end."""
        return self.engine.begin()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection on which each statement is a transaction of its own."""
        with self.engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def publish(
        self,
        namespace: str,
        retention: Retention,
        publications: Sequence[Publication],
        known: Mapping[str, Position],
        held: set[str] | None = None,
    ) -> list[Written]:
        """Publish messages in a transaction. Return what is written.

        Topics that others hold may be left out, if the database can tell. They are then added to `held`.
        """
        with self.writing() as connection:
            written = publish(Transaction(connection, namespace, retention, self.hold), publications, known)
            self.announce(connection, written)
        return written

    def announce(
        self, connection: Connection, written: Sequence[Written], waiting: Sequence[str] = ()
    ) -> None:
        """Notify the readers when the transaction of `connection` is committed, if the database can.

        `waiting` has the keys of groups for which messages wait then.
        """

    def publish_pending(
        self,
        connection: Connection,
        namespace: str,
        retention: Retention,
        groups: Collection[str] | None = None,
    ) -> None:
        """Append to `groups`, or to all, what waits for them. `connection` is for looking only.

        Does nothing if it may not write, or if others hold a group: another process does it, or a later call.
        """

    def published(self, written: Sequence[Written]) -> None:
        """Note that the transaction that wrote these messages is committed."""

    def open_reading(self) -> Connection:
        """Return a new connection for one reader, outside the pool."""
        connection = self.engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        connection.detach()
        return connection

    def watch(self, connection: Connection, on_written: OnWritten) -> Watch:
        """Return how the reader of this connection notices changes.

        `on_written` passes on messages that were written in this process, without a query. Any thread may
        call it, in any order, and not for every message.
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
            raise kind(f"{self.address} {what}: {driver_message(error)}") from error


class Polling:
    """After each interval, every topic may have changed."""

    def __init__(self, interval: float) -> None:
        self.interval = interval

    def listen(self, selector: selectors.BaseSelector) -> None:
        """Do nothing: no change is notified."""

    def has_news(self) -> bool:
        return False

    def look(self) -> set[str] | None:
        return None

    def waiting(self) -> set[str]:
        return set()

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


def driver_message(error: SQLAlchemyError) -> str:
    """Return the message of the driver, without the statement and its values."""
    return str(error.orig if isinstance(error, DBAPIError) else error).strip() or type(error).__name__


def close_unless_inherited(connection: Connection, owner: int) -> None:
    """Close a reader's connection, unless a parent process opened it. `owner` is the id of its process."""
    if os.getpid() != owner:
        _inherited.append(connection)
        return
    with suppress(SQLAlchemyError):  # It may be lost already.
        connection.close()
